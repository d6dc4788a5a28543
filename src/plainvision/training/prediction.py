"""The likeliest classes of photographs, in batches, by the same steps as in evaluation."""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import torch
from PIL import Image
from torch import nn

from plainvision.confidences import check_temperature, confidences_of
from plainvision.data.photographs import Photograph, Photographs, Source
from plainvision.data.rows import Batch
from plainvision.deploy.folder import Answer
from plainvision.deploy.preprocessing import Preprocessing
from plainvision.inspection.devices import device_of, usable_device
from plainvision.inspection.eval_mode import eval_mode
from plainvision.inspection.foreign import Foreign
from plainvision.showing import one_line
from plainvision.training.evaluation import data_of
from plainvision.training.network_words import network_words
from plainvision.training.recipe import Data


@dataclass(frozen=True)
class NamedAnswer(Answer):
    """The classes of one image, the likeliest first, and its name."""

    name: str
    """Its path as it was given; a member of an archive stands behind the path of the archive."""
    photograph: Photograph = field(repr=False, compare=False)
    """Where it is."""


class Predictions(Iterator[NamedAnswer]):
    """An answer for each image that can be read, in their order, computed as they are asked for.

    Attributes:
        skipped: the images up to here that could not be read, each `NAME (reason)`; you may clear it.
    """

    def __init__(self, photographs: Photographs, answers: Iterator[tuple[list[NamedAnswer], tuple[str, ...]]]) -> None:
        self.skipped: list[str] = []
        self._photographs, self._answers = photographs, self._each(answers)

    def __next__(self) -> NamedAnswer:
        return next(self._answers)

    def open(self, answer: NamedAnswer) -> BinaryIO:
        """Return the file of an image, to be closed by the caller.

        Raises:
            ValueError: the image was given as a picture, and has no file.
            OSError: the file is gone.
        """
        return self._photographs.open(answer.photograph)

    def _each(self, batches: Iterator[tuple[list[NamedAnswer], tuple[str, ...]]]) -> Iterator[NamedAnswer]:
        seen = unread = 0
        first = ""
        for answers, skipped in batches:
            seen, unread, first = seen + len(answers), unread + len(skipped), first or "".join(skipped[:1])
            self.skipped += skipped
            yield from answers
        if not seen and not unread:
            raise ValueError("no image was given. Give photographs, folders or archives of them.")
        if not seen:
            others = f"none of {unread} images" if unread > 1 else "no image"
            which = "the first is" if unread > 1 else "it is"
            raise ValueError(f"{others} could be read; {which} {first}. Correct its path, or give other images.")


def predict(
    model: str | Path | nn.Module,
    images: Source | Iterable[Source],
    *,
    classes: tuple[str, ...] | None = None,
    data: Data | Preprocessing | None = None,
    temperature: float | None = None,
    threshold: float | None = None,
    top: int = 5,
    batch_size: int = 64,
    device: str | torch.device | None = None,
) -> Predictions:
    """Return an iterator over the ``top`` classes of each image; what cannot be read is named in its ``skipped``.

    Args:
        model: a run's folder, a weights file, a deployed folder, or a network: images (B, C, H, W) -> logits (B, K).
        images: paths of photographs, of folders with all that they hold, or of archives, and pictures of Pillow.
        classes: names of the K classes in the order of the logits; None takes the model's, or numbers.
        data: how images are prepared; None asks the model. Where images are is not asked.
        temperature: divides the logits, for calibrated confidences; None takes the model's, or 1.
        threshold: of a network that gives an image a set of labels, from which confidence on; None takes the model's,
            or that an image has one class.
        top: how many classes an answer has; of fewer classes all.
        batch_size: images per pass.
        device: where to compute; None is a GPU where there is one, for a network where that is.

    Raises:
        ValueError: there is no such model, it does not say how images are prepared, ``top`` or ``batch_size`` is below
            1, or ``temperature`` is none; while iterating, no image can be read, ``classes`` are not the network's, or
            it answers NaN.
        FileNotFoundError: the folder of a run has no weights.
    """
    for name, value in (("top", top), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name}={value} must be above zero.")
    if temperature is not None:
        check_temperature(temperature)
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold} is no confidence. Give a number from 0 to 1, such as 0.5.")
    if not isinstance(model, nn.Module):
        words = network_words(os.fspath(model))
        if not words.is_ours:
            raise ValueError(
                f"there is no run, weights file or deployed folder {words.name!r}. Correct the path; a network by name "
                f"is given itself, such as plainvision.create_model({words.name!r}, pretrained=True)."
            )
        found = words.load()
        model, classes, data = found.model, classes or found.classes, data or found.data
        temperature = found.temperature if temperature is None else temperature
        if found.threshold is None and threshold is not None:
            raise ValueError(
                f"threshold={threshold} and {words.name}, which names the one class of an image: a threshold is for "
                "networks that give it a set of labels. Leave it out, and look at the confidences."
            )
        threshold = found.threshold if threshold is None else threshold
        device = torch.device("cpu") if isinstance(model, Foreign) and device is None else usable_device(device)
    data = data_of(model) if data is None else data
    data = Data(**asdict(data)) if isinstance(data, Preprocessing) else data
    sources = [images] if isinstance(images, str | Path | Image.Image) else images
    photographs = Photographs(sources, data, batch_size=batch_size)
    means = _Meaning(classes, temperature or 1.0, threshold)
    return Predictions(photographs, _batches(model, photographs, means, top, device))


