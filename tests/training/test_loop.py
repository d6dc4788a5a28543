import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from torch.testing import assert_close
from training.recipes_for_tests import EVERYTHING, PLAIN

import plainvision as pv
from plainvision.layers import LinearPair
from plainvision.training import Augment, train
from plainvision.training.class_loss import ClassLoss
from plainvision.training.optimization import Optimization
from plainvision.training.resumable import read_metrics
from plainvision.training.techniques import EMA, DeepTraining, FuseAfterAnneal, LinearPairs, NoEffectWarning
from plainvision.training.weights_file import load_network

TESTS = Path(__file__).parent.parent


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(folder) if "loss" in line]


def test_a_batch_in_parts_is_the_batch(tmp_path):
    train(PLAIN, tmp_path / "whole")
    train(replace(PLAIN, machine=replace(PLAIN.machine, accumulate=3)), tmp_path / "parts")
    assert_close(torch.tensor(losses(tmp_path / "parts")), torch.tensor(losses(tmp_path / "whole")), rtol=0, atol=1e-5)


@pytest.mark.parametrize("machine", [{"precision": "bf16"}, {"channels_last": True}])
def test_other_precision_and_layout_learn_the_same(tmp_path, machine):
    recipe = replace(PLAIN, model="vanillanet_5", model_options={"width": 1 / 64, "in_chans": 1})
    train(recipe, tmp_path / "plain")
    result = train(replace(recipe, machine=replace(recipe.machine, **machine)), tmp_path / "other")
    assert_close(torch.tensor(losses(tmp_path / "other")), torch.tensor(losses(tmp_path / "plain")), rtol=0, atol=3e-2)
    assert next(result.network.parameters()).dtype == torch.float32
    assert result.network(torch.randn(1, 1, 32, 32)).dtype == torch.float32


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(tmp_path):
    train(PLAIN, tmp_path / "plain")
    train(replace(PLAIN, machine=replace(PLAIN.machine, compile=True)), tmp_path / "compiled")
    assert_close(
        torch.tensor(losses(tmp_path / "compiled")),
        torch.tensor(losses(tmp_path / "plain")),
        rtol=0,
        atol=1e-3,
    )


def test_deep_training_ends_with_merged_pairs_that_fuse(tmp_path):
    result = train(EVERYTHING, tmp_path)
    slopes = [line["slope"] for line in read_metrics(tmp_path) if "slope" in line]
    assert slopes == [0.0, 0.5, 1.0, 1.0]
    assert not any(isinstance(module, LinearPair) for module in result.network.modules())
    fused = pv.fuse(result.network, image_size=32)
    x = torch.randn(4, 1, 32, 32)
    assert_close(fused(x), result.network(x), rtol=1e-3, atol=1e-3)


def test_the_best_weights_are_the_best_that_fuse(tmp_path, monkeypatch):
    from plainvision.training import evaluation

    # Deep training ends before the third epoch; at the end the weights that were averaged are scored too.
    scores = iter([90.0, 80.0, 20.0, 10.0, 10.0])
    evaluate = evaluation.evaluate
    monkeypatch.setattr(
        evaluation, "evaluate", lambda *given, **named: replace(evaluate(*given, **named), top1=next(scores))
    )
    result = train(EVERYTHING, tmp_path)
    network, origin = load_network(tmp_path, "best")
    assert result.best_top1 == 20.0
    assert origin.epoch == 2
    assert pv.fuse(network, image_size=32).report.argmax_agreement == 1


def test_a_run_can_be_loaded_by_its_folder(tmp_path):
    result = train(EVERYTHING, tmp_path)
    network, origin = load_network(tmp_path, "last")
    x = torch.randn(2, 1, 32, 32)
    assert_close(network(x), result.network(x), rtol=0, atol=0)
    assert origin.recipe == EVERYTHING
    assert origin.classes == result.classes == tuple("0123456789")
    with pytest.raises(FileNotFoundError, match=r"no weights at .*lost\.safetensors.*Nearby: last\.safetensors"):
        load_network(tmp_path / "lost.safetensors")


def test_the_average_has_the_slope_of_the_network(tmp_path):
    recipe = replace(EVERYTHING, techniques=(DeepTraining(epochs=4), EMA(decay=0.5)), epochs=3)
    with pytest.warns(UserWarning, match=r"the slope reaches 1 in epoch 4, but training ends after 3"):
        result = train(recipe, tmp_path)
    assert {pair.slope.item() for pair in result.network.modules() if isinstance(pair, LinearPair)} == {0.5}


