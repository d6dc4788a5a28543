"""A survey of images before training: what there is of each class, what cannot be read, what is there twice.

Images are decoded one at a time, as every command does it. Of each image, its size and two hashes are kept.
"""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
from PIL import Image

from plainvision.data.class_folders import MissingSplit
from plainvision.data.decoding import decode, reason
from plainvision.data.image_kinds import Images
from plainvision.data.images import open_images
from plainvision.data.locations import Role
from plainvision.data.rows import evaluation_transform
from plainvision.data.settings import Data
from plainvision.data.streams import is_stream
from plainvision.data.thumbnails import thumbnail

# Bounds of what is kept by name or as a picture, whatever the number of images.
MOST_NAMES = 100
MOST_COPIES = 200
MOST_OF_ONE = 6
MOST_PICTURED = 40
PICTURES_OF_A_CLASS = 8
_ROLES: tuple[Role, Role] = ("train", "validation")


@dataclass(frozen=True)
class Range:
    """The least, the median and the largest of some numbers."""

    least: float
    median: float
    largest: float


@dataclass(frozen=True)
class SplitSurvey:
    """What is in one split."""

    name: str
    """What the split is called; `all` where the root has no splits."""
    per_class: dict[str, int]
    """How many images each class has, those that cannot be read too."""
    read: int
    """How many images could be read; what follows is about them."""
    width: Range | None
    """In pixels, as a viewer shows the image; None where no image could be read."""
    height: Range | None
    """In pixels."""
    aspect: Range | None
    """Width by height."""
    grey: int
    """How many images are grey: their channels are equal in every pixel."""
    mean: tuple[float, ...]
    """Of pixels in [0, 1] per channel, after the resizing and the centre crop of evaluation."""
    std: tuple[float, ...]
    """The same of the standard deviation."""
    unreadable: tuple[str, ...]
    """The first images that cannot be read, each `NAME (reason)`."""
    unreadable_count: int
    """How many cannot be read."""
    left_out: tuple[str, ...]
    """The first files that look like images and are not used, each `NAME (reason)`."""
    left_out_count: int
    """How many these are."""
    others: dict[str, int]
    """How many files do not look like images, by the ending of their names."""
    beside: int
    """How many images lie beside the class folders, and so in no class."""

    @property
    def images(self) -> int:
        """How many images there are."""
        return sum(self.per_class.values())


@dataclass(frozen=True)
class Member:
    """One of several images with equal pixels."""

    split: str
    label: str
    name: str


@dataclass(frozen=True)
class Copies:
    """Images whose pixels are equal."""

    members: tuple[Member, ...]
    """The first of them; of several splits, some of each."""
    count: int
    """How many there are."""
    across: bool
    """Whether they are in several splits."""
    conflicting: bool
    """Whether they are in several classes."""
    same_file: bool
    """Whether their files are equal, byte for byte; others were saved again."""


@dataclass(frozen=True)
class Survey:
    """What is in the splits of a root."""

    splits: tuple[SplitSurvey, ...]
    """The training split, then the validation split, as far as they are there."""
    missing: tuple[str, ...]
    """Why a split is not there."""
    leaked: int
    """How many validation images are training images too."""
    repeated: int
    """How many images repeat another one of their own split."""
    conflicting: int
    """How many images are in several classes, as far as their pixels tell."""
    copies: tuple[Copies, ...]
    """The first groups of equal images: those across splits, then those across classes, then the others."""
    copies_count: int
    """How many groups there are."""
    pictures: dict[str, tuple[bytes, ...]]
    """Some small pictures of each of the first classes, as PNG or JPEG."""


