"""What predictions say beyond top-1: scores per class, confusions, calibration, and one network against another."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plainvision.confidences import Calibration, compare_with_accuracy
from plainvision.intervals import paired_bound, share_interval
from plainvision.training.evaluation import Prediction


@dataclass(frozen=True)
class ClassScore:
    """How a class is recognised; shares in per cent, with 95 % intervals."""

    name: str
    images: int
    """Images of the class."""
    recall: float
    """Share of its images that get its name."""
    recall_interval: tuple[float, float]
    """Wilson's."""
    precision: float | None
    """Share of the images with its name that are its own; None where no image got it."""
    precision_interval: tuple[float, float]
    """Wilson's."""
    f1: float
    """Harmonic mean of both; 0 where no image of it is recognised."""
    f1_interval: tuple[float, float]
    """From Wilson's of the share of right ones among the images that are of the class or get its name."""


@dataclass(frozen=True)
class Confusion:
    """Images of a class that get the name of another."""

    label: str
    predicted: str
    images: int


@dataclass(frozen=True)
class PairedDifference:
    """Top-1 of two networks on the same images."""

    images: int
    only_first: int
    """Images that the first alone classifies rightly."""
    only_second: int
    """Images that the second alone classifies rightly."""

    @property
    def points(self) -> float:
        """Top-1 of the second less that of the first, in points."""
        return 100 * (self.only_second - self.only_first) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """95 % score interval of the difference, in points (Tango 1998)."""
        low = -paired_bound(self.only_first, self.only_second, self.images, 0.975)
        return 100 * low, 100 * paired_bound(self.only_second, self.only_first, self.images, 0.975)

    @property
    def p_value(self) -> float:
        """Of McNemar's exact test that both are equally good."""
        from scipy.stats import binomtest

        discordant = self.only_first + self.only_second
        return float(binomtest(self.only_first, discordant).pvalue) if discordant else 1.0

    def __str__(self) -> str:
        low, high = self.interval
        counts = f"{self.only_second} images only the second names rightly, {self.only_first} only the first"
        found = f"95 % interval {low:.1f} to {high:.1f}, McNemar p = {self.p_value:.2g}; {counts}, of {self.images}"
        if low <= 0 <= high:
            return f"the two cannot be told apart: the second differs by {self.points:+.1f} points, {found}"
        better = "better" if self.points > 0 else "worse"
        return f"the second is {better} by {abs(self.points):.1f} points, {found}"


def class_scores(predictions: Sequence[Prediction], classes: Sequence[str]) -> tuple[ClassScore, ...]:
    """Return the scores of each of ``classes`` that has images."""
    own = Counter(one.label for one in predictions)
    named = Counter(one.predicted for one in predictions)
    right = Counter(one.label for one in predictions if one.label == one.predicted)
    return tuple(
        class_score(name, images=own[name], given=named[name], right=right[name]) for name in classes if own[name]
    )


def class_score(name: str, *, images: int, given: int, right: int) -> ClassScore:
    """Return the scores of a class with ``images``, whose name ``given`` images get, ``right`` ones among them."""
    low, high = share_interval(right, images + given - right)
    return ClassScore(
        name,
        images,
        100 * right / images,
        _percent(share_interval(right, images)),
        100 * right / given if given else None,
        _percent(share_interval(right, given)),
        200 * right / (images + given),
        _percent((2 * low / (1 + low), 2 * high / (1 + high))),
    )


def confusion_matrix(predictions: Sequence[Prediction], classes: Sequence[str]) -> np.ndarray:
    """Return how many images (K, K) of each class, by row, get each name, by column."""
    index = {name: place for place, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for one in predictions:
        matrix[index[one.label], index[one.predicted]] += 1
    return matrix


def most_confused(predictions: Sequence[Prediction], most: int = 10) -> tuple[Confusion, ...]:
    """Return the pairs of classes with the most confused images, the worst first."""
    pairs = Counter((one.label, one.predicted) for one in predictions if one.label != one.predicted)
    ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(Confusion(label, predicted, count) for (label, predicted), count in ordered[:most])


def calibration(predictions: Sequence[Prediction]) -> Calibration:
    """Return how the confidences of ``predictions`` compare with how often they are right; none are a `ValueError`."""
    right = [one.label == one.predicted for one in predictions]
    return compare_with_accuracy([one.confidence for one in predictions], right)


def hardest(predictions: Sequence[Prediction], most: int) -> list[Prediction]:
    """Return the predictions with the largest losses, the largest first; a loss that is no number counts as such."""
    return sorted(predictions, key=lambda one: (-math.inf if math.isnan(one.loss) else -one.loss, one.name))[:most]


def compare_predictions(first: Sequence[Prediction], second: Sequence[Prediction]) -> PairedDifference:
    """Return how top-1 of two lists of predictions for the same images differs.

    Raises:
        ValueError: they are not of the same images, in the same order.
    """
    if [(one.name, one.label) for one in first] != [(one.name, one.label) for one in second] or not first:
        raise ValueError(
            f"predictions for {len(first)} and {len(second)} images, which are not the same: a paired test needs both "
            "networks on the same images. Evaluate both on the same data."
        )
    a, b = (np.array([one.label == one.predicted for one in each]) for each in (first, second))
    return PairedDifference(len(first), int((a & ~b).sum()), int((b & ~a).sum()))


def _percent(interval: tuple[float, float]) -> tuple[float, float]:
    return 100 * interval[0], 100 * interval[1]
