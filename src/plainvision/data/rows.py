"""One image becomes a row of a batch: read, or named and skipped; transformed; collated."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import timm.data
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate

from plainvision.data.decoding import reason
from plainvision.data.settings import Augment, Data
from plainvision.processes import usual_workers
from plainvision.seeds import seeded

# So many times as long as high, an image is cut to its middle before it is resized.
_LONGEST = 8


@dataclass(frozen=True)
class Batch:
    """The images of one step, and the names of those that were skipped."""

    images: Tensor
    """(B, C, H, W) float32, normalised."""
    labels: Tensor
    """(B,) int64, indices into the training classes; of images with sets of labels (B, K) float32, 0 or 1."""
    names: tuple[str, ...]
    """One per image, for instance `clothing/test/hat/0003.jpg`."""
    skipped: tuple[str, ...]
    """The images that could not be read while making this batch, each `NAME (reason)`."""

    def on(self, device: torch.device, *, channels_last: bool = False) -> "Batch":
        """Return the batch on ``device``, its images in that memory layout."""
        images = self.images.to(device)
        if channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return replace(self, images=images, labels=self.labels.to(device))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; the `DataLoader` calls this where there is a GPU."""
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())


class Row(NamedTuple):
    """An image that is not yet decoded: ``read`` returns it in a mode of Pillow's."""

    read: Callable[[str], Image.Image]
    name: str
    label: int | np.ndarray


@dataclass(frozen=True)
class Sample:
    """One row of a batch to be; ``image`` is (C, H, W), or None when only ``skipped`` is to be told."""

    image: Tensor | None
    label: int | np.ndarray
    name: str
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """An error of a worker, as data: raised there, it would reach the user wrapped in two tracebacks."""

    message: str


class Reader:
    """Reads an image into a row of a batch by ``transform``, or names it, or fails where ``data`` says so."""

    def __init__(self, data: Data, transform: Any) -> None:
        self._mode = pixel_mode(data)
        self._transform = transform
        self._stop = data.corrupt == "stop"

    def __call__(self, row: Row, seed: int | None = None) -> Sample | Failure:
        """Return the row decoded; ``seed`` is that of a random transform."""
        name, label = row.name, row.label
        try:
            image = row.read(self._mode)
        except Exception as error:  # a damaged file makes decoders raise nearly anything
            if self._stop:
                return Failure(
                    f"cannot read the image {name}: {reason(error)}. Repair or remove it, or set data.corrupt=skip to "
                    "go on without such images; they are named and counted."
                )
            return Sample(None, label, name, (f"{name} ({reason(error)})",))
        with seeded(seed) if seed is not None else nullcontext():
            return Sample(self._transform(image), label, name)


def collate(samples: list[Sample | Failure]) -> Batch | Failure:
    """Return the batch of the samples that have an image, or the first failure."""
    for sample in samples:
        if isinstance(sample, Failure):
            return sample
    rows = [sample for sample in samples if isinstance(sample, Sample)]
    seen = [row for row in rows if row.image is not None]
    return Batch(
        # default_collate writes a worker's batch straight into shared memory.
        images=default_collate([row.image for row in seen]) if seen else torch.empty(0),
        labels=torch.from_numpy(np.array([row.label for row in seen])) if seen else torch.empty(0, dtype=torch.int64),
        names=tuple(row.name for row in seen),
        # Two rows may have stumbled over the same image: it is named once.
        skipped=tuple(dict.fromkeys(name for row in rows for name in row.skipped)),
    )


def read_batches(loader: Iterable[Batch | Failure]) -> Iterator[Batch]:
    """Yield the batches of a loader that collates by `collate`; a failure is a `ValueError` with its message."""
    for batch in loader:
        if isinstance(batch, Failure):
            raise ValueError(batch.message)
        yield batch


def workers_of(data: Data) -> int:
    """Return how many processes read images that can be read in any order: those asked for, or as many as pay."""
    if data.workers is not None:
        return data.workers
    return 0 if data.root == "digits" else usual_workers()  # an embedded digit is there before a process is asked


def pixel_mode(data: Data) -> str:
    """Return Pillow's name for images of ``data.channels``."""
    return "L" if data.channels == 1 else "RGB"


def training_transform(data: Data, augment: Augment) -> Any:
    """Return timm's random transform: a PIL image -> (C, image_size, image_size)."""
    try:
        return timm.data.create_transform(
            input_size=(data.channels, data.image_size, data.image_size),
            is_training=True,
            scale=augment.scale,
            ratio=augment.ratio,
            hflip=augment.flip,
            # timm would keep the jitter beside some policies (`3a`); a recipe says that a policy replaces it.
            color_jitter=None if augment.policy else augment.color_jitter or None,
            auto_augment=augment.policy,
            interpolation=data.interpolation,
            mean=data.mean,
            std=data.std,
            re_prob=augment.random_erasing,
            re_mode="pixel",  # noise rather than one colour, as in the published recipes that erase
        )
    except (AssertionError, ValueError) as error:  # timm asserts that it knows the policy
        raise ValueError(
            f"timm does not know the augment.policy {augment.policy!r} ({error or 'unknown'}). Give one of its own, "
            "for instance rand-m7-mstd0.5-inc1, augmix-m5-w4-d2 or original."
        ) from error


def evaluation_transform(data: Data) -> Any:
    """Return timm's fixed resizing, crop and normalisation: a PIL image -> (C, image_size, image_size)."""
    transform = timm.data.create_transform(
        input_size=(data.channels, data.image_size, data.image_size),
        is_training=False,
        crop_pct=data.crop_ratio,
        crop_mode="squash" if data.resize == "squash" else "center",
        interpolation=data.interpolation,
        mean=data.mean,
        std=data.std,
    )
    transform.transforms.insert(0, _middle)
    return transform


def _middle(image: Image.Image) -> Image.Image:
    """Return the middle of a very long image: resized whole, a strip of a few pixels would take half a gigabyte."""
    width, height = image.size
    most = _LONGEST * min(width, height)
    left, top = max(0, width - most) // 2, max(0, height - most) // 2
    return image.crop((left, top, left + min(width, most), top + min(height, most))) if left or top else image
