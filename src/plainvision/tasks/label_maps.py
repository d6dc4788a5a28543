"""Images with a label for each pixel, as ADE20k's folders have them: pictures in one folder, PNGs in another."""

import posixpath
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors

from plainvision.data.archives import names_of
from plainvision.data.locations import Role
from plainvision.data.settings import Data
from plainvision.tasks.scenes import SceneRow, Scenes
from plainvision.tasks.transforms import Target

IGNORED = 255
"""The label of pixels that count nowhere, in targets."""
_IMAGES, _LABELS = ("images", "img", "image"), ("annotations", "labels", "masks", "label", "mask", "ann_dir")
_NAMES = "classes.txt"


class LabelScenes(Scenes):
    """Images with a map of ``labels`` (H, W): a class from 0 for each pixel, or `IGNORED`.

    Args:
        zero_ignored: 0 is no class, and 1 the first, as in ADE20k.
        num_classes: how many there are, where no ``classes.txt`` at the root names them.
        classes: what a network knows already.

    Raises:
        FileNotFoundError, ValueError: there are no such folders, or nobody says the classes.
    """

    def __init__(
        self,
        data: Data,
        role: Role,
        *,
        zero_ignored: bool,
        num_classes: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__(data, role)
        self._first = 1 if zero_ignored else 0
        self.classes = tuple(classes) if classes is not None else self._named(num_classes)
        self.pairs, self.left_out = self._paired()

    def __len__(self) -> int:
        return len(self.pairs)

    def row(self, index: int) -> SceneRow:
        image, labels = self.pairs[index]
        return SceneRow(partial(self._read, image, labels), self.store.name(image))

    def signs(self) -> list[str]:
        return [f"{image} {labels}" for image, labels in self.pairs]

    def _named(self, num_classes: int | None) -> tuple[str, ...]:
        tops = ["", *sorted({f"{folder}/" for folder in self.store.listing.folders if folder and "/" not in folder})]
        for top in tops:
            try:
                with self.store.open(top + _NAMES, 2**18) as file:
                    text = file.read(2**20).decode(errors="replace")
            except (KeyError, OSError):
                continue
            names = tuple(line.strip() for line in text.splitlines() if line.strip())
            if num_classes not in (None, len(names)):
                raise ValueError(
                    f"num_classes={num_classes}, and {_NAMES} of {self.where} names {len(names)}. Drop num_classes."
                )
            if len(set(names)) < len(names) or len(names) > IGNORED:
                raise ValueError(f"{_NAMES} of {self.where} must name up to {IGNORED} classes, each once.")
            return names
        if num_classes is None:
            raise ValueError(
                f"nobody says which classes {self.where} has. Give their number with --num-classes, or their names in "
                f"a file {_NAMES} at the root, one a line."
            )
        return tuple(map(str, range(self._first, num_classes + self._first)))

    def _paired(self) -> tuple[list[tuple[str, str]], dict[str, int]]:
        """Return the images that have labels, and what was left out."""
        files = self.store.listing.files
        folders = {posixpath.dirname(path) for path in files}
        pictures = self._folder(folders, _IMAGES)
        maps = self._folder(folders, _LABELS)
        if pictures is None or maps is None:
            missing = "images" if pictures is None else "labels"
            raise FileNotFoundError(
                f"there are no {missing} of the split {self.split!r} in {self.where}: no folder such as "
                f"{_IMAGES[0]}/{self.split} beside {_LABELS[0]}/{self.split}, or {self.split}/{_IMAGES[0]} beside "
                f"{self.split}/{_LABELS[1]}. Name the split with data.train_split and data.validation_split; there are "
                f"{names_of(sorted(folders)) or 'no folders'}."
            )
        labels = {_stem(path, maps): path for path in files if path.startswith(f"{maps}/") and path.endswith(".png")}
        images = sorted(path for path in files if path.startswith(f"{pictures}/"))
        stems = [_stem(path, pictures) for path in images]
        if twice := sorted(stem for stem, count in Counter(stems).items() if count > 1):
            raise ValueError(
                f"two images of {self.where} are called {twice[0]!r}, and one label map cannot belong to both. Remove "
                "or rename one."
            )
        pairs = [(path, labels[stem]) for path, stem in zip(images, stems, strict=True) if stem in labels]
        if not pairs:
            raise ValueError(
                f"no image of {self.where} has labels: {maps} needs a PNG called like each image of {pictures}."
            )
        left_out = {"an image without labels": len(images) - len(pairs), "labels without an image": 0}
        left_out["labels without an image"] = len(labels.keys() - set(stems))
        return pairs, {why: count for why, count in left_out.items() if count}

    def _folder(self, folders: set[str], kinds: Sequence[str]) -> str | None:
        for kind in kinds:
            for wanted in (f"{kind}/{self.split}", f"{self.split}/{kind}"):
                found = sorted(f for f in folders if f == wanted or f.endswith(f"/{wanted}"))
                if found:
                    return found[0]
        return None

    def _read(self, image: str, labels: str) -> tuple[Image.Image, Target]:
        picture = self.picture(image)
        values = label_map(self.store.open(labels, self.max_pixels), self.max_pixels)
        if values.shape != (picture.height, picture.width):
            raise ValueError(
                f"its label map has {values.shape[1]} x {values.shape[0]} pixels, and it {picture.width} x "
                f"{picture.height}"
            )
        return picture, {"labels": tv_tensors.Mask(torch.from_numpy(self.classes_of(values)))}

    def classes_of(self, values: np.ndarray) -> np.ndarray:
        """Return the classes (H, W), int64, of a label map's values, or raise a ValueError where there is no such."""
        found = values.astype(np.int64) - self._first
        found[(values == IGNORED) | (found < 0)] = IGNORED
        beyond = (found >= len(self.classes)) & (found != IGNORED)
        if beyond.any():
            most = int(values[beyond].max())
            raise ValueError(f"its label map has the value {most}, and there are {len(self.classes)} classes")
        return found


def label_map(file: BinaryIO, max_pixels: int) -> np.ndarray:
    """Return the numbers (H, W) in a PNG of one channel, whose palette is passed over.

    Raises:
        ValueError: it has colours, or more than ``max_pixels``.
    """
    with file, Image.open(file, formats=("PNG",)) as image:
        if image.width * image.height > max_pixels:
            raise ValueError(f"{image.width} x {image.height} pixels are more than data.max_pixels={max_pixels}")
        if image.mode not in ("L", "P", "I;16", "I", "1"):
            raise ValueError("its label map is a picture in colours; it must have one number a pixel")
        return np.asarray(image, dtype=np.int64)


def _stem(path: str, folder: str) -> str:
    return posixpath.splitext(path.removeprefix(f"{folder}/"))[0]
