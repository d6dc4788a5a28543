"""The classifier learns alone in the first epochs: nothing else changes, not even statistics."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from training.recipes_for_tests import DIGITS

from plainvision.models.loading import load_backbone, load_checkpoint
from plainvision.models.registry import create_model
from plainvision.training import Augment, Machine, Recipe, train
from plainvision.training import loop as loop_module
from plainvision.training.techniques import EMA, FrozenBackbone, NoEffectWarning
from plainvision.training.weights_file import load_network


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    torch.manual_seed(0)
    network = create_model("test_resnet", num_classes=3, in_chans=1)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    return Recipe(
        name="frozen",
        model="test_resnet",
        start_from=str(tmp_path / "weights.safetensors"),
        new_classifier=True,
        data=replace(DIGITS, train_per_class=8, validation_per_class=2),
        augment=Augment(scale=(0.6, 1.0), flip=0.0),
        epochs=2,
        batch_size=20,  # 4 steps an epoch
        optimizer="adamw",
        lr=1e-2,
        weight_decay=0.05,
        layer_decay=0.9,
        warmup_epochs=0,
        techniques=(FrozenBackbone(epochs=1), EMA(decay=0.5)),
        machine=Machine(threads=1, log_steps=1),
    )


def test_the_backbone_stays_as_it_was_and_then_learns(recipe, tmp_path, monkeypatch):
    own = load_checkpoint(create_model("test_resnet", num_classes=3, in_chans=1), recipe.start_from).state_dict()
    after_epochs = []
    end = loop_module._Run.end_epoch

    def kept(run):
        after_epochs.append({name: value.clone() for name, value in run.state.model.state_dict().items()})
        end(run)

    monkeypatch.setattr(loop_module._Run, "end_epoch", kept)
    result = train(recipe, tmp_path / "run")
    first, second = after_epochs
    for state, changed in ((first, False), (second, True)):
        for name in ("conv1.0.weight", "bn1.weight", "bn1.running_mean", "layer4.0.conv1.weight"):
            assert torch.equal(state[name], own[name]) != changed, name
    assert not torch.equal(first["fc.weight"], second["fc.weight"])
    assert result.network.training is False


def test_a_run_that_stops_in_either_part_goes_on_as_if_it_had_not(recipe, tmp_path, monkeypatch):
    train(recipe, tmp_path / "whole")
    for step in (2, 4, 6):
        with monkeypatch.context() as patch:
            patch.setattr(loop_module._Run, "everyone_stops", lambda run, _, step=step: run.state.step == step)
            with pytest.raises(KeyboardInterrupt):
                train(recipe, tmp_path / str(step))
        train(recipe, tmp_path / str(step), resume=True)
        files = [tmp_path / name / "last.safetensors" for name in ("whole", str(step))]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_as_many_epochs_as_the_run_has_are_a_linear_probe(recipe, tmp_path):
    probe = replace(recipe, techniques=(FrozenBackbone(epochs=2),))
    train(probe, tmp_path / "run")
    found = load_network(tmp_path / "run", "last")[0].state_dict()
    own = create_model("test_resnet", num_classes=10, in_chans=1)
    own = load_backbone(own, recipe.start_from).state_dict()
    assert {name for name, value in found.items() if not torch.equal(value, own[name])} == {"fc.weight", "fc.bias"}


def test_what_is_fixed_for_good_stays_fixed():
    model = create_model("test_resnet", num_classes=10)
    model.bn1.bias.requires_grad_(False)
    technique = FrozenBackbone(epochs=1)
    assert technique.reshape(model, 0) is model
    assert [name for name, one in model.named_parameters() if one.requires_grad] == ["fc.weight", "fc.bias"]
    after = technique.reshape(model, 1)
    assert after is not model
    assert [name for name, one in after.named_parameters() if not one.requires_grad] == ["bn1.bias"]
    assert technique.reshape(after, 2) is after


def test_where_it_makes_no_sense_it_says_so(recipe):
    with pytest.warns(NoEffectWarning, match="what is new learns from a backbone of random weights"):
        recipe.techniques[0].check(replace(recipe, start_from=None, new_classifier=False))
    with pytest.raises(ValueError, match=r"does not work with machine\.fsdp"):
        recipe.techniques[0].check(replace(recipe, machine=Machine(fsdp=True)))
