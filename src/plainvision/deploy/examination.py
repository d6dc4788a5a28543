"""The images that a form of lower precision is calibrated with, and the others that it is judged by."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from plainvision.data.batches import EvaluationBatches
from plainvision.data.decoding import decode, is_image
from plainvision.data.settings import Data
from plainvision.deploy.gate import Gate, compare_classes
from plainvision.deploy.preprocessing import Preprocessing
from plainvision.inspection.eval_mode import eval_mode

CALIBRATION_IMAGES = 128
_BATCH = 16


class Judged(Protocol):
    """A batch of images to judge by: one of `plainvision.data.batches`, or anything alike."""

    @property
    def images(self) -> Tensor:
        """Images (B, C, H, W), normalised."""
        ...

    @property
    def labels(self) -> Tensor | None:
        """Their classes (B,); None where nobody knows them."""
        ...


@dataclass(frozen=True)
class Examination:
    """What decides whether a form may take its network's place."""

    calibration: Sequence[np.ndarray] = ()
    """Images (1, C, H, W), normalised, whose activations set the ranges of int8."""
    judged: Iterable[Judged] = ()
    """Batches of other images, read anew for each form; without any, the classes of calibration images are compared."""
    allow_loss: float | None = 1.0
    """Points of accuracy that may be lost; None allows any."""
    calibration_labels: Sequence[int] | None = None
    """Classes of the calibration images, where they are known."""

    @classmethod
    def of(
        cls,
        data: Data,
        *,
        classes: tuple[str, ...],
        calibrate: str | Path | None = None,
        allow_loss: float | None = 1.0,
        images: int = CALIBRATION_IMAGES,
    ) -> "Examination":
        """Return the examination by labelled images: the training split calibrates, the validation split judges.

        Args:
            data: where the images are, and how they are prepared.
            classes: the classes of the network, in the order of its logits.
            calibrate: a folder of images that calibrate instead.
            allow_loss: points of accuracy that may be lost; None allows any.
            images: how many calibrate, the same number of each class; 0 reads none.

        Raises:
            ValueError, FileNotFoundError: a split or the folder has no images.
        """
        labels, calibration = None, list[np.ndarray]()
        if calibrate is not None:
            calibration = folder_images(calibrate, Preprocessing.of(data), images)
        elif images:
            per_class = -(-images // len(classes))
            source = replace(
                data, validation_split=data.train_split, validation_root=None, validation_per_class=per_class
            )
            batches = EvaluationBatches(source, batch_size=1, classes=classes)
            chosen = list(islice(batches, images))
            calibration = [batch.images.numpy() for batch in chosen]
            labels = [int(batch.labels) for batch in chosen]
        judged = EvaluationBatches(data, batch_size=_BATCH, classes=classes)
        return cls(calibration, judged, allow_loss, labels)

    @classmethod
    def of_folder(
        cls, folder: str | Path, preprocessing: Preprocessing, *, allow_loss: float | None = 1.0
    ) -> "Examination":
        """Return the examination by images without labels: every second one calibrates, the others judge.

        Raises:
            ValueError: the folder has fewer than two images.
        """
        found = folder_images(folder, preprocessing, 2 * CALIBRATION_IMAGES)
        if len(found) < 2:
            raise ValueError(f"{folder} has one image, and two are the least: one calibrates, the other is compared.")
        others = [Unlabelled(torch.from_numpy(image)) for image in found[1::2]]
        return cls(found[::2], others, allow_loss)


@dataclass(frozen=True)
class Unlabelled:
    """Images whose classes nobody knows."""

    images: Tensor
    labels: None = None


class Reference:
    """What a network predicts for the images of an examination, found once and compared with each form.

    Args:
        model: images (B, C, H, W) -> logits (B, K).
        examination: the images.
    """

    def __init__(self, model: nn.Module, examination: Examination) -> None:
        self._batches: Iterable[Judged] = examination.judged or [
            Unlabelled(torch.from_numpy(image)) for image in examination.calibration
        ]
        self._allowed = examination.allow_loss
        self._classes: np.ndarray | None = None
        self._labels: np.ndarray | None = None
        self._model = model

    def gate(self, form: Callable[[np.ndarray], np.ndarray]) -> Gate:
        """Return how the classes of ``form``, images (B, C, H, W) -> logits (B, K), compare with the network's."""
        if self._classes is None:
            self._classes, self._labels = self._of_network()
        found = np.concatenate([form(batch.images.numpy()).argmax(1) for batch in self._batches])
        return compare_classes(self._classes, found, self._labels, self._allowed)

    def _of_network(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the network's classes and the labels of the images; None where not every batch has them."""
        classes, labels = [], []
        with eval_mode(self._model), torch.inference_mode():
            for batch in self._batches:
                classes.append(self._model(batch.images.clone()).argmax(1).numpy())  # a pass may write into its images
                labels += [] if batch.labels is None else [batch.labels.numpy()]
        return np.concatenate(classes), np.concatenate(labels) if len(labels) == len(classes) else None


def folder_images(folder: str | Path, preprocessing: Preprocessing, most: int) -> list[np.ndarray]:
    """Return images (1, C, H, W) of a folder, normalised, spread over its files in their order.

    Raises:
        ValueError: the folder has no image that can be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder. Give a folder that holds images.")
    paths = sorted(path for path in folder.rglob("*") if is_image(path.name))
    chosen = paths[:: max(1, len(paths) // most)]
    found = list(islice(_read(chosen, preprocessing), most))
    if not found:
        raise ValueError(
            f"{folder} holds no image that can be read, among {len(paths)} files with an image's name. "
            "Give a folder of images like those that the network will see."
        )
    return found


def _read(paths: Iterable[Path], preprocessing: Preprocessing) -> Iterator[np.ndarray]:
    for path in paths:
        try:
            image = decode(path.open("rb"), "L" if preprocessing.channels == 1 else "RGB")
        except Exception:  # a damaged file makes decoders raise nearly anything; the others calibrate
            continue
        yield preprocessing.normalised(preprocessing.pixels(image)[None])
