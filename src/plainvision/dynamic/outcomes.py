"""The record of every permutation on every image, and what it says (arXiv:2103.09891, sections 3.3 and 4).

Shapes   N images, P permutations, K views of the image
An oracle is told the true class. What it scores is a bound, that no network reaches without being told.
"""

from dataclasses import dataclass, field

import numpy as np

from plainvision.dynamic.space import Permutation


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What each permutation of a network answered for each image."""

    network: str
    """What the network is called."""
    fingerprint: str
    """Of its weights and sites: which network this record belongs to."""
    sites: dict[str, str]
    """The layer at each site."""
    permutations: tuple[Permutation, ...]
    """The P permutations, one option per site."""
    default: Permutation
    """That of the trained network, among the permutations or not."""
    macs: np.ndarray
    """Multiply-adds of each permutation for one image, (P,) int64."""
    static_macs: int
    """Multiply-adds of the trained network."""
    classes: int
    """Number of classes."""
    names: tuple[str, ...]
    """The images' paths, in the order of the rows."""
    labels: np.ndarray
    """True classes, (N,) of the type of the predictions."""
    predictions: np.ndarray
    """Predicted classes, (N, P) uint16, or uint32 above 65,536 classes."""
    log_confidences: np.ndarray
    """Natural logarithms of the softmax probability of the true class, (N, P) float32; near 1 they still differ."""
    log_tops: np.ndarray
    """Those of the predicted class, (N, P) float32."""
    static_predictions: np.ndarray
    """What the trained network answers, (N,)."""
    mean_predictions: np.ndarray | None = None
    """What the mean softmax of all permutations answers, (N,); None when some have been left out since."""
    views: dict[str, np.ndarray] = field(default_factory=dict)
    """What the trained network answers for K other views of each image, (N, K), by name: the oracle's controls.

    Any first k of the columns are such views too, beginning with the image as it is.
    """
    condition: dict[str, float] = field(default_factory=dict)
    """How the images differ from those that the network was made for: {"scale": 2} or {"context": 150}; or {}."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Permutations of the space that were not evaluated: how many, by reason."""
