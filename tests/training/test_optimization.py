"""The learning rate of each layer."""

import pytest
import torch
from accelerate import Accelerator

import plainvision as pv
from plainvision.training import Recipe
from plainvision.training.optimization import Optimization


@pytest.mark.parametrize("name", ["vanillanet_6", "resnet18"])
def test_rates_fall_along_the_backbone_of_a_detector_and_not_around_it(name):
    detector = pv.tasks.detector(
        pv.create_model(name, **({"width": 1 / 64} if "van" in name else {})), num_classes=2, width=8
    )
    recipe = Recipe("rates", name, optimizer="adamw", lr=1.0, weight_decay=0.05, layer_decay=0.5, warmup_epochs=0)
    optimizer = Optimization(recipe, detector, Accelerator(cpu=True), None, 10).optimizer
    share = {weight: group["lr_scale"] for group in optimizer.param_groups for weight in group["params"]}
    named = dict(detector.named_parameters())
    assert set(share) == set(named.values())
    trunk = [share[weight] for key, weight in named.items() if ".network." in key]
    around = {share[weight] for key, weight in named.items() if ".network." not in key}
    assert around == {1.0}
    assert trunk == sorted(trunk)
    assert trunk[-1] == 0.5
    assert trunk[0] <= 0.5 ** (5 if name == "vanillanet_6" else 9)
    undecayed = {weight for group in optimizer.param_groups for weight in group["params"] if not group["weight_decay"]}
    assert undecayed == {weight for weight in named.values() if weight.ndim < 2}
    assert torch.optim.AdamW in type(optimizer.optimizer).__mro__
