"""Images that can be read in any order: opened by what their root is, drawn apart where they have one split."""

from collections.abc import Callable

import numpy as np

from plainvision.data.archives import names_of
from plainvision.data.drawn_split import DrawnSplit, draw, draw_folds
from plainvision.data.hub_images import HuggingFace
from plainvision.data.image_kinds import Chosen, Digits, Files, Images, Labelled
from plainvision.data.labels import read_class_map
from plainvision.data.locations import Role, location, place, two_answers
from plainvision.data.settings import Data

Opening = Callable[[Data, Role], Images]
"""What finds the images of a role: `open_images`, or `open_label_sets`."""


def open_images(data: Data, role: Role) -> Images:
    """Return the training or the validation images of ``data``, of each class as many as ``data`` asks for.

    Raises:
        FileNotFoundError: there is nothing at the root.
        ValueError: the root does not hold that split, or not in class folders.
            A share that is given beside a validation split, or draws another split than ``data`` records.
        ImportError: the package that reads such a root is not installed.
    """
    images = _opened(data, role) if not data.draws else _drawn(data, role)
    most = data.train_per_class if role == "train" else data.validation_per_class
    if most is None:
        return images
    places = [np.flatnonzero(images.labels == label)[:most] for label in range(len(images.classes))]
    return Chosen(images, np.sort(np.concatenate(places)))


def _opened(data: Data, role: Role) -> Images:
    root, _ = location(data, role)
    kind = Digits if root == "digits" else HuggingFace if root.startswith("hfds/") else Files
    images = kind(data, role) if data.labels is None else Labelled(data, role)
    return images if data.class_map is None else ordered(images, data.class_map)


def ordered(images: Images, class_map: str) -> Images:
    """Return ``images`` with the classes of the file, in its order."""
    classes = read_class_map(class_map)
    index = {name: number for number, name in enumerate(classes)}
    extra = [name for name in images.classes if name not in index]
    if extra:
        raise ValueError(
            f"data.class_map={class_map!r} lists {len(classes)} classes, and the images have {names_of(extra, 5)} "
            "beside them. Add the names to it, one a line, or leave the images out."
        )
    images.rename(classes, np.array([index[name] for name in images.classes], np.int64))
    return images


def _drawn(data: Data, role: Role) -> Images:
    """Return the training or the validation part of the training images.

    Whoever names the training split as that of validation gets the training part.
    """
    images = _opened(data, "train")
    names = [f"{images.classes[label]}/{images.key(index)}" for index, label in enumerate(images.labels)]
    validates = _in_fold(data, images, names) if data.folds else _in_share(data, images, names)
    return named_split(data, role, images, names, validates)


def named_split(data: Data, role: Role, images: Images, names: list[str], validates: np.ndarray) -> Images:
    """Return the part of ``images`` for ``role``: those that ``validates``, (N,), or the others; ``names`` are theirs.

    Raises:
        ValueError: it is another split than ``data`` records, or there are validation images beside it.
    """
    if data.validation_root is not None:
        raise ValueError(two_answers(data, f"data.validation_root={data.validation_root!r}", "data.validation_root"))
    split = DrawnSplit(*(tuple(sorted(np.array(names, object)[part])) for part in (~validates, validates)))
    if data.split_fingerprint not in (None, split.fingerprint):
        raise ValueError(
            f"the images of {place(data, 'train')}, are not those that the run drew its validation images from, or "
            "data.split_seed is another: of what would be scored, the network may have seen some in training. Give the "
            "images of the run; to score on other images, name their split in data.validation_split or their folder in "
            f"data.validation_root, and set data.{'folds' if data.folds else 'validation_share'}=None."
        )
    trains = role == "train" or data.validation_split == data.train_split
    chosen = Chosen(images, np.flatnonzero(~validates if trains else validates))
    chosen.drawn = split
    if not trains:  # the training part has told them
        chosen.left_out, chosen.others, chosen.beside = (), {}, 0
    chosen.split = images.split or data.train_split if trains else data.validation_split
    return chosen


def _in_share(data: Data, images: Images, names: list[str]) -> np.ndarray:
    validates = draw(names, images.labels, data.validation_share or 0.0, data.split_seed)
    if not validates.any():
        raise ValueError(
            f"data.validation_share={data.validation_share} draws no image of {place(data, 'train')}: each class has a "
            "single one. Add images."
        )
    return validates


def _in_fold(data: Data, images: Images, names: list[str]) -> np.ndarray:
    folds = data.folds or 0
    if data.fold is None:
        raise ValueError(
            f"data.folds={folds} and no data.fold: which of them validates? Name it; `plainvision train` without it "
            "takes one after the other."
        )
    single = [images.classes[label] for label in np.flatnonzero(np.bincount(images.labels) == 1)]
    if single or len(names) < folds:
        few = f"the class {names_of(single)} has a single one" if single else f"there are {len(names)}"
        raise ValueError(
            f"data.folds={folds} of the images of {place(data, 'train')}: {few}, and each image validates once, with "
            "others to train on. Add images, remove the class, or give fewer folds."
        )
    return draw_folds(names, images.labels, folds, data.split_seed) == data.fold