def test_surgery_is_a_technique_of_any_network(tmp_path):
    recipe = replace(
        PLAIN,
        model="test_resnet",
        model_options={},
        batch_size=120,
        epochs=2,
        lr=0.01,
        techniques=(LinearPairs(), DeepTraining(epochs=1)),
    )
    result = train(recipe, tmp_path)
    assert any(isinstance(module, LinearPair) for module in result.network.modules())
    assert not any(isinstance(m, LinearPair) for m in pv.fuse(result.network, image_size=32, images=1).modules())


def test_a_technique_that_finds_nothing_to_do_says_so(tmp_path):
    plain = replace(PLAIN, epochs=2)
    with pytest.warns(NoEffectWarning, match=r"found no linear pair in VisionTransformer"):
        train(replace(plain, techniques=(DeepTraining(epochs=1),)), tmp_path / "a")
    with pytest.warns(NoEffectWarning, match=r"FuseAfterAnneal\(\) will never act"):
        train(replace(plain, techniques=(FuseAfterAnneal(),)), tmp_path / "b")


def test_the_rate_warms_up_and_falls_to_its_least(tmp_path):
    from accelerate import Accelerator

    recipe = replace(PLAIN, schedule="cosine", epochs=10, warmup_epochs=2, lr=1.0, min_lr=0.1, warmup_lr=0.0)
    model = pv.create_model("vanillanet_5", width=1 / 64)
    optimization = Optimization(recipe, model, Accelerator(cpu=True), ClassLoss(recipe, 10), steps_per_epoch=5)
    rates = []
    for step in range(50):
        optimization.scheduler.step_update(step)
        rates.append(optimization.learning_rate)
    assert rates[:11] == pytest.approx([i / 10 for i in range(11)])
    assert rates[30] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 20 / 40)))
    assert rates == sorted(rates[:11]) + sorted(rates[11:], reverse=True)
    assert rates[-1] < 0.11


def test_every_class_of_a_mixed_image_counts_as_present_above_the_threshold():
    recipe = replace(PLAIN, loss="bce", label_smoothing=0.0, bce_threshold=0.0)
    logits, mixed = torch.randn(1, 3), torch.tensor([[0.7, 0.3, 0.0]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([[1.0, 1.0, 0.0]]))
    assert_close(ClassLoss(recipe, 3).criterion(logits, mixed), expected)
    for wrong in ({"loss": "cross_entropy"}, {"bce_threshold": 1.0}):
        with pytest.raises(ValueError, match=r"bce_threshold=.* goes with loss='bce'"):
            replace(recipe, **wrong)


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_targets_are_smoothed_as_the_recipe_says(loss):
    made = ClassLoss(replace(PLAIN, loss=loss, label_smoothing=0.2), 10)
    logits, labels = torch.randn(4, 10), torch.tensor([3, 1, 4, 1])
    found = made.criterion(logits, made.targets(labels))
    if loss == "cross_entropy":
        expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.2)
    else:
        target = torch.full((4, 10), 0.02).scatter_(1, labels[:, None], 0.82)
        expected = -(target * logits.sigmoid().log() + (1 - target) * (1 - logits.sigmoid()).log()).mean()
    assert_close(found, expected)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(tmp_path, monkeypatch):
    from plainvision.training import loop

    recipe = replace(PLAIN, epochs=3, machine=replace(PLAIN.machine, log_steps=3))
    step = loop._Run.step

    def poisoned(run, batch):
        if run.state.step == 7:
            next(run.state.model.parameters()).data.fill_(float("nan"))
        step(run, batch)

    monkeypatch.setattr(loop._Run, "step", poisoned)
    with pytest.raises(ValueError, match=r"the loss is nan at step 8: .*is from before and is kept.*lower lr"):
        train(recipe, tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 5
    assert all(torch.isfinite(value).all() for value in state["model"].values())
    monkeypatch.undo()
    train(recipe, tmp_path, resume=True)


def test_the_folder_holds_what_it_promises(tmp_path, capsys):
    train(PLAIN, tmp_path, console=Console(), trackers=["tensorboard"])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "recipe.json", "metrics.jsonl", "best.safetensors", "last.safetensors", "report.html", "state.pt", "tensorboard"
    }  # fmt: skip
    assert json.loads((tmp_path / "recipe.json").read_text())["name"] == "plain"
    out = capsys.readouterr().out
    assert "epoch 1/1  top-1" in out
    assert "\x1b" not in out  # no terminal, no bar
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.is_file()}
    assert len(modes) == 1  # who may read one file of a run may read all


