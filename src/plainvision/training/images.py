"""Where images come from that can be read in any order: class folders, Hugging Face data sets, the digits."""

import abc
import hashlib
import importlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import Image

from plainvision.training.class_folders import Store, find_classes, has_folder, open_store
from plainvision.training.recipe import Data

Role = Literal["train", "validation"]


class Images(abc.ABC):
    """Labelled images, read by index in any process; ``labels`` (N,) int64 are indices into ``classes``."""

    classes: tuple[str, ...]
    labels: np.ndarray

    @abc.abstractmethod
    def name(self, index: int) -> str:
        """Return what the image is called in messages."""

    @abc.abstractmethod
    def read(self, index: int, mode: str) -> Image.Image:
        """Return the decoded image, in Pillow's ``mode``; a damaged one may raise anything."""

    def fingerprint(self) -> str:
        """Return the hash of all names and labels, which changes with the images."""
        return fingerprint(map(self.name, range(len(self.labels))), self.labels)


def fingerprint(names: Iterable[str], labels: Iterable[int]) -> str:
    """Return the SHA-256 of names and their labels, in their order."""
    digest = hashlib.sha256()
    for name, label in zip(names, labels, strict=True):
        digest.update(f"{label} {name}\0".encode(errors="surrogatepass"))  # a file's name may be no UTF-8
    return digest.hexdigest()


def open_images(data: Data, role: Role) -> Images:
    """Return the training or the validation images of ``data``, of each class as many as ``data`` asks for.

    Raises:
        FileNotFoundError: there is nothing at the root.
        ValueError: the root does not hold that split, or not in class folders.
        ImportError: the package that reads such a root is not installed.
    """
    images = _open(data, role)
    most = data.train_per_class if role == "train" else data.validation_per_class
    return images if most is None else _First(images, most)


def _open(data: Data, role: Role) -> Images:
    root, split = location(data, role)
    if root == "digits":
        return _Digits(role)
    if root.startswith("hfds/"):
        return _HuggingFace(root, split, option=f"data.{role}_split")
    return _Files(data, role)


def location(data: Data, role: Role) -> tuple[str, str]:
    """Return the root and the split of the training or the validation images."""
    if role == "train":
        return data.root, data.train_split
    return data.validation_root or data.root, data.validation_split


def class_lookup(own: tuple[str, ...], classes: tuple[str, ...], data: Data) -> np.ndarray:
    """Return, for each of the validation images' own classes, its index in the training ``classes``.

    Raises:
        ValueError: training does not have one of them.
    """
    extra = [name for name in own if name not in classes]
    if extra:
        root, split = location(data, "validation")
        raise ValueError(
            f"validation ({root!r}, split {split!r}) has the class {', '.join(map(repr, extra[:5]))}"
            f"{f' and {len(extra) - 5} more' if len(extra) > 5 else ''}, which training does not have. Its "
            f"{len(classes)} classes are "
            f"{', '.join(map(repr, classes[:10]))}{', ...' if len(classes) > 10 else ''}. "
            "Remove the images of that class, or train with it too."
        )
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index[name] for name in own], dtype=np.int64)


def reason(error: Exception) -> str:
    """Return why an image could not be read, the same in every run: without memory addresses and paths."""
    return without_address(str(error)) or type(error).__name__


def without_address(text: str) -> str:
    """Return ``text`` without the file objects that Pillow prints."""
    return re.sub(r" ?<_io\.[^>]*>", "", text)


