"""A trained network with all that it takes to use it in a program."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor, nn

from plainvision.confidences import confidences_of
from plainvision.data.rows import evaluation_transform, pixel_mode
from plainvision.data.settings import Data
from plainvision.training.network_words import network_words


@dataclass(frozen=True)
class Loaded:
    """A network in eval mode, how its images are prepared, and what its logits mean."""

    network: nn.Module
    """Images (B, C, H, W) -> logits (B, K)."""
    transform: Callable[[Image.Image], Tensor]
    """A picture of any size and mode -> (C, image_size, image_size), as in evaluation."""
    classes: tuple[str, ...] | None
    """Names of the K classes; None where nobody says them."""
    data: Data
    """How the images are prepared."""
    temperature: float = 1.0
    """Divides the logits for calibrated confidences, where `plainvision evaluate --calibrate` fitted one."""

    threshold: float | None = None
    """From which confidence on an image gets a label; None where it has one class, the likeliest."""

    def confidences(self, images: Tensor) -> Tensor:
        """Return the calibrated confidences (B, K) of images (B, C, H, W), prepared by ``transform``.

        They are a softmax, or sigmoids where an image has a set of labels.
        """
        with torch.inference_mode():
            return confidences_of(self.network(images).float(), self.threshold, self.temperature)


def load(what: str | Path, *, weights: Literal["best", "last"] = "best") -> Loaded:
    """Return the network in a run's folder, a weights file of ours or a deployed folder.

    Args:
        what: the path; ``:deployed`` behind a run or a file is its fused form.
        weights: which weights of a run.

    Raises:
        ValueError, OSError: there is no such network, or its file is damaged.
    """
    words = network_words(str(what))
    if not words.is_ours:
        raise ValueError(
            f"{str(what)!r} is no run, weights file or deployed folder. `plainvision.create_model` makes a network by "
            "its name."
        )
    found = words.load(weights=weights)
    prepare, mode = evaluation_transform(found.data), pixel_mode(found.data)
    return Loaded(
        found.model,
        lambda picture: prepare(picture.convert(mode)),
        found.classes,
        found.data,
        found.temperature,
        found.threshold,
    )
