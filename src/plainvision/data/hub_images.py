"""Images of a Hugging Face data set, that can be read in any order."""

import contextlib
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from plainvision.data.class_folders import USUAL_NAMES, MissingSplit, in_order, usual_names
from plainvision.data.decoding import decode
from plainvision.data.image_kinds import Images
from plainvision.data.locations import Role, local_or_remote, location, need, two_answers
from plainvision.data.settings import Data


class HuggingFace(Images):
    """A split in the data set's own order, with its own order of classes, which published networks follow."""

    def __init__(self, data: Data, role: Role) -> None:
        root, self._split = location(data, role)
        datasets = need("datasets", root)
        self._source = local_or_remote(root)
        other = data.validation_split
        if data.validation_share is not None and other != data.train_split:
            for name in USUAL_NAMES if other in USUAL_NAMES else (other,):
                with contextlib.suppress(MissingSplit):
                    _loaded(datasets, self._source, name, root, role)
                    raise ValueError(two_answers(data, f"{root!r}, as split {name!r},", "that split"))
        self._max_pixels = data.max_pixels
        try:
            rows = _loaded(datasets, self._source, self._split, root, role)
        except MissingSplit:
            usual = usual_hub_split(datasets, self._source, self._split, data) if role == "validation" else None
            if usual is None:
                raise
            self._split, rows = usual, _loaded(datasets, self._source, usual, root, role)
        self.split = self._split
        self._image, label = _columns(rows.features, datasets, root)
        # Left undecoded, an image is its bytes or its path.
        self._rows = rows.cast_column(self._image, datasets.Image(decode=False))
        chunks = self._rows.data[self._image].chunks  # without their bytes, which may be many
        self._paths = [path for chunk in chunks for path in chunk.field("path").to_pylist()]
        values = rows.with_format("numpy")[label][:]
        if isinstance(rows.features[label], datasets.ClassLabel):
            self.classes, self.labels = tuple(rows.features[label].names), np.asarray(values, dtype=np.int64)
        else:
            names, numbers = np.unique(values, return_inverse=True)
            self.classes = tuple(in_order(map(str, names)))
            places = np.array([self.classes.index(str(name)) for name in names], dtype=np.int64)
            self.labels = places[numbers] if len(places) else numbers
        if len(self.labels) == 0 or self.labels.min() < 0:
            raise ValueError(
                f"{root!r}: the split {self._split!r} has "
                f"{'images without labels' if len(self.labels) else 'no images'}. Name another in data.{role}_split."
            )

    def name(self, index: int) -> str:
        path = self._paths[index]
        if not path:
            return f"{self._split}/{index:08d}"
        # A folder on disk is known by absolute paths: keep what says which image it is.
        return os.path.relpath(path, Path(self._source).resolve().parent) if os.path.isabs(path) else path

    def read(self, index: int, mode: str) -> Image.Image:
        return read_row(self._rows[index][self._image], self._source, self._max_pixels, mode)


def read_row(image: dict[str, Any], source: str, max_pixels: int, mode: str) -> Image.Image:
    """Return an image that a Hugging Face data set left undecoded, decoded as `decode` does.

    Raises:
        ValueError: the row names a file that is not part of the data set.
    """
    if image["bytes"]:
        return decode(BytesIO(image["bytes"]), mode, max_pixels)
    from datasets import config
    from datasets.utils.file_utils import xopen

    path = str(image["path"])
    places = (os.path.abspath(source), Path(source).resolve(), config.HF_CACHE_HOME, config.HF_DATASETS_CACHE)
    end = path.split("::")[-1]  # behind the members of archives
    if not end.startswith("hf://") and not any(Path(os.path.abspath(end)).is_relative_to(place) for place in places):
        raise ValueError("its row names a file outside of the data set")
    return decode(xopen(path, "rb"), mode, max_pixels)


def usual_hub_split(datasets: Any, source: str, split: str, data: Data) -> str | None:
    """Return under which other usual name a Hugging Face data set has validation images beside training ones.

    None where it has the ``split`` itself, or none of these.
    """
    try:
        names = datasets.get_dataset_split_names(source)
    except (ValueError, RuntimeError, OSError):  # what reading it says is worth more
        return None
    if split in names or data.train_split not in names:
        return None
    return next((name for name in usual_names(split) if name in names), None)


def _loaded(datasets: Any, source: str, split: str, root: str, role: Role) -> Any:
    try:
        return datasets.load_dataset(source, split=split)
    except (ValueError, RuntimeError) as error:  # also a folder with a script, which the library does not run
        raise MissingSplit(f"cannot read {root!r}: {error} Name the split in data.{role}_split.") from error


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
