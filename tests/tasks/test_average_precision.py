import sys

import pytest
import torch
from tasks.runs_for_tests import Knows
from tasks.scenes_for_tests import SIDE, coco_folder

import plainvision as pv
from plainvision.data.settings import Data
from plainvision.tasks.average_precision import evaluate_detector, precision, results_of
from plainvision.tasks.batches import ValidationScenes
from plainvision.tasks.boxes import BoxScenes
from plainvision.tasks.coco import Scene, Thing

CPU = torch.device("cpu")


def square(x: float, y: float, side: float, label: int = 0, crowd: bool = False) -> Thing:
    corners = [x, y, x + side, y, x + side, y + side, x, y + side]
    return Thing((x, y, x + side, y + side), label, crowd, side * side, [corners])


def found(image: int, x: float, y: float, side: float, score: float, label: int = 1, masks: bool = False) -> list[dict]:
    mask = torch.zeros(1, 1, 100, 100)
    mask[..., int(y) : int(y + side), int(x) : int(x + side)] = 1
    answer = {"boxes": torch.tensor([[x, y, x + side, y + side]]), "labels": torch.tensor([label])}
    return results_of({**answer, "scores": torch.tensor([score]), "masks": mask}, image, (5, 6), masks=masks)


def scene(*things: Thing) -> Scene:
    return Scene("a.png", 100, 100, things)


def test_ap_is_that_worked_out_by_hand():
    # Two objects. The surest answer meets one exactly, the next nothing, the last the other by an overlap of 0.8.
    scenes = [scene(square(10, 10, 20), square(50, 50, 20))]
    answers = found(1, 10, 10, 20, 0.9) + found(1, 75, 5, 20, 0.8)
    third = {
        "boxes": torch.tensor([[50.0, 50.0, 66.0, 70.0]]),
        "labels": torch.tensor([1]),
        "scores": torch.tensor([0.7]),
    }
    answers += results_of(third, 1, (5, 6), masks=False)
    score = precision(scenes, answers, ("a", "b"), (5, 6), "bbox")
    # Recall 0.5 at precision 1, recall 1 at 2/3: the mean over 101 recalls, 51 of them up to 0.5.
    both = 100 * (51 + 50 * 2 / 3) / 101
    one = 100 * 51 / 101
    assert score.ap50 == pytest.approx(both)
    assert score.ap == pytest.approx((7 * both + 3 * one) / 10)  # overlaps 0.5 to 0.8, and 0.85 to 0.95
    assert score.per_class == {"a": pytest.approx(score.ap)}


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_what_meets_everything_scores_100_and_a_crowd_harms_nobody(kind):
    scenes = [scene(square(10, 10, 20, 1), square(60, 60, 30, 1, crowd=True)), scene(), scene(square(5, 5, 40, 0))]
    answers = found(1, 10, 10, 20, 0.9, 2, True) + found(1, 62, 62, 20, 0.95, 2, True)
    answers += found(3, 5, 5, 40, 0.5, 1, True)
    score = precision(scenes, answers, ("a", "b"), (5, 6), kind)
    assert score.ap50 == pytest.approx(100)
    assert score.per_class.keys() == {"a", "b"}
    if kind == "bbox":
        assert score.ap == pytest.approx(100)
        without = precision([scene(square(10, 10, 20, 1))], answers[:2], ("a", "b"), (5, 6), kind)
        assert without.ap == pytest.approx(50)  # the answer in the crowd is wrong where there is none


def test_nothing_found_is_0_and_nothing_to_find_is_no_score():
    assert precision([scene(square(10, 10, 20))], [], ("a",), (5,), "bbox").ap == 0
    nothing = precision([scene()], found(1, 10, 10, 20, 0.9), ("a",), (5,), "bbox")
    assert nothing.ap == nothing.ap50 == -1
    assert nothing.per_class == {}


def test_a_network_that_knows_the_answers_scores_full(tmp_path):
    data = Data(root=str(coco_folder(tmp_path / "squares", validation=2)), workers=0, image_size=SIDE)
    scenes = BoxScenes(data, "validation", masks=False)
    network = Knows().train()
    score = evaluate_detector(network, ValidationScenes(data, scenes, 2), scenes, device=CPU, masks=False)
    assert score.score == score.figures["box_ap"] == pytest.approx(100)
    assert (score.images, score.objects, score.skipped) == (2, 1, ())
    assert network.training


def test_a_mask_rcnn_is_scored_by_boxes_and_masks(tmp_path):
    data = Data(root=str(coco_folder(tmp_path / "squares")), workers=0, image_size=SIDE)
    scenes = BoxScenes(data, "validation", masks=True)
    backbone = pv.create_model("vanillanet_5", width=1 / 64)
    network = pv.tasks.detector(backbone, "mask_rcnn", num_classes=2, width=16, min_size=SIDE, max_size=SIDE)
    score = evaluate_detector(network, ValidationScenes(data, scenes, 2), scenes, device=CPU, masks=True)
    assert score.figures.keys() == {"box_ap", "box_ap50", "mask_ap", "mask_ap50"}
    assert 0 <= score.score <= 100


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(
        ImportError, match=r'`faster_coco_eval`, which is not installed. pip install "plainvision\[tasks\]"'
    ):
        precision([scene(square(10, 10, 20))], [], ("a",), (5,), "bbox")
