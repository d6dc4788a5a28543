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
from torchvision.ops import FrozenBatchNorm2d

import plainvision as pv
from plainvision.inspection.dense import DenseDetector
from plainvision.inspection.eval_mode import eval_mode
from plainvision.layers.linear_pair import LinearPair
from plainvision.models.reading import read_safetensors
from plainvision.tasks.average_precision import Precision
from plainvision.training import Data, Machine, Recipe, loop, train
from plainvision.training.cross_validation import cross_validate
from plainvision.training.resumable import read_metrics
from plainvision.training.several_runs import train_each
from plainvision.training.techniques import EMA, DeepTraining, FrozenBackbone, FrozenStatistics, FuseAfterAnneal
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_backbone_stays_while_pyramid_and_heads_learn(roots, tmp_path, monkeypatch, kind):
    torch.save(pv.create_model("vanillanet_5", num_classes=7, width=1 / 64).state_dict(), tmp_path / "weights.pth")
    techniques = (FrozenBackbone(epochs=1), EMA(decay=0.5))
    made = recipe(kind, roots[kind], techniques=techniques, start_from=str(tmp_path / "weights.pth"))
    states: list[dict[str, torch.Tensor]] = []
    begin, end = loop._Run.begin_epoch, loop._Run.end_epoch

    def note(run, *epoch):
        states.append({key: value.clone() for key, value in run.state.model.state_dict().items()})
        (begin if epoch else end)(run, *epoch)

    monkeypatch.setattr(loop._Run, "begin_epoch", note)
    monkeypatch.setattr(loop._Run, "end_epoch", note)
    train(made, tmp_path / "run")
    first, frozen, _, last = states
    trunk = {key for key in first if "pyramid.network." in key}
    assert any("running_mean" in key for key in trunk)
    assert [key for key in trunk if not torch.equal(first[key], frozen[key])] == []
    assert {key.split(".")[-1] for key in trunk if not torch.equal(frozen[key], last[key])} > {"weight", "running_mean"}
    heads = [key for key in first if key not in trunk and key.endswith("weight") and first[key].ndim > 1]
    moved = [key for key in heads if not torch.equal(first[key], frozen[key])]
    assert len(moved) > len(heads) / 2  # an untrained network has features of zeros, behind which nothing learns


def test_frozen_statistics_are_those_of_the_backbone_alone(roots, tmp_path):
    torch.save(pv.create_model("vanillanet_5", num_classes=7, width=1 / 64).state_dict(), tmp_path / "weights.pth")
    start = {"techniques": (FrozenStatistics(),), "start_from": str(tmp_path / "weights.pth"), "epochs": 1}
    own = torch.load(tmp_path / "weights.pth", weights_only=True)
    state = train(recipe("segmentation", roots["segmentation"], **start), tmp_path / "run").network.state_dict()
    statistics = [key for key in state if key.endswith("running_mean")]
    backbone = {key: own[key.split("network.model.")[1]] for key in statistics if "pyramid.network." in key}
    assert 0 < len(backbone) < len(statistics)
    for key in statistics:
        assert torch.equal(state[key], backbone.get(key, torch.zeros_like(state[key]))) == (key in backbone), key


def test_deep_training_reaches_the_backbone_of_a_detector(roots, tmp_path):
    made = recipe("detection", roots["detection"], techniques=(DeepTraining(epochs=1),))
    result = train(made, tmp_path / "run")
    slopes = [value for key, value in result.network.state_dict().items() if key.endswith("slope")]
    assert slopes
    assert all(value == 1 for value in slopes)


