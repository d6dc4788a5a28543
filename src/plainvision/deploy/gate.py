"""Whether a cheaper form of a network loses accuracy: a paired test over the images that both classify."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from plainvision.intervals import paired_bound

Verdict = Literal["passes", "fails", "cannot tell"]

_MOST_IMAGES = 10**7


@dataclass(frozen=True)
class Gate:
    """How a form of a network classifies the same images as the network: ``lost`` and ``gained`` decide.

    Without labels every changed prediction counts as lost, because a network cannot lose more than that.
    """

    images: int
    """Images that both classified."""
    lost: int
    """Images that the network classifies rightly and the form does not; without labels, images of another class."""
    gained: int
    """Images that the form classifies rightly and the network does not; 0 without labels."""
    right: int | None
    """Images that the network classifies rightly; None without labels."""
    allowed: float | None
    """The loss of accuracy that is allowed, in points; None allows any."""

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError("no image to compare a form on. Give a folder that holds images.")
        if min(self.lost, self.gained) < 0 or self.lost + self.gained > self.images:
            raise ValueError(f"{self.lost} lost and {self.gained} gained cannot be of {self.images} images.")
        if self.allowed is not None and not 0 < self.allowed <= 100:
            raise ValueError(f"allow_loss={self.allowed} is no number of points above 0 and up to 100.")

    @property
    def loss(self) -> float:
        """Accuracy lost on these images, in points."""
        return 100 * (self.lost - self.gained) / self.images

    @property
    def bound(self) -> float:
        """Loss of accuracy that is exceeded with 5 % probability at most, in points."""
        return 100 * paired_bound(self.lost, self.gained, self.images)

    @property
    def accuracy(self) -> float | None:
        """Top-1 of the form in per cent; None without labels."""
        return None if self.right is None else 100 * (self.right - self.lost + self.gained) / self.images

    @property
    def lowest_accuracy(self) -> float | None:
        """Top-1 of the network on these images less the bound, in per cent; None without labels."""
        return None if self.right is None else 100 * self.right / self.images - self.bound

    @property
    def verdict(self) -> Verdict:
        """It passes where the bound of the loss is below what is allowed, and fails where the loss surely is above."""
        if self.allowed is None or self.bound < self.allowed:
            return "passes"
        return "fails" if -100 * paired_bound(self.gained, self.lost, self.images) > self.allowed else "cannot tell"

    @property
    def more_images(self) -> int:
        """About how many more images a verdict takes, at the same rates of lost and gained; 0 where there is one."""
        if self.allowed is None or self.verdict != "cannot tell":
            return 0
        allowed = self.allowed / 100
        if self.loss < self.allowed:
            return self._more(lambda k: paired_bound(k * self.lost, k * self.gained, k * self.images) < allowed)
        return self._more(lambda k: -paired_bound(k * self.gained, k * self.lost, k * self.images) > allowed)

    def _more(self, decides: Callable[[float], bool]) -> int:
        """Return how many images more it takes until a set so many times as large decides, to two digits."""
        low, high = 1.0, 2.0
        while not decides(high) and high * self.images < _MOST_IMAGES:
            low, high = high, 2 * high
        while (high - low) * self.images > 1:
            middle = (low + high) / 2
            low, high = (low, middle) if decides(middle) else (middle, high)
        more = (high - 1) * self.images
        unit = 10 ** max(0, math.floor(math.log10(max(more, 1))) - 1)
        return unit * math.ceil(more / unit)

    def __str__(self) -> str:
        if self.right is None:
            found = (
                f"accuracy was not measured; {self.lost} of {self.images} images without labels changed their class, "
                f"which bounds the loss at {self.bound:.2f} points"
            )
        else:
            found = (
                f"{self.accuracy:.2f} % where the network has {100 * self.right / self.images:.2f} %, {self.images} "
                f"images: {self.lost} lost, {self.gained} gained, so a loss of {self.loss:.2f} points, at most "
                f"{self.bound:.2f} (95 %)"
            )
        if self.allowed is None:
            return found
        if self.verdict == "cannot tell":
            return f"cannot tell: {found}. About {self.more_images} more images are needed for {self.allowed:g} points"
        return f"{self.verdict}: {found}; {self.allowed:g} are allowed"

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and what follows from them, for a record."""
        return {
            "images": self.images,
            "lost": self.lost,
            "gained": self.gained,
            "right": self.right,
            "accuracy": self.accuracy,
            "loss_points": self.loss,
            "loss_bound_points": self.bound,
            "allowed_points": self.allowed,
            "verdict": self.verdict,
        }


def compare_classes(
    network: np.ndarray, form: np.ndarray, labels: np.ndarray | None, allowed: float | None = None
) -> Gate:
    """Return how a form's classes (N,) compare with the network's.

    Args:
        network: predicted classes of the network.
        form: predicted classes of the form, for the same images.
        labels: the true classes; None where nobody knows them.
        allowed: the loss that is allowed, in points.

    Raises:
        ValueError: there is no image, or they are not as many.
    """
    if not len(network) == len(form) == len(network if labels is None else labels):
        raise ValueError(f"{len(network)} and {len(form)} predictions are not of the same images.")
    if labels is None:
        return Gate(len(network), int((network != form).sum()), 0, None, allowed)
    before, after = network == labels, form == labels
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    return Gate(len(network), lost, gained, int(before.sum()), allowed)
