"""What the frozen features of a network tell apart: a linear classifier on them, and their nearest neighbours.

Linear probe: Alain and Bengio 2016, https://arxiv.org/abs/1610.01644. Neighbours vote by exp(cosine / 0.07), as Wu et
al. 2018 have it, https://arxiv.org/abs/1805.01978. Fit and search are scikit-learn's.

Each has one setting, which is never chosen on the images that are scored: it is the one of the highest top-1 on the
validation split where another split is scored, else by stratified cross-validation within the training split.

Shapes   N images, D features, K classes
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from plainvision.data.batches import EvaluationBatches
from plainvision.data.class_folders import MissingSplit
from plainvision.data.images import open_images
from plainvision.data.settings import Data
from plainvision.data.streams import is_stream
from plainvision.intervals import share_interval
from plainvision.tasks.features import Features, frozen_features

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""The C that are tried: the inverse of the penalty on the weights of standardised features."""
NEIGHBOURS = (1, 3, 5, 10, 20, 50, 100)
"""The numbers of neighbours that are tried."""
_TEMPERATURE = 0.07
_FOLDS = 5
_ROWS = 2048  # whose votes are counted at a time

Hits = dict[float, int]
Part = tuple[np.ndarray, np.ndarray]  # features (N, D) and labels (N,)


@dataclass(frozen=True)
class ProbeScore:
    """How a classifier on frozen features does; shares in per cent."""

    setting: float
    """C of the linear classifier, the number of neighbours of the other."""
    chosen_top1: float
    """Top-1 that the setting was chosen by."""
    top1: float
    interval: tuple[float, float]
    """Wilson's 95 % interval of it."""