def test_frozen_norms_stay_when_pairs_are_merged_and_the_deployed_form_is_given_back(roots, tmp_path):
    made = recipe("detection", roots["detection"], techniques=(DeepTraining(epochs=1), FuseAfterAnneal()))
    made = replace(made, task=replace(made.task, freeze_norms=True))
    result = train(made, tmp_path / "run")
    norms = [module for module in result.network.modules() if isinstance(module, FrozenBatchNorm2d)]
    assert norms
    assert not any(isinstance(module, LinearPair | torch.nn.BatchNorm2d) for module in result.network.modules())
    found = pv.tasks.load(f"{tmp_path / 'run'}:deployed", weights="last")
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in found.network.modules())
    images = torch.rand(1, 3, 64, 64)
    merged, deployed = (DenseDetector(network)(images) for network in (result.network, found.network))
    assert_close(merged, deployed, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["retinanet", "mask_rcnn"])
def test_a_file_without_objects_trains_and_does_not_crash(roots, tmp_path, kind):
    content = read(roots["detection"], "train")
    write(roots["detection"], "train", {**content, "annotations": []})
    made = recipe("detection", roots["detection"], epochs=1, techniques=())
    result = train(replace(made, task=replace(made.task, kind=kind)), tmp_path / "run")
    assert (result.last.mask is not None) == (kind == "mask_rcnn")
    doubted = [doubt for doubt in result.doubts if "found next to nothing" in doubt]
    assert len(doubted) == (result.last.box.ap50 <= 1)  # untrained boxes may hit one of three by chance
    nothing = replace(result.last, box=Precision(0.0, 0.5, {}))
    assert "AP50 is 0.50 % on 3 images" in made.task.doubts(nothing, None, [])[0]


def test_what_cannot_train_is_told_before_the_folder_exists(roots, tmp_path):
    made = recipe("segmentation", roots["segmentation"], machine=Machine(accumulate=2))
    with pytest.raises(ValueError, match=r"passes one image at a time, and the decoder of a segmenter needs two"):
        train(made, tmp_path / "run")
    with pytest.raises(ValueError, match="batch_size=50 but only 6 images"):
        train(recipe("detection", roots["detection"], batch_size=50), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"its task is 'Juggling', and this command knows Classification"):
        Recipe.from_dict({**made.to_dict(), "task": {"task": "Juggling"}})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("loss", "bce"), ("class_weights", "balanced"), ("data.validation_share", 0.2), ("data.class_map", "a.txt")],
        *[("data.sampling", "balanced"), ("data.crop_ratio", 1.0), ("data.resize", "squash"), ("augment.mixup", 0.2)],
        *[("data.interpolation", "bilinear"), ("augment.random_erasing", 0.2), ("data.train_per_class", 5)],
    ],
)
def test_what_would_do_nothing_is_refused(roots, tmp_path, kind, field, value):
    group, _, name = field.rpartition(".")
    made = recipe(kind, roots[kind])
    changes = {group: replace(getattr(made, group), **{name: value})} if group else {name: value}
    with pytest.raises(
        ValueError, match=f"{field}={value!r} is for images with one label each, and {kind.title()} has"
    ):
        train(replace(made, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_detector_alone_ignores_is_refused_of_it_alone(roots, tmp_path):
    for changes in ({"num_classes": 2}, {"label_smoothing": 0.2}):
        with pytest.raises(ValueError, match=r"=0?\.?2 is for images with one label each, and Detection has none"):
            train(recipe("detection", roots["detection"], **changes), tmp_path / "run")
        made = recipe("segmentation", roots["segmentation"], **changes)
        made.task.splits(made, 0, 1)
    with pytest.raises(ValueError, match=r"Detection needs images of its own\. Name their folder or archive"):
        train(replace(made, data=Data(), task=recipe("detection", tmp_path).task), tmp_path / "run")


@pytest.mark.parametrize("kind", KINDS)
def test_folds_and_several_runs_are_refused_before_anything_is_written(roots, tmp_path, kind):
    made = recipe(kind, roots[kind])
    folded = replace(made, data=replace(made.data, folds=3))
    for refused in (train, cross_validate):
        with pytest.raises(ValueError, match=r"data\.folds=3 is for images with one label each"):
            refused(folded, tmp_path / "run")
    with pytest.raises(ValueError, match=rf"a: several runs are compared by top-1, and {kind.title()} is scored by"):
        list(train_each({"a": made}, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
