"""The kinds of images that can be read in any order: class folders, labels in a file, the digits."""

import abc
import hashlib
import os
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import BinaryIO

import numpy as np
from PIL import Image

from plainvision.data.archives import Listing, names_of, open_store
from plainvision.data.class_folders import (
    USUAL_NAMES,
    MissingSplit,
    find_classes,
    has_folder,
    has_split_beside,
    in_order,
    told,
    usual_split,
)
from plainvision.data.decoding import EXTENSIONS, decode, is_image
from plainvision.data.drawn_split import DrawnSplit
from plainvision.data.labels import LabelTable, read_labels
from plainvision.data.locations import Role, location, two_answers
from plainvision.data.rows import Row
from plainvision.data.settings import Data

# Bytes of a file that are held at once.
_MOST_CONTENT = 2**28


class Images(abc.ABC):
    """Labelled images, read by index in any process.

    ``labels`` (N,) int64 are indices into ``classes``; of images with sets of labels they are (N, K) bool.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    split: str = ""
    """What the split is called; "" is a root that has none."""
    left_out: tuple[str, ...] = ()
    """A `NAME (why)` for what looks like an image and is not among them."""
    others: Mapping[str, int] = MappingProxyType({})
    """How many files beside them do not look like images, by the ending of their names."""
    drawn: DrawnSplit | None = None
    """The split that these are a part of, where it was drawn."""
    beside: int = 0
    """How many images lie beside the class folders, and so in no class."""

    @abc.abstractmethod
    def name(self, index: int) -> str:
        """Return what the image is called in messages."""

    @abc.abstractmethod
    def read(self, index: int, mode: str) -> Image.Image:
        """Return the decoded image, in Pillow's ``mode``; a damaged one may raise anything."""

    def key(self, index: int) -> str:
        """Return what the image is called among those of its class, wherever its root lies."""
        return self.name(index)

    def content(self, index: int) -> bytes | None:
        """Return the bytes of the image's file; None where it has none of its own, or more than memory should hold."""
        return None

    def row(self, index: int) -> Row:
        """Return the image, not yet decoded, with its name and its label."""
        label = self.labels[index]
        own = label.astype(np.float32) if label.ndim else int(label)
        return Row(partial(self.read, index), self.name(index), own)

    def fingerprint(self) -> str:
        """Return the hash of all names and labels, which changes with the images."""
        labels = (
            self.labels if self.labels.ndim == 1 else (row.tobytes().hex() for row in np.packbits(self.labels, axis=1))
        )
        return fingerprint(map(self.name, range(len(self.labels))), labels)

    def counts(self) -> np.ndarray:
        """Return (K,) how many images each class has."""
        return self.labels.sum(0) if self.labels.ndim == 2 else np.bincount(self.labels, minlength=len(self.classes))

    def rename(self, classes: tuple[str, ...], places: np.ndarray) -> None:
        """Let labels be indices into other ``classes``, among which ``places`` (K,) are those of the present ones."""
        if self.labels.ndim == 1:
            self.labels = places[self.labels]
        else:
            sets = np.zeros((len(self.labels), len(classes)), bool)
            sets[:, places] = self.labels
            self.labels = sets
        self.classes = classes


def fingerprint(names: Iterable[str], labels: Iterable[int | str]) -> str:
    """Return the SHA-256 of names and their labels, in their order."""
    digest = hashlib.sha256()
    for name, label in zip(names, labels, strict=True):
        digest.update(f"{label} {name}\0".encode(errors="surrogatepass"))  # a file's name may be no UTF-8
    return digest.hexdigest()


class Chosen(Images):
    """Those of ``images`` with the indices ``chosen``."""

    def __init__(self, images: Images, chosen: np.ndarray) -> None:
        self._images, self._chosen = images, chosen
        self.classes, self.labels = images.classes, images.labels[chosen]
        self.split, self.left_out, self.others = images.split, images.left_out, images.others
        self.beside, self.drawn = images.beside, images.drawn

    def name(self, index: int) -> str:
        return self._images.name(int(self._chosen[index]))

    def key(self, index: int) -> str:
        return self._images.key(int(self._chosen[index]))

    def content(self, index: int) -> bytes | None:
        return self._images.content(int(self._chosen[index]))

    def read(self, index: int, mode: str) -> Image.Image:
        return self._images.read(int(self._chosen[index]), mode)