@dataclass(frozen=True)
class LinearHead:
    """A linear classifier of features."""

    weight: np.ndarray
    """(K, D) float32."""
    bias: np.ndarray
    """(K,) float32."""

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return (N, K) of features (N, D)."""
        return features @ self.weight.T + self.bias


@dataclass(frozen=True)
class Probe:
    """What the frozen features of a network tell apart."""

    linear: ProbeScore
    neighbours: ProbeScore
    head: LinearHead
    """The linear classifier, trained on the training split."""
    classes: tuple[str, ...]
    split: str
    """The split that is scored."""
    chosen_on: str
    """What the settings were chosen on, in words."""
    images: int
    """Images that are scored."""
    training_images: int
    features: int
    """D."""
    skipped: tuple[str, ...]
    """Images that could not be read."""
    cached: bool
    """Whether all features were read from disk."""


def probe(
    model: nn.Module,
    data: Data,
    *,
    test_split: str | None = None,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    cache: Path | None = None,
) -> Probe:
    """Return how well a linear classifier and nearest neighbours do on the frozen features of ``model``.

    Args:
        model: a network with timm's `forward_features` and `forward_head`; it stays as it is.
        data: where the images are, and how they are prepared; training images get no augmentation.
        test_split: the split to score; None takes the one called ``test`` where there is one, else the validation
            split, whose images then choose no setting.
        batch_size: images per pass.
        device: where to compute features; None is where the model is.
        cache: the folder in which features are kept; None keeps none.

    Raises:
        ValueError, FileNotFoundError: the images cannot be read, a class has too few of them, or the network has no
            features.
    """
    training = replace(
        data, validation_split=data.train_split, validation_root=None, validation_per_class=data.train_per_class
    )
    classes = EvaluationBatches(training, batch_size=1).classes

    def read(part: Data) -> Features:
        return frozen_features(model, part, classes=classes, batch_size=batch_size, device=device, cache=cache)

    own = _found_split(data)
    judging = replace(data, validation_split=test_split or "test", validation_root=None)
    judging = replace(judging, validation_share=None, folds=None, fold=None)
    beside = data.draws or data.validation_root is not None or own != _found_split(judging)
    scores_test = beside and (test_split is not None or (_found_split(judging) == "test" and not is_stream(data.root)))
    train = read(training)
    choosing = read(data) if own is not None or not scores_test else None
    judged = read(judging) if scores_test else choosing
    assert judged is not None
    known = (train.values, train.labels)
    _check(known, classes)
    if choosing is not None and scores_test:
        folds: list[tuple[Part, Part]] = [(known, (choosing.values, choosing.labels))]
        chosen_on = f"top-1 on the split {own or data.validation_split}"
    else:
        folds = _folds(known)
        chosen_on = f"{len(folds)}-fold cross-validation on the split {data.train_split}"
    strength, chosen_linear = _best(_linear_hits, folds)
    neighbours, chosen_neighbours = _best(_neighbour_hits, folds)
    head = _fitted(known, strength, len(classes))
    asked = (judged.values, judged.labels)
    right = int((head.logits(judged.values).argmax(1) == judged.labels).sum())
    near = _neighbour_hits(known, asked)[neighbours]
    every = [one for one in (train, choosing, judged) if one is not None]
    return Probe(
        linear=_score(strength, chosen_linear, right, len(judged.labels)),
        neighbours=_score(neighbours, chosen_neighbours, near, len(judged.labels)),
        head=head,
        classes=classes,
        split=judging.validation_split if scores_test else own or data.validation_split,
        chosen_on=chosen_on,
        images=len(judged.labels),
        training_images=len(train.labels),
        features=train.values.shape[1],
        skipped=tuple(dict.fromkeys(name for one in every for name in one.skipped)),
        cached=all(one.cached for one in every),
    )


def _found_split(data: Data) -> str | None:
    """Return what the split of the validation images is called, "" where they lie in none; None where there are none.

    A root without a split called `validation` may have one under another usual name, which is then taken.
    """
    if is_stream(data.root):
        return data.validation_split
    try:
        return open_images(data, "validation").split
    except MissingSplit:
        return None


def _check(train: Part, classes: tuple[str, ...]) -> None:
    """Raise a `ValueError` where there is nothing to tell apart, or a class has no image."""
    counts = np.bincount(train[1], minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    if empty or len(classes) < 2:
        what = f"the class {empty[0]!r} has no image that can be read" if empty else "there is a single class"
        raise ValueError(f"nothing to train a classifier with: {what}. Add images, or check data.root.")


def _folds(train: Part) -> list[tuple[Part, Part]]:
    """Return parts to train with and parts to judge by, which have as many images of each class."""
    from sklearn.model_selection import StratifiedKFold

    values, labels = train
    folds = min(_FOLDS, int(np.bincount(labels)[np.unique(labels)].min()))
    if folds < 2:
        raise ValueError(
            "a class has a single training image, which cannot both train and judge. Give a split to choose the "
            "settings on beside the one that is scored (data.validation_split and test_split), or more images."
        )
    splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
    return [((values[a], labels[a]), (values[b], labels[b])) for a, b in splitter.split(values, labels)]


def _best(count: Callable[[Part, Part], Hits], folds: list[tuple[Part, Part]]) -> tuple[Any, float]:
    """Return the setting with the most hits, of equal ones the first, and its top-1."""
    totals: Hits = {}
    for train, judged in folds:
        for setting, hits in count(train, judged).items():
            totals[setting] = totals.get(setting, 0) + hits
    best = max(totals, key=lambda setting: totals[setting])
    return best, 100 * totals[best] / sum(len(judged[1]) for _, judged in folds)


def _linear_hits(train: Part, judged: Part) -> Hits:
    """Return for each C how many images get their class."""
    from sklearn.linear_model import LogisticRegression

    scaler = _scaler(train[0])
    values, asked = scaler.transform(train[0]), scaler.transform(judged[0])
    # Each starts from the one before, which has smaller weights: all of them take little longer than the last alone.
    classifier = LogisticRegression(max_iter=500, warm_start=True)
    hits: Hits = {}
    with _whether_converged_or_not():
        for strength in STRENGTHS:
            classifier.set_params(C=strength).fit(values, train[1])
            hits[strength] = int((classifier.predict(asked) == judged[1]).sum())
    return hits


def _fitted(train: Part, strength: float, classes: int) -> LinearHead:
    """Return the linear classifier, of the features as they are."""
    from sklearn.linear_model import LogisticRegression

    scaler = _scaler(train[0])
    with _whether_converged_or_not():
        found = LogisticRegression(C=strength, max_iter=500).fit(scaler.transform(train[0]), train[1])
    weight, bias = found.coef_.astype(np.float64), found.intercept_.astype(np.float64)
    if classes == 2:  # of two classes scikit-learn keeps the difference
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    weight = weight / scaler.scale_
    return LinearHead(weight.astype(np.float32), (bias - weight @ scaler.mean_).astype(np.float32))


def _scaler(values: np.ndarray) -> Any:
    from sklearn.preprocessing import StandardScaler

    return StandardScaler().fit(values)


def _whether_converged_or_not() -> warnings.catch_warnings:
    """Keep quiet about a fit that was stopped: that is a regularisation too, and what is chosen is what does best."""
    from sklearn.exceptions import ConvergenceWarning

    return warnings.catch_warnings(action="ignore", category=ConvergenceWarning)


def _neighbour_hits(train: Part, judged: Part) -> Hits:
    """Return for each number of neighbours how many images get their class."""
    from sklearn.neighbors import NearestNeighbors

    values, labels = train
    tried = [count for count in NEIGHBOURS if count <= len(labels)]
    search = NearestNeighbors(n_neighbors=tried[-1], metric="cosine", algorithm="brute").fit(values)
    hits: Hits = dict.fromkeys(tried, 0)
    for first in range(0, len(judged[1]), _ROWS):
        asked, wanted = judged[0][first : first + _ROWS], judged[1][first : first + _ROWS]
        distances, places = search.kneighbors(asked)
        votes = np.exp((1 - distances.astype(np.float64)) / _TEMPERATURE)
        named, rows = labels[places], np.arange(len(wanted))[:, None]
        sums = np.zeros((len(wanted), int(labels.max()) + 1))
        before = 0
        for count in tried:
            np.add.at(sums, (rows, named[:, before:count]), votes[:, before:count])
            before = count
            hits[count] += int((sums.argmax(1) == wanted).sum())
    return hits


def _score(setting: float, chosen: float, right: int, images: int) -> ProbeScore:
    low, high = share_interval(right, images)
    return ProbeScore(setting, chosen, 100 * right / images, (100 * low, 100 * high))
