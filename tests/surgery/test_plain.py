"""Residual networks without shortcuts."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.testing import assert_close

import plainvision as pv

NETWORKS = {
    "resnet18 of torchvision": (lambda: torchvision.models.resnet18(num_classes=5), 8),
    "resnet34 of timm": (lambda: timm.create_model("resnet34", num_classes=5), 16),
    "resnet50 of torchvision": (lambda: torchvision.models.resnet50(num_classes=5, width_per_group=8), 16),
    "resnet20_cifar": (lambda: pv.create_model("resnet20_cifar", num_classes=5), 9),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_block_loses_its_shortcut_and_the_rest_keeps_its_weights(name):
    build, blocks = NETWORKS[name]
    model = build().eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    without = pv.surgery.plain(model, image_size=64)
    assert len(without.report.removed) == blocks
    own = without.state_dict()
    assert {key for key in state if "downsample" not in key} == own.keys()
    assert all(torch.equal(value, state[key]) for key, value in own.items())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert without.report.parameters_after == sum(value.numel() for value in without.parameters())
    assert without(torch.randn(2, 3, 64, 64)).shape == (2, 5)
    assert f"{blocks} shortcuts removed" in str(without.report)


def test_the_branch_alone_is_what_is_computed(images):
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return torch.relu(x + self.two(torch.relu(self.one(x))))

    block = Block().eval()
    expected = torch.relu(block.two(torch.relu(block.one(images))))
    assert_close(pv.surgery.plain(block, image_size=64)(images), expected, rtol=0, atol=0)


def test_a_network_without_shortcuts_and_one_that_branches_are_refused():
    with pytest.raises(ValueError, match=r"AlexNet has no shortcut: nowhere do two ways part and are added again"):
        pv.surgery.plain(torchvision.models.alexnet())

    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"forward pass of Branching cannot be traced"):
        pv.surgery.plain(Branching())
