"""Images with boxes, masks or maps of labels: listed, read, transformed, collated.

Shapes   C channels, H height, W width, N objects
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from plainvision.data.archives import open_store
from plainvision.data.decoding import decode, reason
from plainvision.data.image_kinds import fingerprint
from plainvision.data.locations import Role, location, place
from plainvision.data.rows import Failure, pixel_mode
from plainvision.data.settings import Data
from plainvision.seeds import seeded
from plainvision.tasks.transforms import Target

Transform = Callable[[Tensor, Target], tuple[Tensor, Target]]


class SceneRow(NamedTuple):
    """An image that is not yet decoded: ``read`` returns it with its target."""

    read: Callable[[], tuple[Image.Image, Target]]
    name: str


@dataclass(frozen=True)
class SceneSample:
    """One row of a batch to be: an image (C, H, W) in [0, 1], or None when only ``skipped`` is to be told."""

    image: Tensor | None
    target: Target
    name: str
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class SceneBatch:
    """The images of one step, which need not be of one size, and the names of those that were skipped."""

    images: tuple[Tensor, ...]
    """Each (C, H, W) in [0, 1]."""
    targets: tuple[Target, ...]
    """Of each image."""
    names: tuple[str, ...]
    skipped: tuple[str, ...]

    def on(self, device: torch.device, *, channels_last: bool = False) -> "SceneBatch":
        """Return the batch on ``device``; the memory layout is left to the network, which makes a batch of them."""
        return replace(
            self,
            images=tuple(image.to(device) for image in self.images),
            targets=tuple(
                {name: value.to(device) if isinstance(value, Tensor) else value for name, value in target.items()}
                for target in self.targets
            ),
        )


class Scenes:
    """The images of a split, by number, and how each becomes an image with a target.

    Attributes:
        classes: names of the classes.
        labels: (N,) zeros: images have no class of their own, and batches draw from them alike.
        left_out: how often something was left out of them, by the reason.
    """

    classes: tuple[str, ...]
    left_out: dict[str, int]

    def __init__(self, data: Data, role: Role) -> None:
        root, self.split = location(data, role)
        self.store = open_store(root, "")
        self.where = place(data, role)
        self.mode, self.max_pixels = pixel_mode(data), data.max_pixels

    @property
    def labels(self) -> np.ndarray:
        return np.zeros(len(self), dtype=np.int64)

    def __len__(self) -> int:
        raise NotImplementedError

    def row(self, index: int) -> SceneRow:
        """Return the image, not yet decoded."""
        raise NotImplementedError

    def signs(self) -> Sequence[str]:
        """Return a text for each image, which changes with it."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Return the hash of all images' names and targets."""
        return fingerprint(self.signs(), [0] * len(self))

    def first_line(self) -> str:
        """Return what a person should know of the split, with what was left out of it."""
        left = "; ".join(f"{count} x {why}" for why, count in sorted(self.left_out.items()))
        return f"{self.split}: {len(self)} images" + (f"; left out: {left}" if left else "")

    def picture(self, path: str) -> Image.Image:
        """Return the image in a file of the store."""
        return decode(self.store.open(path, self.max_pixels), self.mode, self.max_pixels)


class SceneReader:
    """Reads an image into a row of a batch by ``transform``, or names it, or fails where ``data`` says so."""

    def __init__(self, data: Data, transform: Transform | None) -> None:
        self._stop, self._transform = data.corrupt == "stop", transform

    def __call__(self, row: SceneRow, seed: int | None = None) -> SceneSample | Failure:
        """Return the row decoded; ``seed`` is that of a random transform."""
        try:
            picture, target = row.read()
        except Exception as error:  # a damaged file makes decoders raise nearly anything
            if self._stop:
                return Failure(
                    f"cannot read the image {row.name}: {reason(error)}. Repair or remove it, or set data.corrupt=skip "
                    "to go on without such images; they are named and counted."
                )
            return SceneSample(None, {}, row.name, (f"{row.name} ({reason(error)})",))
        image = functional.to_dtype(functional.pil_to_tensor(picture), torch.float32, scale=True)
        if self._transform is not None:
            with seeded(seed) if seed is not None else nullcontext():
                image, target = self._transform(image, target)
        return SceneSample(image, target, row.name)


def collate(samples: list[SceneSample | Failure]) -> SceneBatch | Failure:
    """Return the batch of the samples that have an image, or the first failure."""
    for sample in samples:
        if isinstance(sample, Failure):
            return sample
    rows = [sample for sample in samples if isinstance(sample, SceneSample)]
    seen = [row for row in rows if row.image is not None]
    return SceneBatch(
        images=tuple(row.image for row in seen if row.image is not None),
        targets=tuple(row.target for row in seen),
        names=tuple(row.name for row in seen),
        skipped=tuple(dict.fromkeys(name for row in rows for name in row.skipped)),
    )
