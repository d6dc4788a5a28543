"""Images that have a set of labels each: from a .csv, or from folders that are called like their set, `cat+dog`."""

import numpy as np

from plainvision.data.archives import names_of
from plainvision.data.class_folders import in_order
from plainvision.data.drawn_split import ranks_of
from plainvision.data.image_kinds import Chosen, Files, Images, Labelled
from plainvision.data.images import named_split, ordered
from plainvision.data.labels import BETWEEN, read_label_sets
from plainvision.data.locations import Role, location, place
from plainvision.data.settings import Data

BETWEEN_IN_FOLDERS = "+"
# Marks of all images together, a byte each; scores of a split take some sixty times as much for a while.
_MOST_MARKS = 2**28


class LabelSets(Chosen):
    """The ``images``, whose classes are names of sets: labels with ``between`` between two of them.

    Attributes:
        classes: the labels: ``names``, or all that there are, in order.
        labels: (N, K) bool, which labels each image has.
    """

    def __init__(self, images: Images, between: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(images, np.arange(len(images.labels)))
        sets = [[label for label in name.split(between) if label] for name in images.classes]
        self.classes = names or tuple(in_order({label for one in sets for label in one}))
        if len(images.labels) * len(self.classes) > _MOST_MARKS:
            raise ValueError(
                f"{len(images.labels):,} images with {len(self.classes):,} labels are too many to hold: their product "
                f"may be {_MOST_MARKS:,}. Leave out labels that few images have, or train on a part."
            )
        index = {name: number for number, name in enumerate(self.classes)}
        marks = np.zeros((len(sets), len(self.classes)), bool)
        for row, one in enumerate(sets):
            marks[row, [index[label] for label in one]] = True
        self.labels = marks[images.labels]


class _InFolders(LabelSets):
    """Of folders, an image's name is found below the folder of its set."""

    def __init__(self, images: Images) -> None:
        super().__init__(images, BETWEEN_IN_FOLDERS)
        self._folders = [images.classes[label] for label in images.labels]

    def key(self, index: int) -> str:
        return f"{self._folders[index]}/{super().key(index)}"


def open_label_sets(data: Data, role: Role) -> Images:
    """Return the training or the validation images of ``data``, each with a set of labels.

    Raises:
        FileNotFoundError, ValueError: those of `open_images`; and what works for images with one label each alone.
    """
    _refuse(data, role)
    if not data.draws:
        return _opened(data, role)
    images = _opened(data, "train")
    keys = [images.key(index) for index in range(len(images.labels))]
    parts = data.folds or 2
    share = data.validation_share or 0.0
    wanted = [1 / parts] * parts if data.folds else [1 - share, share]
    drawn = stratify(keys, images.labels, wanted, data.split_seed)
    validates = drawn == (data.fold - 1 if data.fold else 1)
    if validates.all() or not validates.any():
        what = f"folds={data.folds}" if data.folds else f"validation_share={data.validation_share}"
        raise ValueError(
            f"data.{what} of the {len(keys)} images of {place(data, 'train')}, leaves none to train on or to validate. "
            "Add images, or draw another part."
        )
    return named_split(data, role, images, keys, validates)


def _opened(data: Data, role: Role) -> LabelSets:
    if data.labels is not None:
        found = Labelled(data, role, read_label_sets)
        images = LabelSets(found, BETWEEN, found.names)
    else:
        images = _InFolders(Files(data, role))
    if data.class_map is not None:
        ordered(images, data.class_map)
    if role == "train" and len(images.classes) < 2:
        what = f"the one label {images.classes[0]!r}" if images.classes else "no label at all"
        raise ValueError(
            f"the images of {place(data, role)}, have {what}: sets take two labels or more. An image that has it or "
            "not is of one of two classes: give these, without --multi-label."
        )
    return images


def _refuse(data: Data, role: Role) -> None:
    root, _ = location(data, role)
    if root == "digits" or root.startswith(("hfds/", "hfids/", "wds/")):
        raise ValueError(
            f"data.root={root!r} has one label for each image, and sets of labels were asked for. Give a folder or an "
            "archive of images with data.labels, a .csv of their sets, or with folders that are called like their set, "
            f"as cat{BETWEEN_IN_FOLDERS}dog."
        )
    asked = {
        "data.sampling": None if data.sampling == "shuffled" else data.sampling,
        "data.train_per_class": data.train_per_class,
        "data.validation_per_class": data.validation_per_class,
    }
    if given := [f"{name}={value!r}" for name, value in asked.items() if value is not None]:
        raise ValueError(
            f"{given[0]} counts images by class, and images with sets of labels are in several. Leave it out; "
            "class_weights='balanced' makes up for rare labels."
        )
    if data.folds is not None and data.fold is None:
        raise ValueError(
            f"data.folds={data.folds} and no data.fold: which of them validates? Name it; `plainvision train` without "
            "it takes one after the other."
        )


def stratify(keys: list[str], sets: np.ndarray, shares: list[float], seed: int) -> np.ndarray:
    """Return (N,) the part of each image, so that each part has its share of the images of each label.

    Iterative stratification (Sechidis et al. 2011, https://doi.org/10.1007/978-3-642-23808-6_10): the rarest label that
    is left goes first, each of its images to the part that lacks the label most, then images most. Images without
    labels count as those of a label of their own.

    Args:
        keys: names of the images, all different.
        sets: (N, K) bool, the labels of each.
        shares: of the parts; they sum to 1.
        seed: decides which images go together.
    """
    marks = np.column_stack([sets, ~sets.any(1)])
    lacking = np.outer(shares, marks.sum(0))  # images of each label that each part is still to get
    room = np.array(shares) * len(keys)
    parts = np.full(len(keys), -1)
    order = np.argsort(ranks_of(keys, seed))
    left = marks.sum(0)
    while (left > 0).any():
        label = int(np.where(left > 0, left, len(keys) + 1).argmin())
        for index in order[marks[order, label] & (parts[order] < 0)]:
            part = max(range(len(shares)), key=lambda one: (lacking[one, label], room[one]))
            parts[index] = part
            lacking[part] -= marks[index]
            room[part] -= 1
            left -= marks[index]
    return parts


def first_line(split: str, names: tuple[str, ...], sets: np.ndarray) -> str:
    """Return in words how many images a split has of each label."""
    counts, without = sets.sum(0), int((~sets.any(1)).sum())
    least, most = int(counts.argmin()), int(counts.argmax())
    text = (
        f"{split}: {len(sets)} images with {len(names)} labels, {sets.sum(1).mean():.2f} each in the mean, "
        f"{counts[least]} ({names[least]}) to {counts[most]} ({names[most]}) of each"
    )
    text += f", {without} without any" if without else ""
    none = [name for name, count in zip(names, counts, strict=True) if not count]
    return f"{text}; no image has {names_of(none, 5)}" if none else text
