"""Confidences: how they compare with how often they are right, and the temperature that corrects them.

Guo et al. 2017, https://arxiv.org/abs/1706.04599. Quantized forms are calibrated too, in another sense: see
`plainvision.deploy.quantizing`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_BINS = 15
# A temperature beyond these says that something else is wrong.
COLDEST, HOTTEST = 0.02, 50.0


@dataclass(frozen=True)
class Calibration:
    """How confidences compare with how often they are right."""

    error: float
    """Expected calibration error in points: the mean distance of confidence and accuracy over bins, by their images.
    NaN where a confidence is."""
    bins: tuple[tuple[int, float, float], ...]
    """Of each bin that has images: their number, mean confidence, and accuracy, in per cent."""


def confidences_of(logits: "Tensor", threshold: float | None, temperature: float = 1.0) -> "Tensor":
    """Return the confidence (..., K) in each class: sigmoids where ``threshold`` says that an image has any of them.

    Without a threshold it has one, and they are a softmax. The logits are divided by the temperature.
    """
    scaled = logits / temperature
    return scaled.softmax(-1) if threshold is None else scaled.sigmoid()


def compare_with_accuracy(confidences: Sequence[float], right: Sequence[bool], bins: int = _BINS) -> Calibration:
    """Return the calibration over bins of equal width.

    Raises:
        ValueError: no confidences.
    """
    if not len(confidences):
        raise ValueError("there is no prediction to compare confidences with. Evaluate at least one image.")
    confidence, hits = np.asarray(confidences, np.float64), np.asarray(right, bool)
    if not np.isfinite(confidence).all():
        return Calibration(math.nan, ())
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = []
    for number in np.unique(place):
        here = place == number
        rows.append((int(here.sum()), 100 * float(confidence[here].mean()), 100 * float(hits[here].mean())))
    error = sum(count * abs(mean - share) for count, mean, share in rows) / len(confidence)
    return Calibration(error, tuple(rows))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature by which logits are divided to give the labels the highest likelihood.

    Dividing changes how sure the network is, and never which class is the likeliest. Of sets of labels, confidences are
    sigmoids, and what has a confidence of 0.5 keeps it.

    Args:
        logits: (N, K) of images that the network was not trained on.
        labels: (N,) whole numbers below K, or (N, K) marks of the labels that each image has.

    Raises:
        ValueError: a logit is no finite number, or no temperature is the best, as where every image is right.
    """
    from scipy.optimize import minimize_scalar  # half a second, which not every command has to wait for

    if not len(logits) or not np.isfinite(logits).all():
        raise ValueError(
            "a temperature needs images whose logits are finite. Where the network answers NaN, its weights are "
            "damaged or diverged in training: take other weights."
        )
    logits = np.asarray(logits, np.float64)
    sets = labels.ndim == 2
    if not sets:
        logits = logits - logits.max(1, keepdims=True)
        own = logits[np.arange(len(labels)), labels]

    def loss(logarithm: float) -> float:
        scale = math.exp(-logarithm)
        if sets:
            return float(np.mean(np.logaddexp(0, scale * logits) - scale * logits * labels))
        return float(np.mean(np.log(np.exp(scale * logits).sum(1)) - scale * own))

    # As a function of 1 / T the loss is convex, so that there is one minimum, or none inside.
    bounds = math.log(COLDEST), math.log(HOTTEST)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8}).x
    if min(found - bounds[0], bounds[1] - found) < 1e-3:
        right = int(((logits > 0) == (labels > 0)).all(1).sum() if sets else (own == 0).sum())
        raise ValueError(
            f"no temperature from {COLDEST:g} to {HOTTEST:g} fits best: {right} of {len(labels)} images are named "
            "rightly, and where all are, or by chance alone, confidences cannot be compared with errors. Give more "
            "images that training has not seen."
        )
    return math.exp(found)


def check_temperature(value: object, name: str = "temperature") -> None:
    """Raise a `ValueError`, which calls it ``name``, where a value can be no temperature."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not COLDEST <= value <= HOTTEST:  # type: ignore[operator]
        raise ValueError(
            f"{name}={value!r} is no temperature: that is a number from {COLDEST:g} to {HOTTEST:g}, and 1 changes "
            "nothing. Fit one with `plainvision evaluate --calibrate`."
        )
