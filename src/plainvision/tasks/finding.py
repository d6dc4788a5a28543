"""What detectors and segmenters say of photographs, one after another.

Shapes   C channels, H height, W width, N objects
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from plainvision.data.photographs import Photographs, Source
from plainvision.inspection.devices import device_of, usable_device
from plainvision.inspection.eval_mode import eval_mode
from plainvision.tasks.learning import Detection, Segmentation
from plainvision.tasks.loaded import LoadedTask
from plainvision.tasks.overlap import class_map


@dataclass(frozen=True)
class Found:
    """What was found in one photograph."""

    name: str
    """Its path as it was given."""
    picture: Image.Image
    """The photograph, upright."""


@dataclass(frozen=True)
class Objects(Found):
    """The objects in a photograph, the surest first."""

    boxes: Tensor
    """(N, 4) as x1, y1, x2, y2 in pixels."""
    labels: Tensor
    """(N,) from 1; `classes` of the network names them."""
    scores: Tensor
    """(N,) from 0 to 1."""
    masks: Tensor | None
    """(N, 1, H, W), how likely each pixel belongs to each object; None without masks."""


@dataclass(frozen=True)
class Areas(Found):
    """The class of each pixel of a photograph."""

    labels: np.ndarray
    """(H, W), from 0."""


@dataclass(frozen=True)
class Skipped:
    """A photograph that could not be read."""

    reason: str
    """As `NAME (reason)`."""


def find_objects(
    loaded: LoadedTask, images: Iterable[Source], *, least_score: float = 0.5, device: str | None = None
) -> Iterator[Objects | Skipped]:
    """Yield the objects in each photograph of files, folders and archives, of at least a score.

    Raises:
        ValueError: the network finds no objects, or the score is no share.
    """
    if not isinstance(loaded.task, Detection):
        raise ValueError("the network names pixels and finds no objects. `find_areas` asks it, `plainvision segment`.")
    if not 0 <= least_score <= 1:
        raise ValueError(f"least_score={least_score} must lie between 0 and 1.")

    def answer(image: Tensor) -> dict[str, Any]:
        (found,) = loaded.network([image])
        kept = (found["scores"] >= least_score) & (found["labels"] > 0)
        return {"masks": None} | {name: value[kept].cpu() for name, value in found.items()}

    return _each(loaded, images, device, lambda name, picture, image: Objects(name, picture, **answer(image)))


def find_areas(
    loaded: LoadedTask,
    images: Iterable[Source],
    *,
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    device: str | None = None,
) -> Iterator[Areas | Skipped]:
    """Yield the class of each pixel of each photograph of files, folders and archives.

    ``scales`` and ``flip`` are those of `class_shares`.

    Raises:
        ValueError: the network names no pixels.
    """
    if not isinstance(loaded.task, Segmentation):
        raise ValueError("the network finds objects and names no pixels. `find_objects` asks it, `plainvision detect`.")
    size = loaded.data.image_size

    def answer(name: str, picture: Image.Image, image: Tensor) -> Areas:
        found = class_map(loaded.network, image, size=size, scales=scales, flip=flip)
        return Areas(name, picture, found.cpu().numpy().astype(np.uint8))

    return _each(loaded, images, device, answer)


def _each(
    loaded: LoadedTask, images: Iterable[Source], device: str | None, answer: Callable[[str, Image.Image, Tensor], Any]
) -> Iterator[Any]:
    place, home = usable_device(device), device_of(loaded.network)
    photographs = Photographs(images, loaded.data, batch_size=1, transform=_tensor)
    try:
        loaded.network.to(place)
        for batch, _ in photographs.batches():
            yield from map(Skipped, batch.skipped)
            for name, image in zip(batch.names, batch.images, strict=True):
                with eval_mode(loaded.network), torch.inference_mode():
                    yield answer(name, functional.to_pil_image(image), image.to(place))
    finally:
        loaded.network.to(home)


def _tensor(picture: Image.Image) -> Tensor:
    """Return a picture as (C, H, W) in [0, 1]."""
    return functional.to_dtype(functional.pil_to_tensor(picture), torch.float32, scale=True)
