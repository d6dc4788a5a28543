"""Deletion: how the confidence in a class falls as the patches of largest weight are covered (arXiv:1806.07421, 4.1).

A map that tells what the answer rests on makes it fall faster than patches at random do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from plainvision.confidences import confidences_of
from plainvision.inspection.checks import check_images, check_logits, class_indices
from plainvision.inspection.eval_mode import eval_mode

Cover = Literal["mean", "blur"]
# So many images go through the network at once, whatever the number of steps and draws.
_BATCH = 32
_MOST_STEPS, _MOST_DRAWS = 1000, 1000


@dataclass(frozen=True)
class Deletion:
    """How the confidence in a class falls: once by a map, and several times at random."""

    shares: tuple[float, ...]
    """Shares of the patches that are covered, from 0 to 1."""
    by_map: tuple[float, ...]
    """The confidence at each share, the patches of largest weight covered first; equal ones in random order."""
    at_random: tuple[tuple[float, ...], ...]
    """The same for each draw of an order at random."""
    cover: Cover
    """What covers a patch: the image's mean colour, or the image, blurred."""

    @property
    def score(self) -> float:
        """The area under the map's curve, the mean confidence: the lower, the more the map tells."""
        return _area(self.shares, self.by_map)

    @property
    def random_scores(self) -> tuple[float, ...]:
        """The area under the curve of each draw."""
        return tuple(_area(self.shares, curve) for curve in self.at_random)

    @property
    def random_mean(self) -> float:
        """Their mean."""
        return sum(self.random_scores) / len(self.random_scores)

    @property
    def random_spread(self) -> float:
        """Their standard deviation; 0 of a single draw."""
        scores, mean = self.random_scores, self.random_mean
        return math.sqrt(sum((one - mean) ** 2 for one in scores) / max(1, len(scores) - 1))

    def __str__(self) -> str:
        return f"deletion {self.score:.3f}, at random {self.random_mean:.3f} ± {self.random_spread:.3f}"


def deletion(
    model: nn.Module,
    image: Tensor,
    maps: Tensor,
    classes: Sequence[int],
    *,
    steps: int = 8,
    draws: int = 5,
    seed: int = 0,
    cover: Cover = "mean",
    temperature: float = 1.0,
    threshold: float | None = None,
) -> tuple[Deletion, ...]:
    """Return how the confidence in each class falls as the patches of its map are covered.

    It takes ``steps * (n + draws)`` passes of the image, in batches.

    Args:
        model: images (B, C, H, W) -> logits (B, K); left in the mode that it was in.
        image: (C, H, W), prepared as in its training.
        maps: (n, h, w): a weight for each patch.
        classes: n indices, the class of each map.
        steps: in so many equal steps all patches are covered, in no more than there are patches.
        draws: orders at random that the map's is compared with; they are the same for all maps.
        seed: of these orders.
        cover: "mean" covers with the image's mean colour, "blur" with the blurred image.
        temperature: divides the logits, for calibrated confidences.
        threshold: of a network that gives an image a set of labels, from which confidence on; None is one class.

    Raises:
        ValueError: the maps are not one for each class, a number is out of range, or there is no such class or cover.
    """
    check_images(image[None])
    if maps.ndim != 3 or len(maps) != len(classes):
        raise ValueError(
            f"maps are {tuple(maps.shape)} for {len(classes)} classes. Give (n, h, w), one map for each of n classes."
        )
    if not (1 <= steps <= _MOST_STEPS and 1 <= draws <= _MOST_DRAWS):
        raise ValueError(f"steps={steps} and draws={draws}: give numbers from 1 to {_MOST_STEPS} and {_MOST_DRAWS}.")
    generator = torch.Generator().manual_seed(seed)
    patches = maps.shape[1] * maps.shape[2]
    steps = min(steps, patches)
    counts = [round(step * patches / steps) for step in range(1, steps + 1)]
    orders = [torch.randperm(patches, generator=generator) for _ in range(draws)]
    ties = torch.randperm(patches, generator=generator)
    ranked = [ties[one.flatten()[ties].argsort(descending=True, stable=True)] for one in maps.cpu()]
    covered = torch.stack([_covered(order, count, maps.shape[1:]) for order in ranked + orders for count in counts])
    with eval_mode(model), torch.inference_mode():
        whole = _confidences(model, image[None], threshold, temperature)
        chosen = class_indices(classes, whole.shape[1]).tolist()
        instead = _cover(image, maps.shape[1:], cover)
        found = [
            _confidences(model, _with(image, instead, part), threshold, temperature) for part in covered.split(_BATCH)
        ]
    curves = torch.cat(found).unflatten(0, (len(ranked) + draws, steps))
    shares = (0.0, *(count / patches for count in counts))
    return tuple(
        Deletion(
            shares,
            (float(whole[0, index]), *curves[number, :, index].tolist()),
            tuple((float(whole[0, index]), *curve[:, index].tolist()) for curve in curves[len(ranked) :]),
            cover,
        )
        for number, index in enumerate(chosen)
    )


def _covered(order: Tensor, count: int, grid: torch.Size) -> Tensor:
    """Return (h, w) which patches are covered: the first ``count`` of an order."""
    mask = torch.zeros(len(order))
    mask[order[:count]] = 1
    return mask.unflatten(0, tuple(grid))


def _cover(image: Tensor, grid: torch.Size, cover: Cover) -> Tensor:
    """Return (C, H, W) what is seen in the place of covered patches."""
    if cover == "mean":
        return image.mean((1, 2), keepdim=True).expand_as(image)
    if cover != "blur":
        raise ValueError(f"there is no cover {cover!r}: give 'mean' or 'blur'.")
    # As wide as a patch: what lies within one is gone, and the image's brightness stays where it was.
    sigma = max(image.shape[1] / grid[0], image.shape[2] / grid[1]) / 2
    sides = [min(2 * math.ceil(2 * sigma) + 1, 2 * ((side - 1) // 2) + 1) for side in (image.shape[2], image.shape[1])]
    return gaussian_blur(image, sides, [sigma, sigma])


def _with(image: Tensor, instead: Tensor, covered: Tensor) -> Tensor:
    """Return the image (B, C, H, W) with the patches (B, h, w) covered."""
    masks = F.interpolate(covered[:, None].to(image.device), image.shape[1:], mode="nearest-exact")
    return torch.where(masks > 0, instead, image)


def _confidences(model: nn.Module, images: Tensor, threshold: float | None, temperature: float) -> Tensor:
    return confidences_of(check_logits(model(images.clone()), model).float(), threshold, temperature).cpu()


def _area(shares: Sequence[float], curve: Sequence[float]) -> float:
    pairs = zip(shares, shares[1:], curve, curve[1:], strict=False)
    return sum((right - left) * (a + b) / 2 for left, right, a, b in pairs)
