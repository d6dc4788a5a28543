"""How deep networks are, by the numbers in their names."""

import pytest
import torch
from torch import nn

import plainvision as pv
from plainvision.inspection.depth import count_depth


@pytest.mark.parametrize(
    ("name", "options", "depth"),
    [
        *((f"vanillanet_{depth}", {"deployed": True}, depth) for depth in (5, 9, 13)),
        ("vanillanet_5", {}, 10),  # pairs
        ("resnet18", {}, 18),
        ("resnet50", {}, 50),  # and none of the four shortcuts with a convolution
        ("vgg16", {}, 16),
        ("vit_tiny_patch16_224", {}, 50),  # patches, four products in each of twelve blocks, the classifier
    ],
)
def test_depth_is_that_of_the_name(name, options, depth):
    with torch.device("meta"):
        assert count_depth(pv.create_model(name, **options)) == depth


def test_the_longest_way_counts_and_depthwise_convolutions_do_not():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.short, self.long = nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1))
            self.depthwise, self.head = nn.Conv2d(4, 4, 3, groups=4, padding=1), nn.Linear(4, 2, bias=False)

        def forward(self, images):
            return self.head(self.depthwise(self.short(images) + self.long(images)).mean((2, 3)))

    network = Two()
    assert count_depth(network, 8) == 3
    assert network.training  # and nothing is left behind
    assert all(one.grad is None for one in network.parameters())
    with pytest.raises(ValueError, match="Give an image_size and channels above zero"):
        count_depth(network, 0)
