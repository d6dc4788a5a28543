"""Networks with parameter-free layers train by their authors' commands."""

import dataclasses

import pytest
import torch
from accelerate import Accelerator
from recipes.published_for_tests import PARAMETER_FREE, expects, paper_epochs

from plainvision.recipes import get_recipe, parameter_free
from plainvision.training.class_loss import ClassLoss
from plainvision.training.optimization import Optimization
from plainvision.training.recipe import Augment


@pytest.mark.parametrize("network", ["resnet50_max", "resnet50_hybrid"])
def test_a_resnet_with_parameter_free_layers_trains_by_the_published_command(network):
    """README of https://github.com/naver-ai/PfLayer: 4 processes of 256 images."""
    built, paper = get_recipe(f"{network}_imagenet"), PARAMETER_FREE[network]
    assert (built.model, built.model_options) == (network, {})
    assert (built.optimizer, built.lr, built.weight_decay, built.momentum) == ("sgd", 0.2, 1e-4, 0.9)
    assert (built.batch_size, built.epochs, built.warmup_epochs) == (4 * 256, 90, 3)
    assert (built.schedule, built.decay_epochs, built.label_smoothing) == ("step", 30, 0.0)
    assert built.machine.precision == "fp16"
    assert expects(built.name, paper["top1"])
    longer = get_recipe(f"{network}_imagenet_long")
    own = {"name": built.name, "epochs": built.epochs, "decay_epochs": built.decay_epochs}
    assert dataclasses.replace(longer, **own) == built
    assert longer.epochs > built.epochs
    assert longer.decay_epochs * built.epochs == built.decay_epochs * longer.epochs
    assert expects(longer.name, paper["top1_long"])


def test_the_baseline_trains_by_the_same_settings():
    base, paper = get_recipe("resnet50_imagenet"), PARAMETER_FREE["resnet50"]
    hybrid = get_recipe("resnet50_hybrid_imagenet")
    assert dataclasses.replace(hybrid, name=base.name, model="resnet50") == base
    assert expects(base.name, paper["top1"])
    cutmix, figures = get_recipe("resnet50_cutmix"), PARAMETER_FREE["resnet50_throughput"]
    assert (cutmix.epochs, cutmix.augment.cutmix, cutmix.optimizer) == (300, 1.0, "sgd")
    deit = get_recipe("resnet50_deit")
    assert dataclasses.replace(get_recipe("vit_s_max_deit"), name=deit.name, model="resnet50") == deit
    assert expects(cutmix.name, figures["top1_cutmix"])
    assert expects(deit.name, figures["top1_deit"])


def test_the_rate_falls_after_30_and_60_epochs_of_the_run():
    built, steps = get_recipe("resnet50_hybrid_imagenet"), 5
    network = torch.nn.Linear(2, 2)
    taken = Optimization(built, network, Accelerator(cpu=True), ClassLoss(built, 2), steps)

    def rate(epoch: int) -> float:
        taken.scheduler.step_update(epoch * steps)
        return taken.learning_rate

    assert rate(0) == pytest.approx(1e-4)
    assert [rate(epoch) for epoch in (3, 29, 30, 59, 60, 89)] == pytest.approx([0.2, 0.2, 0.02, 0.02, 0.002, 0.002])


@pytest.mark.parametrize("network", ["vit_s_max", "pit_s_max"])
def test_a_transformer_with_parameter_free_layers_trains_as_deit(network):
    """The defaults of main.py of https://github.com/facebookresearch/deit, with 4 processes of 256 images."""
    built = get_recipe(f"{network}_deit")
    assert (built.model, built.model_options) == (network, {"drop_path_rate": 0.1})
    assert (built.optimizer, built.optimizer_eps, built.weight_decay, built.clip_grad) == ("adamw", 1e-8, 0.05, None)
    assert built.batch_size == 4 * 256
    assert built.lr == pytest.approx(5e-4 * built.batch_size / 512)
    assert (built.schedule, built.warmup_lr, built.min_lr) == ("cosine", 1e-6, 1e-5)
    assert paper_epochs(built) == 300
    augment = built.augment
    assert (augment.policy, augment.mixup, augment.cutmix) == ("rand-m9-mstd0.5-inc1", 0.8, 1.0)
    assert (augment.mix_probability, augment.switch_probability, augment.repeats) == (1.0, 0.5, 3)
    assert (augment.random_erasing, built.label_smoothing, built.data.crop_ratio) == (0.25, 0.1, 0.875)
    assert expects(built.name, PARAMETER_FREE[network]["top1_deit"])


@pytest.mark.parametrize("network", ["vit_s_max", "pit_s_max"])
def test_the_plainer_settings_leave_out_what_deit_adds(network):
    vanilla, cutmix, deit = (get_recipe(f"{network}_{name}") for name in ("vanilla", "cutmix", "deit"))
    assert vanilla.augment == Augment()
    assert (vanilla.model_options, vanilla.label_smoothing, vanilla.epochs) == ({}, 0.0, paper_epochs(deit))
    assert vanilla.warmup_epochs == 5
    changed = ("name", "model_options", "augment", "epochs", "warmup_epochs", "label_smoothing")
    assert dataclasses.replace(vanilla, **{name: getattr(deit, name) for name in changed}) == deit
    assert cutmix == dataclasses.replace(vanilla, name=cutmix.name, augment=Augment(cutmix=1.0))
    for built, key in ((vanilla, "top1_vanilla"), (cutmix, "top1_cutmix")):
        assert expects(built.name, PARAMETER_FREE[network][key])


def test_networks_with_parameter_free_layers_share_their_recipes():
    for build in (parameter_free.resnet, parameter_free.resnet_long):
        first, *others = (dataclasses.replace(build(name), name="", model="") for name in parameter_free.RESNETS)
        assert all(other == first for other in others)
    for build in (parameter_free.vanilla, parameter_free.cutmix, parameter_free.deit):
        first, *others = (dataclasses.replace(build(name), name="", model="") for name in parameter_free.TRANSFORMERS)
        assert all(other == first for other in others)