def need(package: str, root: str) -> Any:
    """Import an optional package.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f'{root!r} needs the package `{package}`, which is not installed. pip install "plainvision[stream]"'
        ) from error


class _First(Images):
    """The first images of each class."""

    def __init__(self, images: Images, most: int) -> None:
        self._images = images
        places = [np.flatnonzero(images.labels == label)[:most] for label in range(len(images.classes))]
        self._chosen = np.sort(np.concatenate(places))
        self.classes = images.classes
        self.labels = images.labels[self._chosen]

    def name(self, index: int) -> str:
        return self._images.name(int(self._chosen[index]))

    def read(self, index: int, mode: str) -> Image.Image:
        return self._images.read(int(self._chosen[index]), mode)


class _Files(Images):
    def __init__(self, data: Data, role: Role) -> None:
        root, split = location(data, role)
        self._store: Store
        self._store, listing = open_store(root, split)
        # Class folders without a split are taken only where training and validation stay apart.
        plain = data.validation_root is not None or (role == "validation" and not has_folder(listing, data.train_split))
        found = find_classes(listing, split, where=repr(root), option=f"data.{role}_split", plain=plain)
        self.classes = tuple(found)
        self.labels = np.repeat(np.arange(len(found)), [len(paths) for paths in found.values()])
        self._paths = [path for paths in found.values() for path in paths]

    def name(self, index: int) -> str:
        return self._store.name(self._paths[index])

    def read(self, index: int, mode: str) -> Image.Image:
        return _decode(self._store.open(self._paths[index]), mode)


class _HuggingFace(Images):
    """A split in the data set's own order, with its own order of classes, which published networks follow."""

    def __init__(self, root: str, split: str, *, option: str) -> None:
        datasets = need("datasets", root)
        from timm.data.readers.reader_hfds import ReaderHfds

        self._split = split
        self._source = local_or_remote(root)
        try:
            features = datasets.load_dataset(self._source, split=split).features
        except ValueError as error:
            raise ValueError(f"cannot read {root!r}: {error} Name the split in {option}.") from error
        image, label = _columns(features, datasets, root)
        self._reader = ReaderHfds(name=self._source, split=split, input_key=image, target_key=label)
        values = self._reader.dataset.with_format("numpy")[label][:]
        if self._reader.class_to_idx:
            self.classes = tuple(sorted(self._reader.class_to_idx, key=self._reader.class_to_idx.__getitem__))
            self.labels = np.asarray(values, dtype=np.int64)
        else:
            names, numbers = np.unique(values, return_inverse=True)
            self.classes, self.labels = tuple(str(name) for name in names), numbers.astype(np.int64)
        if len(self.labels) == 0 or self.labels.min() < 0:
            raise ValueError(
                f"{root!r}: the split {split!r} has "
                f"{'images without labels' if len(self.labels) else 'no images'}. Name another in {option}."
            )

    def name(self, index: int) -> str:
        path = self._reader.filename(index)
        if not path:
            return f"{self._split}/{index:08d}"
        # A folder on disk is known by absolute paths: keep what says which image it is.
        return os.path.relpath(path, Path(self._source).resolve().parent) if os.path.isabs(path) else path

    def read(self, index: int, mode: str) -> Image.Image:
        file, _ = self._reader[index]
        return _decode(file, mode)


class _Digits(Images):
    """scikit-learn's 1,797 handwritten digits, grey and 8x8: 1,437 to train with and 360 to validate with."""

    def __init__(self, role: Role) -> None:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        every = np.arange(len(digits.target))
        train, validation = train_test_split(every, test_size=360, random_state=0, stratify=digits.target)
        self._chosen = np.sort(train if role == "train" else validation)
        self._role = role
        self._pixels = np.round(digits.images[self._chosen] * (255 / 16)).astype(np.uint8)
        self.classes = tuple(str(digit) for digit in range(10))
        self.labels = digits.target[self._chosen].astype(np.int64)

    def name(self, index: int) -> str:
        return f"digits/{self._role}/{self._chosen[index]:04d}"

    def read(self, index: int, mode: str) -> Image.Image:
        return Image.fromarray(self._pixels[index]).convert(mode)


def local_or_remote(root: str) -> str:
    """Return what follows `hfds/` or `hfids/`: a name on the Hub, or a folder with `~` written out.

    Raises:
        FileNotFoundError: it is written as a folder and there is none.
    """
    source = root.partition("/")[2]
    if not source.startswith(("/", ".", "~")):
        return source
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"there is no data set at {root!r}: no such folder as {source!r}. Correct data.root, or write "
            "hfds/NAME for a data set on the Hugging Face Hub."
        )
    return str(path)


def _columns(features: Any, datasets: Any, root: str) -> tuple[str, str]:
    """Return the names of the image column and the label column."""
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    image = "image" if "image" in images else images[0] if len(images) == 1 else None
    label = "label" if "label" in features else labels[0] if len(labels) == 1 else None
    if image is None or label is None:
        raise ValueError(
            f"cannot tell which columns of {root!r} hold the image and the class: it has "
            f"{', '.join(features)}. Save a copy whose columns are called `image` and `label`."
        )
    return image, label


def _decode(file: BinaryIO, mode: str) -> Image.Image:
    with file, Image.open(file) as image:
        # Pillow warns when a palette with transparency loses it in one step.
        if image.mode == "P" and "transparency" in image.info:
            return image.convert("RGBA").convert(mode)
        return image.convert(mode)
