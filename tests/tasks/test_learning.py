"""Detectors and segmenters learn: short runs of the small recipes on shapes that are drawn for them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shapes import write_shapes
from torch.testing import assert_close

from plainvision.recipes.tasks import mask_rcnn_small, retinanet_small, upernet_small
from plainvision.tasks.boxes import BoxScenes
from plainvision.tasks.label_maps import LabelScenes
from plainvision.training import Data, Machine, Recipe, train


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", train=120, validation=30)


def shortened(recipe: Recipe, root: Path, epochs: int) -> Recipe:
    data = replace(recipe.data, root=str(root), workers=0)
    return replace(recipe, data=data, epochs=epochs, machine=Machine(threads=1))


def untrained(recipe: Recipe) -> Any:
    """Return what a new network of a recipe scores."""
    training, validation = recipe.task.splits(recipe, 0, 1)
    network = recipe.task.build(recipe, len(training.classes))
    device = torch.device("cpu")
    return recipe.task.evaluate(network, validation, classes=training.classes, device=device, total=None)


def test_a_retinanet_learns_to_find_shapes(root, tmp_path):
    recipe = shortened(retinanet_small(), root, 4)
    assert untrained(recipe).box.ap50 < 1
    assert train(recipe, tmp_path / "run").last.box.ap50 > 20


def test_an_upernet_learns_to_name_pixels(root, tmp_path):
    recipe = shortened(upernet_small(), root, 3)
    assert untrained(recipe).miou < 25  # ground everywhere has 23
    assert train(recipe, tmp_path / "run").last.miou > 35


@pytest.mark.slow
def test_a_mask_rcnn_learns_to_draw_masks(root, tmp_path):
    recipe = shortened(mask_rcnn_small(), root, 5)
    scores = train(recipe, tmp_path / "run").last
    assert scores.box.ap50 > 25
    assert scores.mask.ap50 > 25


def test_the_shapes_are_those_of_their_seed_and_the_same_in_both_forms(root, tmp_path):
    again = write_shapes(tmp_path / "again", train=6, validation=30)
    for path in sorted((again / "images" / "validation").iterdir()):
        assert path.read_bytes() == (root / path.relative_to(again)).read_bytes()
    assert (again / "validation.json").read_text() == (root / "validation.json").read_text()
    other = write_shapes(tmp_path / "other", train=6, validation=6, seed=1)
    assert (other / "train.json").read_text() != (again / "train.json").read_text()
    data = Data(root=str(root))
    boxes, maps = BoxScenes(data, "validation", masks=True), LabelScenes(data, "validation", zero_ignored=False)
    assert ("ground", *boxes.classes) == maps.classes
    for i in range(len(boxes)):
        (picture, target), (same, named) = boxes.row(i).read(), maps.row(i).read()
        assert np.array_equal(picture, same)
        drawn = torch.zeros(128, 128, dtype=torch.int64)
        for label, mask, box in zip(target["labels"], target["masks"], target["boxes"], strict=True):
            drawn[mask > 0] = label
            rows, columns = torch.nonzero(mask, as_tuple=True)
            around = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert_close(around.float(), box, atol=1, rtol=0)
        assert (drawn != named["labels"]).sum() < 0.02 * (drawn > 0).sum() + 1
