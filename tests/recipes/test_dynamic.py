"""Random option fine-tuning runs as its paper says."""

import dataclasses

import pytest

from plainvision.recipes import dynamic, get_recipe
from plainvision.training.recipe import Augment
from plainvision.training.techniques import RandomOptions


@pytest.mark.parametrize("changes", [*dynamic.ATTRIBUTES, "stride_size"])
def test_random_option_fine_tuning_runs_as_the_paper_says(changes):
    """arXiv:2103.09891, section 3.4 and the appendix; section 4.6 has the options of strides and sizes together."""
    built = get_recipe(f"resnet50_rof_{changes}")
    assert built.model == "resnet50"
    assert (built.epochs, built.schedule, built.decay_epochs, built.warmup_epochs) == (15, "step", 10, 0)
    assert (built.optimizer, built.lr, built.momentum, built.weight_decay) == ("momentum", 1e-3, 0.9, 1e-4)
    both = RandomOptions(attribute=None, stride=(1, 2, 3, 4), size=(1, 3))
    assert built.techniques == (both if changes == "stride_size" else RandomOptions(changes),)
    assert (built.augment, built.label_smoothing) == (Augment(), 0.0)


@pytest.mark.parametrize("attribute", [*dynamic.ATTRIBUTES, "stride_size"])
def test_resnet20_is_fine_tuned_by_the_schedule_of_resnet50(attribute):
    built, other = get_recipe(f"resnet20_cifar_rof_{attribute}"), get_recipe(f"resnet50_rof_{attribute}")
    own = ("name", "model", "data", "augment", "batch_size", "techniques")
    assert dataclasses.replace(built, **{name: getattr(other, name) for name in own}) == other
    strides = RandomOptions(attribute=None, stride=dynamic.CIFAR_STRIDES)
    both = RandomOptions(
        attribute=None, stride={"A": (1, 2, 3, 4), "B": (1,), "C": (1, 2, 3, 4), "D": (1, 2, 3, 4)}, size=(1, 3)
    )
    own = {"stride": (strides,), "stride_size": (both,)}
    assert built.techniques == own.get(attribute, other.techniques)


@pytest.mark.parametrize(
    ("name", "permutations"),
    [
        ("resnet50_rof_stride", 361),
        ("resnet50_rof_dilation", 625),
        ("resnet50_rof_size", 625),
        ("resnet50_rof_stride_size", 4096),
        ("resnet20_cifar_rof_stride", 80),
        ("resnet20_cifar_rof_dilation", 625),
        ("resnet20_cifar_rof_size", 625),
        ("resnet20_cifar_rof_stride_size", 1024),
    ],
)
def test_a_random_step_has_as_many_permutations_as_the_paper(name, permutations):
    """Section 4.2 counts those of ResNet-50; of ResNet-20's strides all can be computed."""
    from plainvision.training.state import State
    from plainvision.training.weights_file import build_network

    built = get_recipe(name)
    state = State(build_network(built, 10, 0))
    built.techniques[0].start(state)
    assert len(state.notes[RandomOptions]) == permutations