class Files(Images):
    """Images in class folders, or in an archive of such."""

    def __init__(self, data: Data, role: Role) -> None:
        root, split = location(data, role)
        draws = data.draws
        self._store = open_store(root, "" if draws else split)
        listing, self._store.listing = self._store.listing, Listing()  # it need not go to each process that reads
        # Class folders without a split are taken only where training and validation stay apart.
        plain = draws or data.validation_root is not None
        plain = plain or (role == "validation" and not has_folder(listing, data.train_split))
        where, option = repr(root), f"data.{role}_split"
        try:
            found = find_classes(listing, split, where=where, option=option, plain=plain)
        except MissingSplit:
            usual = usual_split(listing, split, data.train_split, where) if role == "validation" else None
            if usual is None:
                raise
            split, found = usual, find_classes(listing, usual, where=where, option=option, plain=False)
        other = data.validation_split
        if data.validation_share is not None and other != data.train_split:
            for name in USUAL_NAMES if other in USUAL_NAMES else (other,):
                if has_split_beside(listing, name, found):
                    raise ValueError(two_answers(data, f"{root!r}, in its folder {name!r},", "that folder"))
        if found.left_out:
            text = told(found.left_out, where, split)
            if data.corrupt == "stop":
                raise ValueError(text)
            warnings.warn(text, stacklevel=2)
        classes, self._stored = found.classes, found.stored
        self.classes = tuple(classes)
        self.labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in classes.values()])
        self.split, self.beside, self.others = split if found.is_split else "", found.beside, found.others
        self.left_out = tuple(found.left_out)
        self._paths = [path for paths in classes.values() for path in paths]
        self._max_pixels, self._base = data.max_pixels, found.base

    def name(self, index: int) -> str:
        return self._store.name(self._paths[index])

    def key(self, index: int) -> str:
        below = self._paths[index].removeprefix(f"{self._base}/" if self._base else "")
        return unicodedata.normalize("NFC", below.partition("/")[2])

    def read(self, index: int, mode: str) -> Image.Image:
        return decode(self._open(index), mode, self._max_pixels)

    def content(self, index: int) -> bytes | None:
        with self._open(index) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            return file.read(size) if size <= _MOST_CONTENT else None

    def _open(self, index: int) -> BinaryIO:
        path = self._paths[index]
        return self._store.open(self._stored.get(path, path), self._max_pixels)


class Labelled(Files):
    """Images with their classes in a .csv, in its order; ``names`` are the labels that have a column each."""

    def __init__(self, data: Data, role: Role, read: Callable[[str], LabelTable] = read_labels) -> None:
        root, split = location(data, role)
        path = str(data.labels)
        if root == "digits" or root.startswith("hfds/"):
            raise ValueError(f"data.labels={path!r} and {root!r}, which has labels of its own. Drop data.labels.")
        if data.validation_root is not None:
            raise ValueError(
                f"data.labels={path!r} names images below one root, and data.validation_root is a second one. Drop "
                "data.validation_root, and write into a column split which images validate."
            )
        table = read(path)
        self.names, has_splits = table.names, table.has_splits
        splits = {row.split for row in table.rows}
        if not has_splits and role == "train" and not data.draws:
            raise MissingSplit(
                f"{path} does not say which images validate. Add a column split with {data.train_split!r} and "
                f"{data.validation_split!r}, or draw them with data.validation_share=0.15."
            )
        if data.validation_share is not None and data.validation_split in splits - {data.train_split}:
            raise ValueError(two_answers(data, f"{path}, as split {data.validation_split!r},", "the column split"))
        if has_splits and split not in splits:
            raise MissingSplit(
                f"{path} has no line of the split {split!r}; there are {names_of(sorted(splits))}. Name the right one "
                f"in data.{role}_split."
            )
        self._store = open_store(root, "")
        listing, self._store.listing = self._store.listing, Listing()
        files = {unicodedata.normalize("NFC", file): file for file in listing.files}
        for link, target in listing.links.items():
            if target in listing.files:
                files[unicodedata.normalize("NFC", link)] = target
        own = [row for row in table.rows if row.split == split or not has_splits]
        for row in own:
            if row.image not in files or not is_image(row.image):
                raise ValueError(_no_such_image(f"{path}, line {row.line}", root, row.image, files))
        self.classes = tuple(in_order({row.label for row in own}))
        index = {name: number for number, name in enumerate(self.classes)}
        self.labels = np.array([index[row.label] for row in own], dtype=np.int64)
        self._paths, self._stored = [files[row.image] for row in own], {}
        self._keys = [row.image for row in own]
        self.split = split if has_splits else ""
        self._max_pixels = data.max_pixels

    def key(self, index: int) -> str:
        return self._keys[index]


def _no_such_image(where: str, root: str, image: str, files: Mapping[str, str]) -> str:
    if image in files:
        return f"{where}: {image!r} is of a kind that is not read. Convert it to one of {', '.join(EXTENSIONS)}."
    endings = [image + ending for ending in EXTENSIONS if image + ending in files]
    hint = f" Did you mean {endings[0]!r}?" if endings else " Correct the path, or remove the line."
    return f"{where}: there is no image {image!r} below {root!r}.{hint}"


class Digits(Images):
    """scikit-learn's 1,797 handwritten digits, grey and 8x8: 1,437 to train with and 360 to validate with."""

    def __init__(self, data: Data, role: Role) -> None:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        if data.validation_share is not None:
            raise ValueError(two_answers(data, "'digits'", "data.root"))
        digits = load_digits()
        every = np.arange(len(digits.target))
        train, validation = train_test_split(every, test_size=360, random_state=0, stratify=digits.target)
        trains = role == "train" or data.validation_split == data.train_split
        self._chosen = np.sort(train if trains else validation)
        self._role = self.split = "train" if trains else "validation"
        self._pixels = np.round(digits.images[self._chosen] * (255 / 16)).astype(np.uint8)
        self.classes = tuple(str(digit) for digit in range(10))
        self.labels = digits.target[self._chosen].astype(np.int64)

    def name(self, index: int) -> str:
        return f"digits/{self._role}/{self._chosen[index]:04d}"

    def read(self, index: int, mode: str) -> Image.Image:
        return Image.fromarray(self._pixels[index]).convert(mode)
