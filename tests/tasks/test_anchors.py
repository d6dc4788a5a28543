from dataclasses import replace

import pytest
import torch
from tasks.scenes_for_tests import SIDE, coco_folder
from torchvision.ops import box_iou

import plainvision as pv
from plainvision.tasks.boxes import BoxScenes
from plainvision.tasks.learning import Detection
from plainvision.tasks.starting import with_fitted_anchors
from plainvision.training import Data, Recipe


def squares(sides: list[float]) -> torch.Tensor:
    return torch.tensor([[10.0, 20.0, 10 + side, 20 + side] for side in sides])


def test_anchors_are_the_quantiles_of_the_sizes():
    sizes = pv.tasks.fit_anchors(squares([200.0, 300.0, 400.0, 500.0, 600.0]), strides=(4, 8, 16, 32, 64), per_level=1)
    assert sizes == ((240,), (320,), (400,), (480,), (560,))  # at 0.1, 0.3, ... of the range


def test_no_anchor_is_too_small_for_its_grid():
    sizes = pv.tasks.fit_anchors(squares([20.0] * 100))
    assert sizes == ((24, 30, 38), (48, 60, 76), (96, 121, 152), (192, 242, 305), (384, 484, 610))
    shift = torch.tensor([4.0, 4.0, 4.0, 4.0])  # half a stride of 8: no anchor lies farther from a box
    assert box_iou(squares([24.0]), squares([24.0]) + shift).item() > 0.5


def test_fitted_anchors_make_a_detector():
    backbone = pv.create_model("vanillanet_5", width=1 / 64)
    boxes = squares(torch.linspace(30, 1000, 50).tolist())
    sizes = pv.tasks.fit_anchors(boxes)
    assert pv.tasks.detector(backbone, num_classes=1, anchor_sizes=sizes).anchor_sizes == sizes
    flat = [size for level in sizes for size in level]
    assert flat == sorted(flat)
    assert 50 < flat[0] < 70
    assert flat[-1] == pytest.approx(968, abs=5)


def test_boxes_without_area_are_told():
    with pytest.raises(ValueError, match=r"boxes are \(0, 4\), not \(N, 4\) with at least one"):
        pv.tasks.fit_anchors(torch.zeros(0, 4))
    with pytest.raises(ValueError, match="a box has no area"):
        pv.tasks.fit_anchors(torch.tensor([[1.0, 1.0, 1.0, 5.0]]))


def test_anchors_fit_the_boxes_as_the_network_sees_them(tmp_path):
    root = coco_folder(tmp_path)
    boxes = [
        thing.box for scene in BoxScenes(Data(root=str(root)), "train", masks=False).scenes for thing in scene.things
    ]
    for kind, strides, per_level in (("retinanet", (8, 16, 32, 64, 128), 3), ("mask_rcnn", (4, 8, 16, 32, 64), 1)):
        recipe = Recipe("boxes", "vanillanet_5", data=Data(root=str(root), image_size=8 * SIDE), task=Detection(kind))
        wanted = pv.tasks.fit_anchors(8 * torch.tensor(boxes), strides=strides, per_level=per_level)
        assert with_fitted_anchors(recipe).task == replace(recipe.task, anchor_sizes=wanted)
