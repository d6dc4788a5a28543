"""A glance at images before a recipe is chosen: how many, how large, grey or not, and which of them validate."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from plainvision.data.class_folders import MissingSplit
from plainvision.data.image_kinds import Images
from plainvision.data.images import Opening, open_images
from plainvision.data.settings import Data
from plainvision.data.streams import is_stream

_SHARE = 0.15
# So many images are decoded, evenly spread over all.
_LOOKED_AT = 48
_SMALL = 128


@dataclass(frozen=True)
class Glance:
    """What there is to train on."""

    data: Data
    """The data, which say what validates."""
    validation: str
    """What validates, in words."""
    images: int
    """How many images there are to train with."""
    classes: tuple[str, ...]
    """Their names, in the order of the logits."""
    rarest: int
    """How many images the rarest class has."""
    side: int
    """Median of the shorter side, in pixels, of the images that were looked at."""
    grey: bool
    """Whether all of these are grey."""
    mean: float
    """Mean of their pixels in [0, 1]."""
    std: float
    """Standard deviation of these."""


def glance(data: Data, opened: Opening = open_images) -> Glance:
    """Return what there is, and draw the validation images where nobody says which these are.

    Raises:
        FileNotFoundError, ValueError: there are no images, or they are a stream.
    """
    if is_stream(data.root):
        raise ValueError(
            f"{data.root!r} is a stream, which does not say what is in it before it is read. Name the recipe: "
            "plainvision train RECIPE; `plainvision recipes` lists them."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run tells what is left out
        data, validation = _with_validation(data, opened)
        images = opened(data if data.folds is None else replace(data, fold=1), "train")
    some = list(_some(images))
    if not some:
        raise ValueError(
            f"none of the {len(images.labels)} images of {data.root!r} that were tried can be read. `plainvision data` "
            "says why."
        )
    counts = images.counts()
    pixels = np.concatenate([small.reshape(-1) for _, small in some]) / 255
    return Glance(
        data=data,
        validation=validation,
        images=len(images.labels),
        classes=tuple(images.classes),
        rarest=int(counts.min()),
        side=int(np.median([side for side, _ in some])),
        grey=all((small == small[..., :1]).all() for _, small in some),
        mean=round(float(pixels.mean()), 3),
        std=max(round(float(pixels.std()), 3), 0.01),
    )


def _with_validation(data: Data, opened: Opening) -> tuple[Data, str]:
    """Return the data with an answer to what validates, and that in words."""
    if data.folds is not None:
        return data, f"one of {data.folds} folds of the training images after the other"
    if data.validation_share is not None:
        return data, f"{data.validation_share:.0%} of each class, drawn from the training images"
    try:
        opened(data, "train")
    except MissingSplit as error:
        drawn = replace(data, validation_share=_SHARE)
        try:
            opened(drawn, "train")
        except ValueError:
            raise error from None
        return drawn, f"{_SHARE:.0%} of each class, drawn from the images, which are in no splits"
    try:
        return data, f"the images of {opened(data, 'validation').split!r}"
    except MissingSplit:
        pass
    return (
        replace(data, validation_share=_SHARE),
        f"{_SHARE:.0%} of each class, drawn from the training images: there is no split {data.validation_split!r}",
    )


def _some(images: Images) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the shorter side and the pixels of some images, made small; one that cannot be read is passed over."""
    count = len(images.labels)
    for index in np.unique(np.linspace(0, count - 1, min(_LOOKED_AT, count)).round().astype(int)):
        try:
            picture = images.read(int(index), "RGB")
        except Exception:  # a damaged file makes decoders raise nearly anything; the run names it
            continue
        side = min(picture.size)
        picture.thumbnail((_SMALL, _SMALL))
        yield side, np.asarray(picture)