@dataclass(frozen=True)
class _Meaning:
    """What the logits mean."""

    classes: tuple[str, ...] | None
    temperature: float
    threshold: float | None


def _batches(
    model: nn.Module,
    photographs: Photographs,
    means: "_Meaning",
    top: int,
    device: str | torch.device | None,
) -> Iterator[tuple[list[NamedAnswer], tuple[str, ...]]]:
    """Yield the answers and the skipped images of each batch; ``model`` goes back to its device and its mode."""
    home = device_of(model)
    used = torch.device(device) if device is not None else home
    try:
        model.to(used)
        for batch, its in photographs.batches():
            answers = _answers(model, batch, its, means, top, used) if batch.names else []
            yield answers, batch.skipped
    finally:
        model.to(home)


def _answers(
    model: nn.Module,
    batch: Batch,
    photographs: tuple[Photograph, ...],
    means: "_Meaning",
    top: int,
    device: torch.device,
) -> list[NamedAnswer]:
    with eval_mode(model), torch.inference_mode():
        logits = _logits(model, batch.images.to(device))
        kinds, classes = logits.shape[1], means.classes
        if classes and len(classes) != kinds:
            some = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
            raise ValueError(
                f"the network has {kinds} classes and {len(classes)} names were given ({some}). Give a name for each, "
                "in the order of the logits."
            )
        names = classes or tuple(map(str, range(kinds)))
        # At least five, as in evaluation: which of two equal logits comes first may depend on how many are asked for.
        # All, where an image may get any number of them.
        asked = kinds if means.threshold is not None else min(max(top, 5), kinds)
        ranked = logits.topk(asked).indices
        shares = confidences_of(logits, means.threshold, means.temperature).gather(1, ranked).tolist()
    answers = []
    for number, best, confidences in zip(batch.labels.tolist(), ranked.tolist(), shares, strict=True):
        one = photographs[number]
        if not all(map(math.isfinite, confidences)):
            raise ValueError(
                f"the network's answer for {one.name} is no number: its weights are damaged or diverged in training. "
                "Take other weights."
            )
        own = tuple(names[i] for i in best)
        given = None
        if means.threshold is not None:
            given = own[: sum(confidence >= means.threshold for confidence in confidences)]
        answers.append(NamedAnswer(own[:top], tuple(confidences[:top]), one.name, one, labels=given))
    return answers


def _logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    try:
        return model(images).float()
    except (ValueError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # what networks and runtimes raise about images of another size is anything
        _, channels, height, width = images.shape
        why = one_line(error, 300)
        raise ValueError(
            f"the network does not take images of {channels} x {height} x {width} ({why}). Give the image_size and the "
            "channels that it was trained or exported with; a run and a deployed folder know theirs."
        ) from error