def test_a_folder_of_another_run_is_refused_and_the_library_prints_nothing(tmp_path, capsys):
    train(PLAIN, tmp_path / "run")
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ValueError, match=r"already holds a run of the recipe 'plain'.*--resume"):
        train(PLAIN, tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"a run of another recipe, 'plain'; it differs in epochs \(1 there, 2 given\)"
    ):
        train(replace(PLAIN, epochs=2), tmp_path / "run", resume=True)
    moved = replace(PLAIN, data=replace(PLAIN.data, root="elsewhere"))
    with pytest.raises(ValueError, match=r"differs in data\.root \('digits' there, '.*elsewhere' given\)"):
        train(moved, tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match=r"nothing to resume in .*new"):
        train(PLAIN, tmp_path / "new", resume=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"mine is not empty and holds no run"):
        train(PLAIN, tmp_path / "mine")


def test_a_folder_that_cannot_be_written_is_named_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write the run's folder .*file/run.*--out"):
        train(PLAIN, tmp_path / "file" / "run")


def test_a_run_starts_from_weights_of_other_classes_with_a_new_classifier(tmp_path):
    source = pv.create_model(PLAIN.model, num_classes=7, **PLAIN.model_options).state_dict()
    save_file(source, tmp_path / "seven.safetensors")
    recipe = replace(PLAIN, lr=1e-9, start_from=str(tmp_path / "seven.safetensors"))
    with pytest.raises(
        ValueError, match=r"head\.weight is \(7, 64\), the network has \(10, 64\).*new_classifier in a rec"
    ):
        train(recipe, tmp_path / "run")
    result = train(replace(recipe, new_classifier=True), tmp_path / "run")
    found = result.network.state_dict()
    assert {key for key in found if found[key].shape != source[key].shape} == {"head.weight", "head.bias"}
    backbone = [key for key in found if not key.startswith("head.")]
    assert_close([found[key] for key in backbone], [source[key] for key in backbone], rtol=0, atol=1e-6)
    again, origin = load_network(tmp_path / "run")
    assert (origin.recipe.start_from, origin.recipe.new_classifier) == (None, False)  # a file says nothing to open
    assert_close(again.head.weight, result.network.head.weight, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 12}, r"num_classes=12, but the data has 10 classes"),
        ({"batch_size": 5000}, r"5000.*240"),
        ({"batch_size": 49, "augment": Augment(mixup=0.5)}, r"batch_size=49 .*Mixup mixes pairs"),
        ({"model": "vanillanet_55"}, r"unknown model 'vanillanet_55'.*vanillanet_5"),
        ({"machine": replace(PLAIN.machine, fsdp=True)}, r"machine\.fsdp shards parameters over processes"),
        ({"machine": replace(PLAIN.machine, sync_batch_norm=True)}, r"sync_batch_norm needs a GPU"),
        ({"data": replace(PLAIN.data, image_size=8), "model": "resnet18"}, r"has no option 'img_size'"),
        (
            {"data": replace(PLAIN.data, image_size=8), "model": "vanillanet_5", "model_options": {"in_chans": 1}},
            r"vanillanet_5 cannot take images of 1x8x8",
        ),
        ({"model": "vanillanet_5", "model_options": {"in_chans": 3}}, r"cannot take images of 1x32x32.*in_chans"),
        ({"model_options": {**PLAIN.model_options, "num_classes": 3}}, r"returns \(3,\) .* the data has 10 classes"),
        ({"augment": Augment(policy="nonsense")}, r"does not know the augment\.policy 'nonsense'.*rand-m7"),
        ({"start_from": "nowhere.safetensors"}, r"no checkpoint at nowhere\.safetensors"),
    ],
)
def test_what_does_not_fit_is_an_error_before_the_first_step(tmp_path, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(replace(PLAIN, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()  # so that the corrected command may use the folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup_epochs": -1}, r"warmup_epochs=-1 must not be negative"),
        ({"epochs": 0}, r"epochs=0 must be above zero"),
        ({"new_classifier": True}, r"new_classifier=True .* start_from is None.*Give the weights"),
    ],
)
def test_a_recipe_checks_itself(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, **changes)


def test_deep_training_of_negative_length_is_refused():
    with pytest.raises(ValueError, match=r"epochs=-1 must not be negative"):
        DeepTraining(epochs=-1)


def test_an_average_of_sharded_parameters_is_refused(tmp_path):
    recipe = replace(PLAIN, techniques=(EMA(),), machine=replace(PLAIN.machine, fsdp=True))
    with pytest.raises(ValueError, match=r"EMA.* does not work with machine\.fsdp"):
        train(recipe, tmp_path)
