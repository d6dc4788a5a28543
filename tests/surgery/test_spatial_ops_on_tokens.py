"""A spatial operation in the place of self-attention."""

import copy

import pytest
import torch
import torch.nn.functional as F
from networks_for_tests import trained
from surgery.spatial_ops_for_tests import CLASSES, SIZE, narrow, operations, replaced, vit
from torch import nn
from torch.testing import assert_close

from plainvision.bench import count_macs

VITS = {
    "class token": {"global_pool": "avg"},
    "registers": {"global_pool": "avg", "reg_tokens": 3},
    "no token in front": {"global_pool": "avg", "class_token": False},
    "a norm of the values": {"global_pool": "avg", "scale_attn_norm": True, "qk_norm": True},
}


@pytest.fixture(params=["max", "avg", "identity", "depthwise", "conv"])
def op(request):
    return request.param


@pytest.mark.parametrize("options", VITS.values(), ids=list(VITS))
def test_pooling_stands_between_the_values_and_the_projection(options, op):
    model = vit(**options)
    changed = replaced(model, op, 1)
    attention, operation = model.blocks[1].attn, changed.blocks[1].attn
    prefix = model.num_prefix_tokens
    x = torch.randn(2, prefix + 4 * 6, 12)
    values = attention.qkv(x)[..., 24:]
    grid = values[:, prefix:].transpose(1, 2).reshape(2, 12, 4, 6)
    mixed = {"max": lambda: F.max_pool2d(grid, 3, 1, 1), "identity": lambda: grid}.get(
        op, lambda: operation.layer(grid)
    )()
    expected = torch.cat([values[:, :prefix], mixed.flatten(2).transpose(1, 2)], dim=1)
    assert_close(operation(x), attention.proj(attention.norm(expected)))
    assert operation.original is not attention
    images = torch.randn(2, 3, *SIZE)
    assert torch.equal(replaced(changed, "attention")(images), model(images))


def test_all_attention_of_a_vit_can_be_replaced(op, images):
    changed = replaced(vit(**VITS["registers"]), op).train()
    assert changed.report.changed == ("blocks.0.attn", "blocks.1.attn", "blocks.2.attn")
    assert changed.report.macs_after == count_macs(changed, SIZE)
    changed(images).square().sum().backward()
    # The last block's registers and class token are not read.
    assert [key for key, weight in changed.named_parameters() if weight.grad is None] == []
    assert all(
        weight.grad.abs().max() > 0 for operation in operations(changed).values() for weight in operation.parameters()
    )


def test_the_grid_is_that_of_the_image():
    model = vit(global_pool="avg", dynamic_img_size=True)
    changed = replaced(model, "max")
    for size in ((32, 80), (64, 96), (80, 32)):
        image, other = torch.randn(1, 3, *size), replaced(model, "max")
        turned = changed(image.transpose(2, 3))
        assert changed(image).shape == turned.shape == (1, CLASSES)
        assert torch.equal(changed(image), other(image))  # which has seen this size alone
    copied = copy.deepcopy(changed)
    copied(torch.randn(1, 3, 32, 32))
    assert changed.blocks[0].attn.grid.size == (5, 2)
    assert copied.blocks[0].attn.grid.size == copied.blocks[2].attn.grid.size == (2, 2)


def test_another_operation_on_tokens_keeps_what_the_projections_have_learned(images):
    changed = trained(replaced(vit(global_pool="avg"), "avg"), seed=1)
    other = replaced(replaced(changed, "depthwise"), "avg")
    assert torch.equal(other(images), changed(images))
    assert torch.equal(
        other(images[:, :, :32, :32].repeat(1, 1, 2, 3)), changed(images[:, :, :32, :32].repeat(1, 1, 2, 3))
    )


def test_a_pyramid_of_vits_has_a_grid_in_each_part():
    model = trained(narrow("pit_ti_224", img_size=SIZE)).eval()
    changed = replaced(model, "max", ["transformers.0", "transformers.1.blocks"])
    grids = [
        operation.grid.size
        for operation in operations(changed).values()
        if operation.op == "max" and hasattr(operation, "grid")
    ]
    assert grids == [(7, 11)] * 2 + [(4, 6)] * 6
    assert changed(torch.randn(1, 3, *SIZE)).shape == (1, CLASSES)


def test_a_class_token_that_would_see_nothing_is_refused():
    model = vit()
    with pytest.raises(
        ValueError, match=r"with 'max' in all these places VisionTransformer no longer sees .*global_pool"
    ):
        replaced(model, "max")
    replaced(model, "max", (0, 1))
    some = replaced(model, "max", 2)
    with pytest.raises(ValueError, match="no longer sees the image"):
        replaced(some, "avg", (0, 1))
    nn.init.zeros_(model.head.weight)  # of which nothing can be told
    replaced(model, "max")


def test_tokens_without_a_grid_are_refused():
    model = narrow("mobilevit_xxs")
    with pytest.raises(ValueError, match="its tokens are not those of one grid of patches"):
        replaced(model, "max", "attention", 64)
    assert "stages.1.0.conv2_kxk.conv" in replaced(model, "max", image_size=64).report.changed


def test_masks_and_dropped_patches_are_refused():
    changed = replaced(vit(global_pool="avg"), "max")
    with pytest.raises(ValueError, match=r"'max' stands where attention was, and takes no mask"):
        changed.blocks[0].attn(torch.randn(1, 25, 12), is_causal=True)
    with pytest.raises(ValueError, match=r"24 tokens are not 1 in front and a grid of 4 x 6 patches.*patch dropout"):
        changed.blocks[0].attn(torch.randn(1, 24, 12))
