"""Where the images of a data set are: roots, splits, and the classes that both splits share."""

import importlib
import unicodedata
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from plainvision.data.archives import names_of
from plainvision.data.settings import RECORDED, Data

Role = Literal["train", "validation"]


def location(data: Data, role: Role) -> tuple[str, str]:
    """Return the root and the split of the training or the validation images.

    Raises:
        ValueError: the split has no name, or only a file of weights says where the images are.
    """
    split = data.train_split if role == "train" else data.validation_split
    if not split:
        raise ValueError(
            f"data.{role}_split is empty. Give the name of a folder or a split; class folders that lie in no such "
            "folder are found under any name."
        )
    if data.draws:
        split = data.train_split
    root = data.root if role == "train" else data.validation_root or data.root
    for option, word in (
        ("root", root),
        (f"{role}_split", split),
        ("labels", data.labels or ""),
        ("class_map", data.class_map or ""),
    ):
        if word.startswith(RECORDED):
            raise ValueError(
                f"the file of the network records data.{option} as {word.removeprefix(RECORDED)!r}, and a file opens "
                f"nothing by itself. Give the images with --data.{option.replace('_', '-')}."
            )
    return root, split


def place(data: Data, role: Role) -> str:
    """Return the root and the split of the images of ``role``, for messages."""
    root, split = location(data, role)
    return f"{root!r}, split {split!r}"


def absolute(data: Data) -> Data:
    """Return the data with full paths of folders and archives."""
    validation = data.validation_root and _absolute(data.validation_root)
    labels, class_map = (given and _absolute(given) for given in (data.labels, data.class_map))
    return replace(data, root=_absolute(data.root), validation_root=validation, labels=labels, class_map=class_map)


def _absolute(root: str) -> str:
    kind, slash, place = root.partition("/")
    on_hub = kind in ("hfds", "hfids") and not place.startswith((".", "~"))
    if root == "digits" or root.startswith(RECORDED) or on_hub:
        return root
    if kind in ("hfds", "hfids", "wds") and slash:
        return root if ":" in place else f"{kind}/{Path(place).expanduser().absolute()}"
    path = Path(root).expanduser()
    return str(path.absolute()) if path.exists() else root  # a wrong one is named as it was given


def class_lookup(own: tuple[str, ...], classes: tuple[str, ...], data: Data) -> np.ndarray:
    """Return the index of each of the validation images' ``own`` classes in the training ``classes``.

    Raises:
        ValueError: training does not have one of them.
    """
    spelt = partial(unicodedata.normalize, "NFC")  # one of the spellings that Unicode has for a name
    index = {spelt(name): number for number, name in enumerate(classes)}
    extra = [name for name in own if spelt(name) not in index]
    if extra:
        raise ValueError(
            f"validation ({place(data, 'validation')}) has the class {names_of(extra, 5)}, which training does not "
            f"have. Its {len(classes)} classes are {names_of(classes, 10)}. "
            "Remove the images of that class, or train with it too."
        )
    return np.array([index[spelt(name)] for name in own], dtype=np.int64)


def two_answers(data: Data, given: str, option: str) -> str:
    """Return what is wrong with drawing and validation images beside it, ``given`` by an option."""
    name = "folds" if data.folds is not None else "validation_share"
    return (
        f"data.{name}={getattr(data, name)} draws the validation images from the training images, and {given} has "
        f"validation images already. Drop one of them: data.{name}, or {option}."
    )


def need(package: str, root: str) -> Any:
    """Import an optional package; where it is not installed, the `ImportError` names the extra that has it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f'{root!r} needs the package `{package}`, which is not installed. pip install "plainvision[stream]"'
        ) from error


def local_or_remote(root: str) -> str:
    """Return what follows `hfds/` or `hfids/`: a name on the Hub, or a folder that exists, with `~` written out."""
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
