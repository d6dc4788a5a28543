"""What the answers of all permutations say, counted over arrays (arXiv:2103.09891).

Shapes   N images, P permutations
Units    accuracies are top-1 in per cent, costs are multiply-adds for one image
Memory   N is up to 50,000 and P up to 625: what is wider than a byte is computed for some rows at a time
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

# 32 MB of the widest type; the number of rows follows from it.
_VALUES_AT_A_TIME = 2**22
_SHUFFLES = 20


@dataclass(frozen=True)
class Bounds:
    """Top-1 in per cent of an oracle that picks each image's worst, median or best permutation (section 3.3)."""

    static: float
    """The trained network, without an oracle."""
    worst: float
    """Every permutation is right."""
    median: float
    """The permutation of median quality is right, the lower of the two where P is even."""
    best: float
    """Any permutation is right."""
    permutations: int
    """P."""
    images: int
    """N."""

    @property
    def volatility(self) -> float:
        """Best less worst, in percentage points (section 3.4)."""
        return self.best - self.worst


@dataclass(frozen=True)
class Greedy:
    """Permutations in the order in which they help most (section 4.2)."""

    order: tuple[int, ...]
    """Indices of the permutations."""
    best: list[float]
    """Best case of the first 1, 2, ... of them, in per cent."""


@dataclass(frozen=True, eq=False)
class Preferences:
    """Which permutation is best for which image (sections 3.3 and 4.5)."""

    preferred: np.ndarray
    """Index of each image's permutation of highest quality, (N,)."""
    permutations: np.ndarray
    """Share of the images that prefer each permutation, (P,), from 0 to 1."""
    options: dict[str, dict[str, float]]
    """Share of the images that prefer each option, from 0 to 1, by the site and the option's words."""


@dataclass(frozen=True, eq=False)
class Efficiency:
    """The cheapest permutations that answer like another network (section 4.6)."""

    like: str
    """What is emulated: "static", the trained network, or "best", the best case."""
    accuracy: float
    """Top-1 of the permutations chosen, in per cent; it is that of what they emulate."""
    mean_macs: float
    """Their multiply-adds, the mean over the images."""
    reference_macs: float
    """Those of what they emulate."""
    chosen: np.ndarray
    """Index of the permutation chosen for each image, (N,); -1 is the trained network itself."""

    @property
    def factor(self) -> float:
        """How many times fewer multiply-adds they need than what they emulate."""
        return self.reference_macs / self.mean_macs


@dataclass(frozen=True)
class Control:
    """What else reaches how much with as many answers per image as there are permutations."""

    name: str
    """What it is."""
    top1: float
    """Its top-1, in per cent."""
    uses_labels: bool
    """Whether it is an oracle, which is told the true class."""
    note: str
    """How it was counted."""


def per_cent(right: np.ndarray) -> float:
    """Return how many of the values, (N,), are true, in per cent."""
    return 100 * int(np.count_nonzero(right)) / len(right)


