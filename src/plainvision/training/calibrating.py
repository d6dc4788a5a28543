"""Fit a temperature on labelled images, and keep it with the weights."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from plainvision.confidences import Calibration, compare_with_accuracy, fit_temperature
from plainvision.data.batches import EvaluationBatches
from plainvision.deploy.writing import DESCRIPTION
from plainvision.files import locked, read_object, write_json
from plainvision.training.evaluation import at_work, checked_logits
from plainvision.training.network_words import NetworkWords
from plainvision.training.run_folder import RunFolder
from plainvision.training.weights_file import save_temperature


@dataclass(frozen=True)
class Fitted:
    """A temperature, and what it does on the images that it was fitted on."""

    temperature: float
    """Divides the logits."""
    images: int
    """How many images they were."""
    before: float
    """Expected calibration error at temperature 1, in points."""
    after: float
    """The same at the temperature."""

    def __str__(self) -> str:
        return (
            f"temperature {self.temperature:.3f}, fitted on {self.images} images; their calibration error goes from "
            f"{self.before:.2f} to {self.after:.2f} points"
        )


def calibrate(model: nn.Module, images: EvaluationBatches, device: str | torch.device | None = None) -> Fitted:
    """Return the temperature that makes the labels of ``images`` likeliest; all their logits are held in memory.

    Raises:
        ValueError: there is no image, the network answers NaN, or no temperature is the best.
    """
    logits, labels = [], []
    with at_work(model, device) as place:
        for batch in images:
            logits.append(checked_logits(model, batch, images.classes, place).cpu().numpy())
            labels.append(batch.labels.numpy())
    if not logits:
        raise ValueError("no image to calibrate on: the split is empty. Check data.root.")
    z, y = np.concatenate(logits), np.concatenate(labels)
    temperature = fit_temperature(z, y)
    return Fitted(temperature, len(y), _calibration(z, y, 1.0).error, _calibration(z, y, temperature).error)


class TemperaturePlace:
    """Where the temperature of a network is kept: the header of its weights' file, or the deploy.json of its folder.

    Raises:
        ValueError: a network by name has no such place.
    """

    def __init__(self, words: NetworkWords, weights: str = "best") -> None:
        folder = Path(words.name)
        if not words.is_ours:
            raise ValueError(
                f"{words.name} is a network by name, and there is no file of it that could keep a temperature. Give "
                "the folder of a run, a file of weights or a deployed folder; `plainvision fuse` writes a file."
            )
        self._is_deployed = (folder / DESCRIPTION).is_file()
        weights_file = folder / f"{weights}.safetensors" if folder.is_dir() else folder
        self.path = folder / DESCRIPTION if self._is_deployed else weights_file

    def keep(self, temperature: float) -> None:
        """Write the temperature, whole or not at all.

        Raises:
            ValueError: the run is in use, and would write its weights too.
            OSError: the file cannot be written.
        """
        if self._is_deployed:
            write_json(self.path, read_object(self.path) | {"temperature": temperature})
            return
        is_run = (self.path.parent / RunFolder.file).is_file()
        with locked(self.path.parent) if is_run else nullcontext():
            save_temperature(self.path, temperature)


def _calibration(logits: np.ndarray, labels: np.ndarray, temperature: float) -> Calibration:
    scaled = torch.from_numpy(logits) / temperature
    if labels.ndim == 2:  # of each label of each image
        return compare_with_accuracy(scaled.sigmoid().flatten().tolist(), (labels > 0).reshape(-1).tolist())
    right = logits.argmax(1) == labels
    return compare_with_accuracy(scaled.softmax(1).amax(1).tolist(), right.tolist())
