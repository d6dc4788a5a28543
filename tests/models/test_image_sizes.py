"""Weights of one image size in a network of another: positions are interpolated, and nothing else changes."""

import pytest
import torch
from torch.testing import assert_close

from plainvision.models.image_sizes import size_options
from plainvision.models.loading import load_backbone, load_checkpoint
from plainvision.models.registry import create_model


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_ti_max", {"depth": 2}),  # ours interpolate in each pass, too
        ("pit_ti_max", {}),
        ("vit_tiny_patch16_224", {"depth": 2, "dynamic_img_size": True}),  # by which timm's do
    ],
)
def test_a_network_of_another_size_answers_as_one_that_interpolates(name, options):
    torch.manual_seed(0)
    whole = create_model(name, num_classes=4, **options).eval()
    torch.nn.init.normal_(whole.pos_embed)
    small = create_model(name, num_classes=4, img_size=96, **{**options, "drop_rate": 0.0})
    assert small.pos_embed.shape != whole.pos_embed.shape
    load_checkpoint(small, whole.state_dict())
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert_close(small.eval()(images), whole(images), rtol=1e-4, atol=1e-5)


def test_class_tokens_keep_their_positions():
    whole, small = (
        create_model("deit_tiny_distilled_patch16_224", depth=1, img_size=size, num_classes=3) for size in (224, 96)
    )
    torch.nn.init.normal_(whole.pos_embed)
    load_backbone(small, whole.state_dict())
    assert_close(small.pos_embed[:, :2], whole.pos_embed[:, :2])
    assert small.pos_embed.shape == (1, 2 + 36, 192)


@pytest.mark.parametrize("shape", [(1, 12, 192), (1, 197, 64), (197, 192)])
def test_positions_of_no_grid_are_refused(shape):
    small = create_model("vit_tiny_patch16_224", depth=1, img_size=96)
    state = {**small.state_dict(), "pos_embed": torch.zeros(shape)}
    with pytest.raises(ValueError, match="wrong shape: pos_embed is "):
        load_checkpoint(small, state)


def test_only_networks_of_one_size_are_told_another():
    assert size_options("vit_tiny_patch16_224", 96) == {"img_size": 96}
    assert size_options("vit_tiny_patch16_224.augreg_in21k", 224) == {}
    for name in ("vit_ti_max", "tf_efficientnet_lite0", "vanillanet_5", "torchvision/resnet18", "unknown"):
        assert size_options(name, 96) == {}