def bounds(correct: np.ndarray, static_correct: np.ndarray) -> Bounds:
    """Return the worst, median and best case of what is right, (N, P), beside the trained network's, (N,)."""
    images, permutations = correct.shape
    right = np.count_nonzero(correct, axis=1)
    # A right answer always has the higher quality (eq. 1): in ascending order all wrong ones come first, and the
    # prediction at the median's position is right if they all fit before it.
    wrong = permutations - right
    return Bounds(
        static=per_cent(static_correct),
        worst=per_cent(wrong == 0),
        median=per_cent(wrong <= (permutations - 1) // 2),
        best=per_cent(right > 0),
        permutations=permutations,
        images=images,
    )


def preferred(correct: np.ndarray, log_confidences: np.ndarray) -> np.ndarray:
    """Return the index of each image's permutation of highest quality, (N,), from two arrays (N, P) (eq. 1).

    Quality is the confidence in the true class, plus 1 for a right answer. Ties go to the lower index.
    """
    found = np.empty(len(correct), np.int64)
    for rows in _rows(correct.shape):
        right = correct[rows]
        # Float32 has few numbers just below 1 and 2, so that qualities would tie. Logarithms differ there; they are
        # compared among the right answers, or among all where none is right.
        competes = right | ~right.any(axis=1, keepdims=True)
        # A confidence of 0, whose logarithm is -inf, still comes before what does not compete.
        quality = np.maximum(log_confidences[rows], np.finfo(np.float32).min)
        found[rows] = np.where(competes, quality, -np.inf).argmax(axis=1)
    return found


def unique_predictions(predictions: np.ndarray) -> np.ndarray:
    """Return the number of different classes in each row of predictions: (N, P) -> (N,) (section 4.2)."""
    found = np.empty(len(predictions), np.int64)
    for rows in _rows(predictions.shape):
        found[rows] = np.count_nonzero(_starts(np.sort(predictions[rows], axis=1)), axis=1)
    return found


def majority_vote(predictions: np.ndarray) -> np.ndarray:
    """Return the most frequent class in each row of predictions: (N, P) -> (N,); ties go to the lowest class."""
    found = np.empty(len(predictions), predictions.dtype)
    positions = np.arange(predictions.shape[1], dtype=np.int32)
    for rows in _rows(predictions.shape):
        in_order = np.sort(predictions[rows], axis=1)
        began = np.maximum.accumulate(np.where(_starts(in_order), positions, 0), axis=1)
        # The first place that is furthest from where its class began is in the longest run, of the lowest class.
        furthest = (positions - began).argmax(axis=1, keepdims=True)
        found[rows] = np.take_along_axis(in_order, furthest, axis=1)[:, 0]
    return found


def greedy(correct: np.ndarray, k: int) -> Greedy:
    """Return the ``k`` permutations that, one after the other, make most further images right (section 4.2).

    Args:
        correct: which permutation is right for which image, (N, P).
        k: how many, from 1 to P. Ties go to the lower index; so does everything once nothing helps any more.
    """
    images, permutations = correct.shape
    gains = np.count_nonzero(correct, axis=0)
    missing = np.ones(images, bool)
    order: list[int] = []
    best: list[float] = []
    while len(order) < k and gains.any():
        index = int(gains.argmax())
        newly = missing & correct[:, index]
        # An image is taken from the gains once, when it is won; so all steps together read the array once.
        gains -= np.count_nonzero(correct[newly], axis=0)
        missing &= ~newly
        order.append(index)
        best.append(per_cent(~missing))
    used = set(order)
    order += [index for index in range(permutations) if index not in used][: k - len(order)]
    best += [best[-1] if best else 0.0] * (k - len(best))
    return Greedy(tuple(order), best)


def cheapest(predictions: np.ndarray, wanted: np.ndarray, macs: np.ndarray) -> np.ndarray:
    """Return each image's cheapest permutation that predicts the class wanted, (N,); -1 where none does.

    Args:
        predictions: (N, P).
        wanted: classes, (N,).
        macs: of each permutation, (P,). Ties go to the lower index.
    """
    order = np.argsort(macs, kind="stable")  # the first that fits is the cheapest
    found = np.empty(len(wanted), np.int64)
    for rows in _rows(predictions.shape):
        same = predictions[rows].take(order, axis=1) == wanted[rows, None]
        found[rows] = np.where(same.any(axis=1), order[same.argmax(axis=1)], -1)
    return found


def controls(
    predictions: np.ndarray,
    labels: np.ndarray,
    log_tops: np.ndarray,
    mean_predictions: np.ndarray | None,
    views: Mapping[str, np.ndarray],
) -> list[Control]:
    """Return the accuracies to hold against the best case; `Outcomes` describes the arrays."""
    count = predictions.shape[1]
    few = [f"{view.shape[1]} {name}" for name, view in views.items() if view.shape[1] < count]
    found = []

    def add(name: str, right: np.ndarray, note: str, oracle: bool = False) -> None:
        found.append(Control(name, per_cent(right), oracle, note))

    for name, view in views.items():
        if view.shape[1] >= count:
            seen = f"the trained network is right for any of {count} views, the image as it is among them"
            add(f"best of {count} {name}", (view[:, :count] == labels[:, None]).any(axis=1), seen, oracle=True)
    if mean_predictions is not None:
        note = "the class of the highest mean probability"
        add(f"mean softmax of the {count}", mean_predictions == labels, note)
    vote, surest = majority_vote(predictions), predictions[np.arange(len(labels)), log_tops.argmax(axis=1)]
    add("majority vote", vote == labels, "the most frequent prediction; ties go to the lowest class")
    note = "the prediction of the highest probability; ties go to the lower permutation"
    add("most confident", surest == labels, note)
    note = f"any permutation predicts the label of a random image, the mean of {_SHUFFLES} shuffles"
    if few:
        note += f"; not in the table, with fewer than {count} views: {', '.join(few)}"
    return [*found, Control("labels shuffled", shuffled_coverage(predictions, labels), True, note)]


def shuffled_coverage(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return for how many images, in per cent, any of the predictions (N, P) is the label of a random image.

    It is the mean over 20 shuffles of the labels (N,), the same ones each time.
    """
    random = np.random.default_rng(0)
    shuffles = [random.permutation(labels) for _ in range(_SHUFFLES)]
    return float(np.mean([per_cent((predictions == labels[:, None]).any(axis=1)) for labels in shuffles]))


def _rows(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield the rows of an array (N, P), as many at a time as memory allows."""
    step = max(1, _VALUES_AT_A_TIME // shape[1])
    return (slice(start, start + step) for start in range(0, shape[0], step))


def _starts(in_order: np.ndarray) -> np.ndarray:
    """Return where, in rows of sorted values, a value stands for the first time, (N, P)."""
    new = np.ones(in_order.shape, bool)
    new[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
    return new
