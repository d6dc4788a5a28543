"""Outcomes that are made up, and plain computations that take one image after the other."""

import itertools
import math
from dataclasses import fields
from typing import Any

import numpy as np

from plainvision.dynamic.outcomes import Outcomes
from plainvision.layers.dynamic_conv import Option

ARRAYS = ("macs", "labels", "predictions", "log_confidences", "log_tops", "static_predictions", "mean_predictions")


def strides(*values: float) -> tuple[Option, ...]:
    return tuple(Option(stride=value) for value in values)


def made(
    *,
    images: int = 40,
    options: dict[str, tuple[Option, ...]] | None = None,
    default: tuple[Option, ...] = strides(2, 1),
    classes: int = 5,
    columns: int = 20,
    seed: int = 0,
    **changed: Any,
) -> Outcomes:
    """Return outcomes at random, a third of the predictions right, with many ties."""
    random = np.random.default_rng(seed)
    options = options or {"A": strides(1, 2, 3), "B": strides(0.5, 1, 2, 3)}
    permutations = tuple(itertools.product(*options.values()))
    shape = (images, len(permutations))
    labels = random.integers(0, classes, images).astype(np.uint16)

    def answers(*size: int) -> np.ndarray:
        found = random.integers(0, classes, size).astype(np.uint16)
        truth = labels.reshape(-1, *[1] * (len(size) - 1))
        return np.where(random.random(size) < 0.2, truth, found)

    whole = {
        "network": "tiny",
        "fingerprint": "0123",
        "sites": {site: f"layer{site}" for site in options},
        "permutations": permutations,
        "default": default,
        "macs": random.integers(1, 9, len(permutations)) * 100,
        "static_macs": 450,
        "classes": classes,
        "names": tuple(f"class/{index}.jpg" for index in range(images)),
        "labels": labels,
        "predictions": answers(*shape),
        "log_confidences": -random.integers(0, 5, shape).astype(np.float32),
        "log_tops": -random.integers(0, 5, shape).astype(np.float32),
        "static_predictions": answers(images),
        "mean_predictions": answers(images),
        "views": {"input zooms": answers(images, columns), "random crops": answers(images, columns)},
    }
    return Outcomes(**{**whole, **changed})


def answered(predictions: list[list[int]], labels: list[int], **changed: Any) -> Outcomes:
    """Return outcomes with these predictions, (N, P), at one site."""
    images, permutations = np.shape(predictions)
    plain = {
        "predictions": np.array(predictions, np.uint16),
        "labels": np.array(labels, np.uint16),
        "log_confidences": np.zeros((images, permutations), np.float32),
        "log_tops": np.zeros((images, permutations), np.float32),
        "macs": np.full(permutations, 100),
    }
    sizes = tuple(Option(size=1 + index) for index in range(permutations))
    return made(images=images, options={"A": sizes}, default=(Option(size=1),), classes=10, **{**plain, **changed})


def quality(outcomes: Outcomes, image: int, permutation: int) -> float:
    """Return equation 1 in double precision."""
    right = outcomes.predictions[image, permutation] == outcomes.labels[image]
    return math.exp(outcomes.log_confidences[image, permutation]) + bool(right)


def by_quality(outcomes: Outcomes, image: int) -> list[int]:
    """Return the permutations in descending order of quality, the lower index first where it is equal."""
    return sorted(range(len(outcomes.permutations)), key=lambda p: (-quality(outcomes, image, p), p))


def top1(predictions: list[int], outcomes: Outcomes) -> float:
    right = [int(p) == int(label) for p, label in zip(predictions, outcomes.labels, strict=True)]
    return 100 * sum(right) / len(right)


def same(one: Outcomes, other: Outcomes) -> None:
    """Raise if two outcomes differ in anything."""
    for name in (field.name for field in fields(Outcomes)):
        ours, theirs = getattr(one, name), getattr(other, name)
        if name == "views":
            assert [*ours] == [*theirs]
            for key in ours:
                np.testing.assert_array_equal(ours[key], theirs[key], strict=True)
        elif isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, theirs, strict=True)
        else:
            assert ours == theirs, name