def survey_images(data: Data, progress: Callable[[int, int], object] | None = None) -> Survey:
    """Return what is in the training and the validation split of ``data``; one of them may be missing.

    ``progress`` is told how many images have been read, and of how many.

    Raises:
        FileNotFoundError, ValueError: there are no images, or they are a stream, which cannot be read at random.
    """
    for root in (data.root, data.validation_root or data.root):
        if is_stream(root):
            raise ValueError(
                f"{root!r} is a stream, which is read front to back and names no files: a survey compares the images "
                "of all splits. Give a folder of class folders, a .zip or .tar of one, or hfds/NAME."
            )
    data = replace(data, corrupt="skip", mean=(0.0,) * data.channels, std=(1.0,) * data.channels)
    found, missing = _open(data)
    classes = next(iter(found.values())).classes
    pictured = classes[:MOST_PICTURED]
    pictures: dict[str, list[bytes]] = {name: [] for name in pictured}
    total = sum(len(images.labels) for images in found.values())
    scans: list[_Scan] = []
    done = 0
    for images in found.values():
        scans.append(scan := _Scan(images, data, {} if scans else pictures))
        for index in range(len(images.labels)):
            scan.look_at(index)
            done += 1
            if progress is not None:
                progress(done, total)
    surveys = tuple(scan.survey(_called(images)) for scan, images in zip(scans, found.values(), strict=True))
    return Survey(surveys, missing, *_compared(scans, found), {name: tuple(some) for name, some in pictures.items()})


def first_line(split: str, classes: Sequence[str], labels: np.ndarray) -> str:
    """Return in words how many images a split has of each class, which takes no decoding."""
    counts = np.bincount(labels, minlength=len(classes))
    there = np.flatnonzero(counts)
    text = f"{split}: {len(labels)} images of {len(there)} classes"
    if len(there) == 0:
        return text
    least, most = int(there[counts[there].argmin()]), int(counts.argmax())
    if counts[least] == counts[most]:
        return f"{text}, {counts[most]} of each"
    return f"{text}, {counts[least]} ({classes[least]}) to {counts[most]} ({classes[most]}) of each"


def _open(data: Data) -> tuple[dict[str, Images], tuple[str, ...]]:
    """Return the images of each split that is there, and why another is not."""
    found: dict[str, Images] = {}
    missing: list[MissingSplit] = []
    for role in _ROLES:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what is left out is in the survey
                found[role] = open_images(data, role)
        except MissingSplit as error:
            missing.append(error)
    if not found:
        raise missing[0]
    if [images.split for images in found.values()] == [""]:
        return found, ()  # class folders without splits
    return found, tuple(map(str, missing))


def _called(images: Images) -> str:
    return images.split or "all"


class _Scan:
    """What is kept of the images of one split, read one after another; of the arrays, one row per image."""

    def __init__(self, images: Images, data: Data, pictures: dict[str, list[bytes]]) -> None:
        count = len(images.labels)
        self.images, self._data = images, data
        self.read = np.zeros(count, bool)
        self.pixels, self.files = np.zeros((count, 2), np.uint64), np.zeros((count, 2), np.uint64)
        self._sizes, self._grey = np.zeros((count, 2), np.int32), 0
        self._sums = np.zeros((2, data.channels))
        self._unreadable: list[str] = []
        self._unreadable_count = 0
        self._pictures, self._pictured = pictures, _pictured(images, len(pictures))
        self._transform = evaluation_transform(data)

    def look_at(self, index: int) -> None:
        """Read an image, and keep what the survey needs of it."""
        try:
            picture = self._picture(index)
        except Exception as error:  # a damaged file makes decoders raise nearly anything
            self._unreadable_count += 1
            if self._unreadable_count <= MOST_NAMES:
                self._unreadable.append(f"{self.images.name(index)} ({reason(error)})")
            return
        values = np.asarray(picture)
        self.read[index] = True
        self._sizes[index] = picture.size
        self._grey += bool((values == values[..., :1]).all())
        self.pixels[index] = _hash(f"{picture.size} ".encode() + values.tobytes())
        seen = self._transform(picture.convert("L") if self._data.channels == 1 else picture).double()
        self._sums += np.stack([seen.mean(dim=(1, 2)).numpy(), seen.square().mean(dim=(1, 2)).numpy()])
        if index in self._pictured:
            self._pictures[self.images.classes[self.images.labels[index]]].append(thumbnail(picture))

    def survey(self, name: str) -> SplitSurvey:
        """Return what was seen."""
        images, read = self.images, int(self.read.sum())
        counts = np.bincount(images.labels, minlength=len(images.classes))
        width, height = self._sizes[self.read].T
        mean, squares = self._sums / max(1, read)
        return SplitSurvey(
            name=name,
            per_class={images.classes[i]: int(count) for i, count in enumerate(counts)},
            read=read,
            width=_range(width),
            height=_range(height),
            aspect=_range(width / np.maximum(1, height)),
            grey=self._grey,
            mean=tuple(mean.tolist()),
            std=tuple(np.sqrt(np.maximum(0, squares - mean**2)).tolist()),
            unreadable=tuple(self._unreadable),
            unreadable_count=self._unreadable_count,
            left_out=images.left_out[:MOST_NAMES],
            left_out_count=len(images.left_out),
            others=dict(images.others),
            beside=images.beside,
        )

    def _picture(self, index: int) -> Image.Image:
        content = self.images.content(index)
        if content is None:
            return self.images.read(index, "RGB")
        self.files[index] = _hash(content)
        return decode(BytesIO(content), "RGB", self._data.max_pixels)


