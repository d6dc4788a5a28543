"""The images, as options of the command line."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from plainvision.training.recipe import Data


@dataclass(frozen=True)
class DataOptions:
    """Fields of the data to change; the others are as the network's own."""

    root: str | None = None
    """A folder of class folders, a .zip or .tar of one, `hfds/NAME`, `wds/SHARDS`, or `digits` (embedded)."""
    validation_root: str | None = None
    """Where the validation split is, when it is not under the root."""
    validation_split: str | None = None
    """Name of the split to evaluate."""
    validation_per_class: int | None = None
    """Evaluate the first so many images of each class; by default all."""
    image_size: int | None = None
    """Side of the square that the network sees, in pixels."""
    crop_ratio: float | None = None
    """The share of the resized short side that the centre crop keeps."""
    interpolation: Literal["bilinear", "bicubic"] | None = None
    """How images are resized."""
    mean: tuple[float, ...] | None = None
    """Subtracted from pixels in [0, 1], one value per channel."""
    std: tuple[float, ...] | None = None
    """Divides the centred pixels, one value per channel."""
    corrupt: Literal["skip", "stop"] | None = None
    """An image that cannot be read is left out, or stops the command."""
    workers: int | None = None
    """Processes that read images."""

    def of(self, data: "Data", *, known: bool) -> "Data":
        """Return ``data`` with these changes.

        Args:
            data: the network's own.
            known: whether that says where the images are.

        Raises:
            ValueError: nobody says where the images are, or there are more means than channels.
        """
        if self.root is None and not known:
            raise ValueError(
                "there is no word of where the images are, and a network by name does not know. Give a folder of class "
                "folders, or an archive of one, with --data.root."
            )
        changed = replace(data, **{name: value for name, value in vars(self).items() if value is not None})
        for name in ("mean", "std"):
            values = getattr(changed, name)
            if len(values) != data.channels:
                raise ValueError(
                    f"--data.{name} has {len(values)} values, and the network takes {data.channels} channels. Give one "
                    "value for each."
                )
        for name in ("image_size", "crop_ratio", "validation_per_class"):
            value = getattr(changed, name)
            if value is not None and value <= 0:
                raise ValueError(f"--data.{name.replace('_', '-')} {value} must be above zero.")
        return changed


@dataclass(frozen=True)
class TrainingDataOptions(DataOptions):
    """Fields of the data to change when a network is trained, too."""

    train_split: str | None = None
    """Name of the split to train on."""
    train_per_class: int | None = None
    """Train on the first so many images of each class; by default on all."""
