"""Settings of data and augmentation. This module imports no torch, because recipes hold them."""

import math
import os
from dataclasses import dataclass
from typing import Annotated, Literal

from plainvision.fields import ABOVE_ZERO, BELOW_ONE, check_ranges, ranges_of

# Prefix of a recorded path or address: it is kept as text, and nothing opens it.
RECORDED = "recorded:"


@dataclass(frozen=True)
class Data:
    """Where the images are, and how they are read."""

    root: str = "digits"
    """A folder of class folders, a .zip or .tar of one, `hfds/NAME`, `wds/SHARDS`, or `digits` (embedded)."""
    validation_root: str | None = None
    """Where the validation split is, when it is not under `root`."""
    train_split: str = "train"
    """Name of the training split: a folder under the root, or the split of a Hugging Face data set."""
    validation_split: str = "validation"
    """Name of the validation split."""
    validation_share: Annotated[float | None, ABOVE_ZERO, BELOW_ONE] = None
    """Without a validation split: validate on this share of each class of the training images, which leave training."""
    folds: Annotated[int | None, 2, 1000] = None
    """Cross-validation: draw so many parts of the training images, and validate on one of them."""
    fold: Annotated[int | None, 1, 1000] = None
    """Which of the `folds` validates, from 1; `plainvision train` without it takes one after the other."""
    split_seed: Annotated[int, 0, 2**63 - 1] = 0
    """Decides which images `validation_share` or `folds` draw, with their names."""
    split_fingerprint: str | None = None
    """Hash of the split that a run drew, which its weights record: other images are refused."""
    labels: str | None = None
    """A .csv with the columns image,label or image,label,split, for images below the root in no class folders."""
    class_map: str | None = None
    """A file with the name of a class on each line, which sets their order; None sorts them, numbers by value."""
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    """Training: an epoch has each image once, or as many images of each class, whose rare ones repeat."""
    train_per_class: Annotated[int | None, 1, 10**9] = None
    """Train on the first so many images of each class, in the order that they are found in; None takes all."""
    validation_per_class: Annotated[int | None, 1, 10**9] = None
    """Score the first so many images of each class; None takes all."""
    image_size: Annotated[int, 8, 4096] = 224
    """Side of the square that a network sees, in pixels."""
    channels: Literal[1, 3] = 3
    """Colour channels: 1 for grey, 3 for RGB."""
    crop_ratio: Annotated[float, 0.1, 1.0] = 0.875
    """Evaluation: the share of the resized short side that the centre crop keeps."""
    resize: Literal["short", "squash"] = "short"
    """Evaluation: the short side is resized and the aspect kept, or both sides are, whatever the aspect."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    """How images are resized."""
    mean: Annotated[tuple[float, ...], -1e3, 1e3] = (0.485, 0.456, 0.406)
    """Subtracted from pixels in [0, 1], one value per channel."""
    std: Annotated[tuple[float, ...], 1e-6, 1e3] = (0.229, 0.224, 0.225)
    """Divides the centred pixels, one value per channel."""
    corrupt: Literal["skip", "stop"] = "skip"
    """An image that cannot be read is named, counted and skipped, or stops the run."""
    max_pixels: Annotated[int, 1, 10**10] = 89_478_485
    """An image of more pixels counts as one that cannot be read: it would take too much memory."""
    allow_pipes: bool = False
    """Let `wds/` run the commands that an address such as `pipe:COMMAND` or `gs://...` stands for."""
    workers: Annotated[int | None, 0, 1024] = None
    """Processes that read images, beside the one that trains; None chooses."""

    def __post_init__(self) -> None:
        check_ranges(self, _DATA, "data.")
        for name, given in (("root", self.root), ("validation_root", self.validation_root)):
            if given == "":
                raise ValueError(f"data.{name} is empty. Give the folder of the images, or `digits`.")
            place = os.path.abspath(os.path.expanduser(given or "digits"))
            if place == os.path.dirname(place):
                raise ValueError(f"data.{name} is {place}, all of this machine's files. Give the folder of the images.")
        for name, given in (("labels", self.labels), ("class_map", self.class_map)):
            if given == "":
                raise ValueError(f"data.{name} is empty. Give a file, or leave it out.")
        if self.fold is not None and (self.folds is None or self.fold > self.folds):
            raise ValueError(
                f"data.fold={self.fold} with data.folds={self.folds}: it is the number of one of the folds. Give both, "
                "the fold from 1 to their number."
            )
        if self.folds is not None and self.validation_share is not None:
            raise ValueError(
                f"data.folds={self.folds} and data.validation_share={self.validation_share} are two answers to what "
                "validates. Give one of them."
            )
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(
                f"data.mean has {len(self.mean)} values and data.std {len(self.std)}, for data.channels="
                f"{self.channels}. Give one value per channel."
            )

    @property
    def draws(self) -> bool:
        """Whether the validation images are drawn from those of training."""
        return self.validation_share is not None or self.folds is not None


_DATA = ranges_of(Data)


def resized_side(image_size: int, crop_ratio: float) -> int:
    """Return to how many pixels a side is resized before the centre crop, as timm computes it."""
    return math.floor(image_size / crop_ratio)


def crop_ratio_of(image_size: int, side: int) -> float:
    """Return the crop ratio with which a side is resized to ``side`` pixels and cropped to ``image_size``.

    The quotient of the two may come out a pixel short of ``side`` when the size is computed from it.
    """
    ratio = image_size / side
    return ratio if resized_side(image_size, ratio) == side else image_size / (side + 0.5)


@dataclass(frozen=True)
class Augment:
    """What training does to an image before the network sees it."""

    scale: Annotated[tuple[float, float], ABOVE_ZERO, 1.0] = (0.08, 1.0)
    """Random resized crop: least and largest share of the image's area."""
    ratio: Annotated[tuple[float, float], 0.01, 100.0] = (0.75, 4 / 3)
    """Random resized crop: least and largest aspect ratio."""
    flip: Annotated[float, 0.0, 1.0] = 0.5
    """Probability of a horizontal flip."""
    policy: str | None = None
    """timm's automatic augmentation, for instance `rand-m7-mstd0.5-inc1` (RandAugment); replaces colour jitter."""
    color_jitter: Annotated[float, 0.0, 10.0] = 0.0
    """Strength of colour jitter."""
    random_erasing: Annotated[float, 0.0, 1.0] = 0.0
    """Probability of erasing a random rectangle."""
    mixup: Annotated[float, 0.0, 1.0] = 0.0
    """Mixup's alpha; 0 is off."""
    cutmix: Annotated[float, 0.0, 1.0] = 0.0
    """CutMix's alpha; 0 is off."""
    mix_probability: Annotated[float, 0.0, 1.0] = 1.0
    """Probability that a batch is mixed at all, when Mixup or CutMix is on."""
    switch_probability: Annotated[float, 0.0, 1.0] = 0.5
    """Probability of CutMix rather than Mixup, when both are on."""
    repeats: Annotated[int, 1, 1000] = 1
    """How often each image appears in an epoch, augmented anew (repeated augmentation)."""

    def __post_init__(self) -> None:
        check_ranges(self, _AUGMENT, "augment.")
        for name, (least, most) in (("scale", self.scale), ("ratio", self.ratio)):
            if least > most:
                raise ValueError(f"augment.{name}={(least, most)} must be the least and the largest, in this order.")


_AUGMENT = ranges_of(Augment)
