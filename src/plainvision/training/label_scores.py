"""Scores of networks that give an image a set of labels: average precision, and F1 above a threshold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from plainvision.training.scores import ClassScore, class_score

# Draws of the bootstrap, fewer where images and labels are many: so many marks are drawn in all.
_MOST_DRAWS, _FEWEST_DRAWS, _MOST_MARKS = 1000, 100, 10**8


@dataclass(frozen=True)
class Figure:
    """A figure in per cent with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} % ({self.low:.1f} to {self.high:.1f})"


@dataclass(frozen=True)
class LabelFigures:
    """All figures of a network's answers; the intervals are percentiles of a bootstrap over the images."""

    map: Figure
    """Mean of the average precisions of labels that images have."""
    macro_f1: Figure
    """Mean of these labels' F1."""
    micro_f1: Figure
    """F1 over all labels of all images together."""
    precision: tuple[Figure | None, ...]
    """Average precision of each label; None where no image has it."""
    draws: int
    """How often images were drawn."""


class Ranking:
    """The images of each label in the order of their confidences, which resampling does not change.

    Args:
        truth: (N, K) bool, the labels that images have.
        confidences: (N, K).
    """

    def __init__(self, truth: np.ndarray, confidences: np.ndarray) -> None:
        self._order = np.argsort(-confidences, axis=0, kind="stable")
        ranked = np.take_along_axis(confidences, self._order, 0)
        self._truth = np.take_along_axis(truth, self._order, 0)
        # Equal confidences cross a threshold together: each counts at the last of its like.
        places = np.arange(len(ranked))[:, None]
        last = np.vstack([ranked[1:] != ranked[:-1], np.ones((1, ranked.shape[1]), bool)])
        ends = np.where(last, places, len(ranked))
        self._ends = np.minimum.accumulate(ends[::-1], axis=0)[::-1]

    def average_precision(self, counts: np.ndarray | None = None) -> np.ndarray:
        """Return (K,) as `sklearn.metrics.average_precision_score`, NaN where no image has the label.

        ``counts``, (N,), say how often each image counts; None is once.
        """
        often = np.ones(len(self._order)) if counts is None else counts
        seen = often[self._order]
        found = np.cumsum(seen * self._truth, axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = found / np.cumsum(seen, axis=0)
            at_ends = np.nan_to_num(np.take_along_axis(precision, self._ends, 0))
            return (seen * self._truth * at_ends).sum(0) / found[-1]


class LabelPredictions:
    """What a network says of images with sets of labels.

    Args:
        truth: (N, K) bool, the labels that images have.
        confidences: (N, K), the network's.
        threshold: a label of this confidence or more is given.
    """

    def __init__(self, truth: np.ndarray, confidences: np.ndarray, threshold: float) -> None:
        self.truth, self.confidences, self.threshold = truth, confidences, threshold
        self.given = confidences.astype(np.float64) >= threshold

    @cached_property
    def average_precision(self) -> np.ndarray:
        """(K,) in per cent; NaN where no image has the label."""
        return 100 * Ranking(self.truth, self.confidences).average_precision()

    @property
    def map(self) -> float:
        """Mean of the average precisions of labels that images have, per cent; NaN where a confidence is no number."""
        known = self.average_precision[self.truth.any(0)]
        return float(known.mean()) if len(known) and np.isfinite(self.confidences).all() else float("nan")

    @property
    def exact(self) -> int:
        """Images that get all of their labels and no other."""
        return int((self.given == self.truth).all(1).sum())

    @cached_property
    def f1(self) -> tuple[float, float]:
        """Macro F1, over labels that images have, and micro F1, per cent."""
        return tuple(100 * one for one in _f1(self.truth, self.given, np.ones(len(self.truth))))  # type: ignore[return-value]

    def figures(self) -> LabelFigures:
        """Return the figures with their intervals."""
        ranking = Ranking(self.truth, self.confidences)
        drawn = []
        for counts in _draws(self.truth):
            own = 100 * ranking.average_precision(counts)
            drawn.append([*own, _mean(own), *(100 * one for one in _f1(self.truth, self.given, counts))])
        found = [*self.average_precision, self.map, *self.f1]
        *precision, whole, macro, micro = map(_interval, found, np.array(drawn).T)
        kept = tuple(one if self.truth[:, place].any() else None for place, one in enumerate(precision))
        return LabelFigures(whole, macro, micro, kept, len(drawn))

    def class_scores(self, classes: Sequence[str]) -> tuple[ClassScore, ...]:
        """Return recall, precision and F1 of each of ``classes`` that images have, with Wilson's intervals."""
        images, given, right = (one.sum(0).tolist() for one in (self.truth, self.given, self.truth & self.given))
        return tuple(
            class_score(name, images=images[place], given=given[place], right=right[place])
            for place, name in enumerate(classes)
            if images[place]
        )


def compare_labels(first: LabelPredictions, second: LabelPredictions) -> str:
    """Return in words how the mean average precision of the second differs, on the same images in the same order."""
    a, b = (Ranking(one.truth, one.confidences) for one in (first, second))
    drawn = [100 * (_mean(b.average_precision(one)) - _mean(a.average_precision(one))) for one in _draws(first.truth)]
    found = _interval(second.map - first.map, np.array(drawn))
    told = f"95 % interval {found.low:.1f} to {found.high:.1f}, from {len(drawn)} draws of {len(first.truth)} images"
    if not found.low > 0 and not found.high < 0:
        return f"the two cannot be told apart: the mAP of the second differs by {found.value:+.1f} points, {told}"
    better = "better" if found.value > 0 else "worse"
    return f"the second is {better} by {abs(found.value):.1f} points of mAP, {told}"


def _draws(truth: np.ndarray) -> Iterator[np.ndarray]:
    """Yield how often each image is drawn, (N,), the same numbers for as many images and labels."""
    count = len(truth)
    random = np.random.default_rng(0)
    for _ in range(min(_MOST_DRAWS, max(_FEWEST_DRAWS, _MOST_MARKS // truth.size))):
        yield random.multinomial(count, np.full(count, 1 / count)).astype(float)


def _f1(truth: np.ndarray, given: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Return macro F1 over labels that images have, and micro F1, of images that count so often."""
    both, either = counts @ (truth & given), counts @ truth.astype(float) + counts @ given.astype(float)
    has = counts @ truth > 0
    macro = _mean(2 * both[has] / either[has])
    return macro, float(2 * both.sum() / either.sum()) if either.sum() else 0.0


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _interval(value: float, drawn: np.ndarray) -> Figure:
    known = drawn[~np.isnan(drawn)]
    low, high = np.percentile(known, (2.5, 97.5)) if len(known) else (float("nan"), float("nan"))
    return Figure(float(value), float(low), float(high))
