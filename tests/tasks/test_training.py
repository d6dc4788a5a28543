"""Both tasks through the one loop."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tasks.runs_for_tests import recipe
from tasks.scenes_for_tests import coco_folder, label_folder, read, write
from torch.testing import assert_close

import plainvision as pv
from plainvision.inspection.eval_mode import eval_mode
from plainvision.models.reading import read_safetensors
from plainvision.training import Machine, Recipe, train
from plainvision.training.resumable import read_metrics
from plainvision.training.techniques import DeepTraining
from plainvision.training.weights_file import load_network

KINDS = ("detection", "segmentation")


@pytest.fixture
def roots(tmp_path) -> dict[str, Path]:
    return {"detection": coco_folder(tmp_path / "boxes"), "segmentation": label_folder(tmp_path / "pixels")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_killed_goes_on_bit_for_bit(roots, tmp_path, kind):
    made = recipe(kind, roots[kind])
    whole = train(made, tmp_path / "whole")
    script = Path(__file__).with_name("runs_for_tests.py")
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", script, kind, roots[kind], tmp_path / "killed"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    resumed = train(made, tmp_path / "killed", resume=True)
    for name in ("last", "best"):
        first, second = (read_safetensors(tmp_path / run / f"{name}.safetensors")[0] for run in ("whole", "killed"))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert resumed.last == whole.last
    lines = [
        [{k: v for k, v in line.items() if k != "images_per_second"} for line in read_metrics(tmp_path / run)]
        for run in ("whole", "killed")
    ]
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    ("kind", "figures", "said"),
    [
        ("detection", {"box_ap", "box_ap50"}, "train: 6 images, 2 of them without objects; 6 objects"),
        ("segmentation", {"miou", "pixel_accuracy"}, "training: 4 images"),
    ],
)
def test_its_folder_says_what_it_is_and_gives_the_network_back(roots, tmp_path, capsys, kind, figures, said):
    made = recipe(kind, roots[kind], epochs=1)
    result = train(made, tmp_path / "run", console=Console())
    out = capsys.readouterr().out
    assert said in out
    assert f"epoch 1/1  {result.last.words}" in out
    (line,) = [line for line in read_metrics(tmp_path / "run") if "epoch" in line]
    assert figures < line.keys()
    assert ("accuracy" in read_metrics(tmp_path / "run")[0]) == (kind == "segmentation")
    network, origin = load_network(tmp_path / "run", "last")
    assert origin.recipe.task == made.task
    assert origin.classes == {"detection": ("red", "green"), "segmentation": ("ground", "square")}[kind]
    assert Recipe.from_dict(made.to_dict()) == made
    image = torch.rand(3, 64, 64)
    with eval_mode(result.network), torch.no_grad():
        if kind == "detection":
            assert_close(network([image]), result.network([image]))
        else:
            assert_close(network(image[None]), result.network(image[None]))
    with pytest.raises(ValueError, match=rf"plainvision {made.task.command} "):
        pv.load(tmp_path / "run")


def test_the_backbone_starts_from_a_classifiers_weights_and_its_norms_stay(roots, tmp_path):
    classifier = pv.create_model("vanillanet_5", num_classes=7, width=1 / 64)
    for module in classifier.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    torch.save(classifier.state_dict(), tmp_path / "weights.pth")
    made = recipe("detection", roots["detection"], epochs=1, techniques=(), start_from=str(tmp_path / "weights.pth"))
    made = replace(made, task=replace(made.task, freeze_norms=True))
    result = train(made, tmp_path / "run")
    trunk = result.network.backbone.pyramid.network.model
    own = classifier.state_dict()
    statistics = [key for key in trunk.state_dict() if "running" in key]
    assert statistics
    for key in statistics:
        assert_close(trunk.state_dict()[key], own[key], rtol=0, atol=0)
    assert not torch.equal(trunk.state_dict()["stem.conv.first.0.weight"], own["stem.conv.first.0.weight"])
    again, _ = load_network(tmp_path / "run", "last")
    assert_close(again.state_dict(), result.network.state_dict())


def test_deep_training_reaches_the_backbone_of_a_detector(roots, tmp_path):
    made = recipe("detection", roots["detection"], techniques=(DeepTraining(epochs=1),))
    result = train(made, tmp_path / "run")
    slopes = [value for key, value in result.network.state_dict().items() if key.endswith("slope")]
    assert slopes
    assert all(value == 1 for value in slopes)


def test_a_mask_rcnn_trains_and_a_file_without_objects_does_not_crash(roots, tmp_path):
    content = read(roots["detection"], "train")
    write(roots["detection"], "train", {**content, "annotations": []})
    made = recipe("detection", roots["detection"], epochs=1, techniques=())
    result = train(replace(made, task=replace(made.task, kind="mask_rcnn")), tmp_path / "run")
    assert result.last.mask is not None
    assert any("found next to nothing" in doubt for doubt in result.doubts)


def test_what_cannot_train_is_told_before_the_folder_exists(roots, tmp_path):
    made = recipe("segmentation", roots["segmentation"], machine=Machine(accumulate=2))
    with pytest.raises(ValueError, match=r"passes one image at a time, and the decoder of a segmenter needs two"):
        train(made, tmp_path / "run")
    with pytest.raises(ValueError, match="batch_size=50 but only 6 images"):
        train(recipe("detection", roots["detection"], batch_size=50), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"its task is 'Juggling', and this command knows Classification"):
        Recipe.from_dict({**made.to_dict(), "task": {"task": "Juggling"}})
