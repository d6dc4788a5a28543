"""What an image counts in the loss, where classes have unequal numbers of images."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def balanced_weights(labels: np.ndarray, classes: int) -> Tensor:
    """Return the weight n / (K n_k) of each class: all then weigh the same together, and an image 1 in the mean.

    ``labels``, (N,), are those of the images. A class without images has the weight 0 and is not counted in K. The
    heuristic is King and Zeng's (2001), as in scikit-learn's `compute_class_weight("balanced")`.
    """
    counts = np.bincount(labels, minlength=classes)
    there = counts > 0
    weights = np.divide(len(labels) / there.sum(), counts, out=np.zeros(classes), where=there)
    return torch.tensor(weights, dtype=torch.float32)


def image_weights(targets: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Return the weight (B,) of each image by its targets (B, K): that of its class, or of its shares of classes.

    What label smoothing spreads over all classes is left out: it would make images of frequent classes ask for rare
    ones.
    """
    return (targets @ weights - smoothing * weights.mean()) / (1 - smoothing)


def said_of_weights(weights: Tensor, classes: Sequence[str]) -> str:
    """Return the least and the largest weight in words, with their classes."""
    there = weights[weights > 0]
    ends = [(float(end), classes[weights.tolist().index(float(end))]) for end in (there.min(), there.max())]
    return "class weights: " + " to ".join(f"{weight:.3g} ({name})" for weight, name in ends)
