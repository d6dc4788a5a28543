"""Batch norms normalise in training as the weights that they came with do, and their scales learn."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from training.recipes_for_tests import DIGITS

from plainvision.models.registry import create_model
from plainvision.training import Augment, Machine, Recipe, train
from plainvision.training.state import State
from plainvision.training.techniques import FrozenStatistics, NoEffectWarning
from plainvision.training.weights_file import load_network


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    torch.manual_seed(0)
    network = create_model("test_resnet", num_classes=3, in_chans=1)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    return Recipe(
        name="fixed",
        model="test_resnet",
        start_from=str(tmp_path / "weights.safetensors"),
        new_classifier=True,
        data=replace(DIGITS, train_per_class=8, validation_per_class=2),
        augment=Augment(scale=(0.6, 1.0), flip=0.0),
        epochs=1,
        batch_size=20,  # 4 steps
        optimizer="adamw",
        lr=1e-3,
        warmup_epochs=0,
        techniques=(FrozenStatistics(),),
        machine=Machine(threads=1, log_steps=1),
    )


def test_statistics_stay_and_all_else_learns(recipe, tmp_path):
    train(recipe, tmp_path / "run")
    own = create_model("test_resnet", num_classes=3, in_chans=1)
    from plainvision.models.loading import load_checkpoint

    before, after = load_checkpoint(own, recipe.start_from).state_dict(), load_network(tmp_path / "run", "last")[0]
    after = after.state_dict()
    assert torch.equal(after["bn1.running_mean"], before["bn1.running_mean"])
    assert torch.equal(after["layer4.0.bn1.running_var"], before["layer4.0.bn1.running_var"])
    for name in ("bn1.weight", "conv1.0.weight", "layer4.0.bn1.bias"):
        assert not torch.equal(after[name], before[name]), name
    train(replace(recipe, techniques=()), tmp_path / "moving")
    moving = load_network(tmp_path / "moving", "last")[0].state_dict()
    assert not torch.equal(moving["bn1.running_mean"], before["bn1.running_mean"])


def test_dropout_and_the_norms_of_a_new_classifier_stay_in_training_mode():
    model = create_model("vanillanet_5", width=1 / 64, num_classes=3, drop_rate=0.2).train()
    FrozenStatistics().step_start(State(model))
    norms = {name: one.training for name, one in model.named_modules() if isinstance(one, torch.nn.BatchNorm2d)}
    assert {name for name, training in norms.items() if training} == {"head.first.1"}
    assert len(norms) > 5
    assert next(one for one in model.modules() if isinstance(one, torch.nn.Dropout)).training


def test_new_weights_have_no_statistics_to_keep(recipe):
    with pytest.warns(NoEffectWarning, match="the statistics of new batch norms are no images'"):
        FrozenStatistics().check(replace(recipe, start_from=None, new_classifier=False))
