"""Images of a data set that a network gets right or wrong, to be looked at (arXiv:2305.12972, Figure 2)."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from plainvision.data.batches import EvaluationBatches
from plainvision.data.kept import kept
from plainvision.fields import from_plain
from plainvision.training.evaluation import Prediction, evaluate
from plainvision.training.recipe import Data
from plainvision.training.resolutions import facts_about
from plainvision.training.scores import hardest

_BATCH = 64


@dataclass(frozen=True)
class ChosenImage:
    """An image, and what was predicted for it."""

    prediction: Prediction
    picture: Image.Image


def chosen_images(
    model: nn.Module,
    data: Data,
    *,
    classes: tuple[str, ...] | None = None,
    wrong: int = 0,
    correct: int = 0,
    device: str | torch.device | None = None,
    temperature: float = 1.0,
    keep: Path | None = None,
) -> list[ChosenImage]:
    """Return validation images of ``data``: ``wrong`` ones of the largest loss, then ``correct`` ones of the least.

    Fewer where there are not so many. Which they are is kept in the folder ``keep``, if one is given: the same call
    does not go through all images again.

    Raises:
        ValueError: a number is below 0, or the images are a stream, which cannot be read again.
        FileNotFoundError, ValueError: the images cannot be found, or are not of the network's classes.
    """
    if min(wrong, correct) < 0:
        raise ValueError(f"wrong={wrong} and correct={correct} are numbers of images, and must not be below 0.")
    images = EvaluationBatches(data, batch_size=_BATCH, classes=classes)
    if images.images is None:
        raise ValueError(
            f"{data.root!r} is a stream, and an image of it cannot be read once more. Give a folder or an archive."
        )

    def choose() -> list[Prediction]:
        found = evaluate(model, images, classes=images.classes, device=device, temperature=temperature).predictions
        errors = hardest([one for one in found if one.label != one.predicted], wrong)
        right = sorted((one for one in found if one.label == one.predicted), key=lambda one: (one.loss, one.name))
        return [*errors, *right[:correct]]

    about = {"wrong": wrong, "correct": correct, "temperature": temperature}
    chosen = kept(
        keep,
        {} if keep is None else about | facts_about(model, data, images),
        choose,
        taken_apart=lambda found: ({}, {"chosen": [asdict(one) for one in found]}),
        put_together=lambda _, plain: [from_plain(Prediction, one, "chosen") for one in plain["chosen"]],
    )
    return [ChosenImage(one, images.picture(one.name)) for one in chosen]
