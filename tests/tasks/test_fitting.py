"""`--batch-size auto` of detectors and segmenters: what is tried is as large as what trains."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands.running import plainvision, said
from PIL import Image
from tasks.runs_for_tests import recipe
from tasks.scenes_for_tests import coco_folder, label_folder, read, write

from plainvision.training import Augment, Recipe
from plainvision.training.passes import fitting_passes
from plainvision.training.weights_file import build_network


@pytest.fixture
def recipes(tmp_path) -> dict[str, Recipe]:
    boxes = recipe("detection", coco_folder(tmp_path / "boxes"), batch_size=4)
    masks = replace(boxes, task=replace(boxes.task, kind="mask_rcnn"))
    pixels = recipe("segmentation", label_folder(tmp_path / "pixels"), batch_size=4)
    return {"detection": boxes, "masks": masks, "segmentation": pixels}


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_the_passes_are_found_in_which_a_step_fits(gpu, recipes, kind):
    tried = gpu(2)
    found = fitting_passes(recipes[kind])
    assert found == replace(recipes[kind], machine=replace(recipes[kind].machine, accumulate=2))
    assert tried == [4, 2, 2, 2, 2]  # two steps of the first epoch, and two of the last


def test_steps_with_masks_are_tried_too(gpu, recipes):
    tried = gpu(2)
    made = replace(recipes["masks"], batch_size=2, epochs=1)
    assert fitting_passes(made) == made
    assert tried == [2, 2]


@pytest.mark.parametrize("augment", [Augment(scale=(1.0, 1.0), flip=0.0), Augment(scale=(0.3, 1.0))])
@pytest.mark.parametrize("shape", [(64, 64), (64, 20), (20, 64)])
def test_no_batch_of_a_detector_is_larger_than_the_noise(tmp_path, augment, shape):
    root = coco_folder(tmp_path / "boxes", train=12)
    content = read(root, "train")
    for image in content["images"]:
        image["width"], image["height"] = shape
        with Image.open(root / "train" / image["file_name"]) as picture:
            small = picture.resize(shape)
        small.save(root / "train" / image["file_name"])
    write(root, "train", content)
    made = replace(recipe("detection", root, batch_size=4), augment=augment)
    made = replace(made, task=replace(made.task, kind="mask_rcnn"))
    batches, _ = made.task.splits(made, 0, 1)
    network = build_network(made, 2, 0)

    def size(batch) -> tuple[int, int, int]:
        images, _ = network.transform(list(batch.images), [dict(target) for target in batch.targets])
        return *images.tensors.shape[2:], max(len(target["boxes"]) for target in batch.targets)

    noise = size(made.task.noise(made, batches))
    real = [size(batch) for epoch in range(4) for batch in batches.epoch(epoch)]
    assert all(one <= most for batch in real for one, most in zip(batch, noise, strict=True))
    assert max(batch[0] * batch[1] for batch in real) > noise[0] * noise[1] / 2


def test_the_word_reaches_the_task_and_a_processor_refuses_it(tmp_path, recipes, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for verb, name, kind in (("detect", "retinanet", "detection"), ("segment", "upernet", "segmentation")):
        words = (verb, "train", name, "--data.root", recipes[kind].data.root, "--batch-size", "auto")
        ended = plainvision(*words, "--out", tmp_path / "run")
        assert said(ended, "batch_size=auto fits a step into the memory of a GPU, and there is none here")
        assert not Path(tmp_path / "run").exists()