def _hash(content: bytes) -> np.ndarray:
    return np.frombuffer(hashlib.blake2b(content, digest_size=16).digest(), np.uint64)


def _range(values: np.ndarray) -> Range | None:
    return Range(*map(float, (values.min(), np.median(values), values.max()))) if len(values) else None


def _pictured(images: Images, classes: int) -> set[int]:
    """Return which images of the first ``classes`` are pictured: some of each, from its first to its last."""
    chosen: set[int] = set()
    for label in range(classes):
        own = np.flatnonzero(images.labels == label)
        if len(own):
            places = np.linspace(0, len(own) - 1, min(PICTURES_OF_A_CLASS, len(own))).round().astype(int)
            chosen |= set(own[places].tolist())
    return chosen


def _compared(scans: list[_Scan], found: dict[str, Images]) -> tuple[int, int, int, tuple[Copies, ...], int]:
    """Return the leaked, the repeated and the conflicting images, the first groups of equal ones, and their number."""
    splits = np.concatenate([np.full(len(scan.read), place) for place, scan in enumerate(scans)])
    indices = np.concatenate([np.arange(len(scan.read)) for scan in scans])
    read = np.concatenate([scan.read for scan in scans])
    pixels, files = (np.concatenate(both)[read] for both in zip(*((s.pixels, s.files) for s in scans), strict=True))
    splits, indices = splits[read], indices[read]
    sources = list(found.values())
    _, group, counts = np.unique(pixels, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(group.reshape(-1), kind="stable")  # in a group: by split, and there in the images' order
    starts = np.concatenate([[0], np.cumsum(counts)])
    leaked = repeated = conflicting = 0
    copies: list[tuple[tuple[bool, bool, int], np.ndarray, bool]] = []
    for number in np.flatnonzero(counts > 1):
        rows = order[starts[number] : starts[number + 1]]
        own = splits[rows]
        labels = {sources[split].classes[sources[split].labels[i]] for split, i in zip(own, indices[rows], strict=True)}
        across = own[0] != own[-1]
        leaked += int((own == 1).sum()) if across else 0
        repeated += len(rows) - len(set(own.tolist()))
        conflicting += len(rows) if len(labels) > 1 else 0
        same_file = bool((files[rows] == files[rows[0]]).all() and files[rows[0]].any())
        copies.append(((not across, len(labels) < 2, int(rows[0])), rows, same_file))
    copies.sort(key=lambda one: one[0])
    told = []
    for (apart, alike, _), rows, same_file in copies[:MOST_COPIES]:
        own = splits[rows]
        # Of each split the first ones, so that a leak shows both its ends.
        shown = np.concatenate([rows[own == split][: MOST_OF_ONE // len(set(own))] for split in sorted(set(own))])
        members = []
        for split, index in zip(splits[shown], indices[shown], strict=True):
            images = sources[split]
            members.append(Member(_called(images), images.classes[images.labels[index]], images.name(int(index))))
        told.append(Copies(tuple(members), len(rows), not apart, not alike, same_file))
    return leaked, repeated, conflicting, tuple(told), len(copies)
