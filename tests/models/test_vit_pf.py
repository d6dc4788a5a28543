import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks_for_tests import GOLDEN, golden_fill, official_weights, trained, unfold
from timm.layers import Attention
from torch import nn
from torch.testing import assert_close

import plainvision as pv
from plainvision.models.vit_pf import EffLayer, positions_at

TABLES = json.loads((GOLDEN / "parameter_free_tables.json").read_text())["models"]


def small(**options):
    return pv.create_model("vit_ti_max", **{"width": 1 / 3, "depth": 4, "num_classes": 5, **options})


def pooling(model):
    return [isinstance(block.mix, EffLayer) for block in model.blocks]


@pytest.mark.parametrize("name", ["vit_ti_max", "vit_s_max"])
def test_it_answers_like_the_official_code(name):
    with np.load(GOLDEN / "parameter_free_logits.npz") as golden:
        expected = torch.from_numpy(golden[f"{name}/seed0/224"])
    model = pv.load_checkpoint(pv.create_model(name), {"model": official_weights(name, "parameter_free")}).eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(golden_fill().image(224, 2, 0)))
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_the_largest_official_checkpoint_has_our_keys_and_shapes():
    with torch.device("meta"):
        model = pv.create_model("vit_b_max")
        shapes = json.loads((GOLDEN / "parameter_free_shapes.json").read_text())["vit_b_max"]
        weights = {key: torch.empty(shape) for key, shape in unfold(shapes).items()}
    model.load_state_dict(weights, strict=True, assign=True)


def test_the_card_equals_the_paper():
    card, paper = pv.card("vit_s_max"), TABLES["vit_s_max"]
    assert round(card.params / 1e6, 1) == paper["params_m"]
    assert round(card.macs / 1e9, 2) == paper["macs_g"]
    assert card.top1 == paper["top1_deit"]
    assert pv.card("vit_ti_max").top1 is None


def test_an_eff_layer_pools_along_both_sides_of_a_grid_that_is_not_square():
    layer = trained(EffLayer(8, kernel_size=3))
    patches = torch.randn(2, 3, 5, 8)
    hidden = F.gelu(layer.expand(patches))
    expected = torch.empty_like(hidden)
    for row in range(3):
        for column in range(5):
            window = hidden[:, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            expected[:, row, column] = window.amax((1, 2))
    assert_close(layer(patches.flatten(1, 2), (3, 5)), layer.proj(F.gelu(expected)).flatten(1, 2))


def test_a_network_without_attention_moves_with_the_image():
    """Only a grid that keeps its rows and columns does; one reshaped as if it were square would not."""
    model = trained(small(pooled="all", depth=2))
    with torch.no_grad():
        model.pos_embed.zero_()
    image = torch.zeros(1, 3, 96, 240)
    image[..., 32:48, 32:48] = 1
    still, moved = model.forward_features(image), model.forward_features(image.roll(16 * 8, dims=3))
    assert still.shape == (1, 64, 6, 15)
    assert_close(moved[..., 8:], still[..., :7])


def test_positions_are_interpolated_only_for_other_sizes():
    positions = torch.randn(1, 4, 6, 8)
    assert positions_at(positions, (6, 8)) is positions
    assert positions_at(positions, (9, 5)).shape == (1, 4, 9, 5)
    assert_close(positions_at(torch.ones(1, 4, 6, 8), (9, 5)), torch.ones(1, 4, 9, 5))
    assert small(img_size=(64, 96)).pos_embed.shape == (1, 64, 4, 6)


def test_position_embeddings_learn_at_every_size(images):
    model = small()
    model(images).square().sum().backward()
    assert model.pos_embed.grad.abs().sum() > 0


@pytest.mark.parametrize("channels", [1, 3])
def test_features_keep_one_memory_layout(channels):
    model = small(in_chans=channels)
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda block, _, output: seen.append(output))
    seen.append(model.forward_features(torch.randn(2, channels, 64, 96)))
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in seen)


def test_which_blocks_pool_is_an_option():
    for pooled, expected in {
        "odd": [False, True, False, True],
        "even": [True, False, True, False],
        "all": [True] * 4,
        "none": [False] * 4,
        (0, 3): [True, False, False, True],
    }.items():
        model = small(pooled=pooled)
        assert pooling(model) == expected, pooled
        assert sum(isinstance(module, Attention) for module in model.modules()) == expected.count(False)
    assert pooling(small()) == pooling(small(pooled="odd"))


def test_op_window_and_patches_are_options(images):
    model = small(op="avg", kernel_size=5, patch_size=8, img_size=64)
    assert isinstance(model.blocks[1].mix.pool, nn.AvgPool2d)
    assert model.blocks[1].mix.pool.kernel_size == 5
    assert model.pos_embed.shape == (1, 64, 8, 8)
    assert model.forward_features(images).shape == (2, 64, 8, 12)


def test_the_last_norm_is_that_of_the_features(images):
    model = trained(small())
    last, intermediates = model.forward_intermediates(images, norm=True)
    assert_close(intermediates[-1], last, rtol=0, atol=0)
    plain = model.forward_intermediates(images, intermediates_only=True)
    chosen = model.forward_intermediates(images, [1], norm=True, intermediates_only=True)
    assert_close(chosen[0], model.norm(plain[1]))


def test_there_is_nothing_to_fuse():
    with pytest.raises(ValueError, match="nothing to fuse in ViTPF"):
        pv.fuse(small())


def test_the_classifiers_pooling_can_be_changed_after_building(images):
    model = trained(small())
    features = model.forward_features(images)
    model.reset_classifier(3, "max")
    assert_close(model.forward_head(features, pre_logits=True), features.amax((2, 3)))
    model.reset_classifier(0, "")
    assert_close(model(images), features)


def test_weight_decay_spares_the_positions():
    model = small()
    assert model.no_weight_decay() <= {name for name, _ in model.named_parameters()}


def test_stochastic_depth_rises_to_its_rate_in_the_last_block():
    rates = [getattr(block.drop_path, "drop_prob", 0) for block in small(drop_path_rate=0.3).blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match=r"It looks like the weights of another network than this ViTPF"):
        pv.load_checkpoint(small(), small(pooled="none").state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"op": "min"}, r"unknown spatial op 'min'.*'max' and 'avg'"),
        ({"kernel_size": 4}, r"kernel_size=4.*odd"),
        ({"pooled": "third"}, r"pooled='third'.*'odd', 'even'"),
        ({"pooled": (4,)}, r"no block 4 that could pool: the network has 4"),
        ({"depth": 0}, r"depths=\(0,\).*stage without blocks"),
        ({"width": -1}, r"width=-1 leaves no heads"),
        ({"img_size": (224, 15)}, r"img_size=\(224, 15\) has no whole patch of patch_size=16.*larger img_size"),
        ({"global_pool": "token"}, r"unknown global_pool 'token'"),
    ],
)
def test_bad_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)
