"""The images, as options of the command line: only what is given changes, and ``None`` is an answer too.

A verb takes the groups that matter to it; all are called ``--data.NAME``.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypedDict, cast

if TYPE_CHECKING:
    from plainvision.training.network_words import Network
    from plainvision.training.recipe import Data


class DataOptions(TypedDict, total=False):
    """Where images are, where that changes; the rest is the network's own."""

    root: str
    """A folder of class folders, a .zip or .tar of one, `hfds/NAME`, `wds/SHARDS`, or `digits` (embedded)."""
    validation_root: str | None
    """Where the validation split is, when it is not under the root."""
    train_split: str
    """Name of the training split."""
    validation_split: str
    """Name of the split to read."""
    validation_share: float | None
    """Read this share of each class of the training images, as training drew it; None reads a validation split."""
    split_seed: int
    """Decides which images that share draws."""
    labels: str | None
    """A .csv with the columns image,label or image,label,split, for images in no class folders."""
    class_map: str | None
    """A file with the name of a class on each line, which sets their order."""
    validation_per_class: int | None
    """Read the first so many images of each class; None reads all, also where training scored few."""
    corrupt: Literal["skip", "stop"]
    """An image that cannot be read is left out, or stops the command."""
    workers: int | None
    """Processes that read images; None chooses."""
    allow_pipes: bool
    """Let `wds/` run the commands that an address such as `pipe:COMMAND` or `gs://...` stands for."""


class PreparationOptions(TypedDict, total=False):
    """How images are prepared, where that changes."""

    image_size: int
    """Side of the square that the network sees, in pixels."""
    crop_ratio: float
    """The share of the resized short side that the centre crop keeps."""
    resize: Literal["short", "squash"]
    """Whether the short side is resized and the aspect kept, or both sides are."""
    interpolation: Literal["bilinear", "bicubic"]
    """How images are resized."""
    mean: tuple[float, ...]
    """Subtracted from pixels in [0, 1], one value per channel."""
    std: tuple[float, ...]
    """Divides the centred pixels, one value per channel."""
    max_pixels: int
    """An image of more pixels counts as one that cannot be read."""


class PhotographOptions(PreparationOptions, total=False):
    """How images without labels are read."""

    workers: int | None
    """Processes that read images; None chooses."""


class TrainingDataOptions(TypedDict, total=False):
    """Fields of the data to change when a network is trained, too."""

    train_per_class: int | None
    """Train on the first so many images of each class; None trains on all."""


def changed_data(data: "Data", *options: DataOptions | PreparationOptions | TrainingDataOptions) -> "Data":
    """Return ``data`` with the changes of ``options``; a value that cannot be is a `ValueError`.

    Who names validation images does not want those that training drew.
    """
    for changes in options:
        given = cast(dict, changes)
        if {"validation_root", "validation_split"} & given.keys():
            given = {"validation_share": None, "folds": None, "fold": None, **given}
        data = replace(data, **given)
    return data


def data_to_read(network: "Network", options: DataOptions, *others: PreparationOptions | TrainingDataOptions) -> "Data":
    """Return the data of ``network`` with the changes of the options.

    Raises:
        ValueError: nobody says where the images are, or a value cannot be.
    """
    if (network.classes is None or network.origin is None) and "root" not in options:
        what = "a deployed folder" if network.named else "a network loaded by name"
        raise ValueError(
            f"{what} has no data set. Give a folder of class folders, or an archive of one, with --data.root."
        )
    return changed_data(network.data, options, *others)
