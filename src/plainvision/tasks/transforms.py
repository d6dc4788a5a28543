"""What training does to an image with its boxes, masks or labels: torchvision's transforms, all parts at once.

Random numbers are torch's own, which are seeded for each image by its position in the run.

Shapes   C channels, H height, W width, N objects
"""

from typing import Any

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from plainvision.data.settings import Augment

Target = dict[str, Any]


class TrainingTransform:
    """An image (C, H, W) in [0, 1] and its target, mirrored, cut and coloured anew as ``augment`` says.

    A cut keeps a share of the image's area, ``augment.scale``. With ``size`` it is resized to a square of that side; a
    detector, which resizes by itself, takes it as it is. Objects whose middle is cut off are left out.
    """

    def __init__(self, augment: Augment, size: int | None = None) -> None:
        self._augment, self._size = augment, size
        self._flip = v2.RandomHorizontalFlip(augment.flip)
        strength = augment.color_jitter
        self._colour = v2.ColorJitter(strength, strength, strength) if strength else None

    def __call__(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        image, target = self._flip(tv_tensors.Image(image), target)
        if self._augment.scale != (1.0, 1.0):
            cut = v2.RandomResizedCrop.get_params(image, list(self._augment.scale), list(self._augment.ratio))
            whole = target
            image = functional.crop(image, *cut)
            target = {
                name: functional.crop(value, *cut) if _is_placed(value) else value for name, value in whole.items()
            }
            if "boxes" in target:
                target = _kept(target, whole["boxes"], cut)
        if self._size is not None:
            side = [self._size, self._size]
            image = functional.resize(image, side, antialias=True)
            target = {n: functional.resize(value, side) if _is_placed(value) else value for n, value in target.items()}
        if self._colour is not None:
            image = self._colour(image)
        return image.as_subclass(Tensor), target


def _is_placed(value: Any) -> bool:
    return isinstance(value, tv_tensors.BoundingBoxes | tv_tensors.Mask)


def _kept(target: Target, before: Tensor, cut: tuple[int, int, int, int]) -> Target:
    """Return the target with the objects alone whose middle lies within the cut."""
    top, left, height, width = cut
    middle = (before[:, :2] + before[:, 2:]) / 2
    inside = (middle[:, 0] >= left) & (middle[:, 0] < left + width)
    inside &= (middle[:, 1] >= top) & (middle[:, 1] < top + height)
    sides = target["boxes"][:, 2:] - target["boxes"][:, :2]
    inside &= (sides >= 1).all(1)
    return {name: value[inside] if isinstance(value, Tensor) else value for name, value in target.items()}
