"""The images of COCO's annotations with their boxes and masks, as torchvision's detectors want them."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors

from plainvision.data.locations import Role
from plainvision.data.settings import Data
from plainvision.tasks.coco import Scene, Thing, read_annotations
from plainvision.tasks.masks import MOST_PIXELS, mask_of
from plainvision.tasks.scenes import SceneRow, Scenes
from plainvision.tasks.transforms import Target


class BoxScenes(Scenes):
    """Images with the boxes (N, 4), labels (N,) from 1, and masks (N, H, W) of their objects.

    Crowds are in no target; `scenes` has them.

    Args:
        masks: whether targets have masks.
        classes: what a network knows already; None takes the file's.

    Raises:
        FileNotFoundError, ValueError: there are no such annotations, or none that can be used.
    """

    def __init__(self, data: Data, role: Role, *, masks: bool, classes: Sequence[str] | None = None) -> None:
        super().__init__(data, role)
        found = read_annotations(self.store, self.split, self.where, classes)
        self.classes, self.category_ids = found.classes, found.category_ids
        self.scenes, self.left_out = found.scenes, found.left_out
        self._masks = masks
        bare = sum(thing.outline is None for scene in self.scenes for thing in scene.things)
        if masks and bare:
            raise ValueError(
                f"{bare} objects of {self.where} have no segmentation, and kind 'mask_rcnn' learns masks. Give kind "
                "'retinanet', which learns boxes, or annotations with masks."
            )

    def __len__(self) -> int:
        return len(self.scenes)

    def row(self, index: int) -> SceneRow:
        scene = self.scenes[index]
        return SceneRow(partial(self._read, scene), self.store.name(scene.path))

    def signs(self) -> list[str]:
        return [f"{scene.path} {scene.width} {scene.height} {scene.things}" for scene in self.scenes]

    def first_line(self) -> str:
        count = sum(len(scene.things) for scene in self.scenes)
        without = sum(not scene.things for scene in self.scenes)
        what, *left = super().first_line().split(";", 1)
        return f"{what}, {without} of them without objects; {count} objects" + (f";{left[0]}" if left else "")

    def _read(self, scene: Scene) -> tuple[Image.Image, Target]:
        picture = self.picture(scene.path)
        if picture.size != (scene.width, scene.height):
            raise ValueError(
                f"it has {picture.width} x {picture.height} pixels as a viewer shows it, and its annotations are for "
                f"{scene.width} x {scene.height}"
            )
        things = [thing for thing in scene.things if not thing.crowd]
        size = (scene.height, scene.width)
        boxes = torch.tensor([thing.box for thing in things], dtype=torch.float32).reshape(-1, 4)
        target: Target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
            "labels": torch.tensor([thing.label + 1 for thing in things], dtype=torch.int64),
        }
        if self._masks:
            target["masks"] = tv_tensors.Mask(torch.from_numpy(masks_of(things, *size)))
        return picture, target


def masks_of(things: Sequence[Thing], height: int, width: int) -> np.ndarray:
    """Return the masks (N, H, W), uint8, of objects, or raise a ValueError where they would take too much memory."""
    if len(things) * height * width > MOST_PIXELS:
        raise ValueError(f"the masks of its {len(things)} objects would take more than {MOST_PIXELS:,} bytes")
    masks = [mask_of(thing.outline, height, width) for thing in things]
    return np.stack(masks) if masks else np.zeros((0, height, width), dtype=np.uint8)
