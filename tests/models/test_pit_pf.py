import json

import numpy as np
import pytest
import torch
from networks_for_tests import GOLDEN, golden_fill, official_weights, trained, unfold
from timm.models._manipulate import group_parameters
from torch import nn
from torch.testing import assert_close

import plainvision as pv
from plainvision.models.vit_pf import EffBlock, EffLayer

TABLES = json.loads((GOLDEN / "parameter_free_tables.json").read_text())["models"]


def small(**options):
    return pv.create_model("pit_ti_max", **{"width": 1 / 2, "depths": (1, 3, 2), "num_classes": 5, **options})


def pooling(model):
    return [[isinstance(block.mix, EffLayer) for block in stage.blocks] for stage in model.stages]


@pytest.mark.parametrize("name", ["pit_s_max", "pit_b_max"])
def test_it_answers_like_the_official_code(name):
    with np.load(GOLDEN / "parameter_free_logits.npz") as golden:
        expected = torch.from_numpy(golden[f"{name}/seed0/224"])
    model = pv.load_checkpoint(pv.create_model(name), {"model": official_weights(name, "parameter_free")}).eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(golden_fill().image(224, 2, 0)))
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_the_smallest_official_checkpoint_has_our_keys_and_shapes():
    with torch.device("meta"):
        model = pv.create_model("pit_ti_max")
        shapes = json.loads((GOLDEN / "parameter_free_shapes.json").read_text())["pit_ti_max"]
        weights = {key: torch.empty(shape) for key, shape in unfold(shapes).items()}
    model.load_state_dict(weights, strict=True, assign=True)


def test_the_card_equals_the_paper():
    card, paper = pv.card("pit_s_max"), TABLES["pit_s_max"]
    assert round(card.params / 1e6, 1) == paper["params_m"]
    assert round(card.macs / 1e9, 2) == paper["macs_g"]
    assert card.top1 == paper["top1_deit"]


def test_the_classifier_can_be_replaced_as_it_cannot_in_the_official_code(images):
    model = trained(small())
    features = model.forward_features(images)
    model.reset_classifier(3)
    assert model.num_classes == model.get_classifier().out_features == 3
    assert_close(model(images), model.get_classifier()(features.mean((2, 3))), rtol=1e-4, atol=1e-5)
    model.reset_classifier(0)
    assert_close(model(images), features.mean((2, 3)), rtol=1e-4, atol=1e-5)
    model.reset_classifier(0, "")
    assert_close(model(images), features)
    model.double().reset_classifier(2, "max")
    assert model.get_classifier().weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("size", "grids"), [((64, 160), [(7, 19), (4, 10), (2, 5)]), ((71, 50), [(7, 5), (4, 3), (2, 2)])]
)
def test_images_need_not_be_square(size, grids):
    features = small().forward_intermediates(torch.randn(1, 3, *size), intermediates_only=True)
    assert [tuple(x.shape[2:]) for x in features] == grids


def test_the_first_block_of_each_stage_attends():
    assert pooling(small()) == [[False], [False, True, False], [False, True]]
    assert pooling(small(pooled=(0, 2, 5))) == [[True], [False, True, False], [False, True]]
    assert pooling(small(pooled="none")) == [[False], [False] * 3, [False] * 2]


def test_op_and_window_are_options(images):
    model = small(op="avg", kernel_size=5)
    pools = [module.pool for module in model.modules() if isinstance(module, EffLayer)]
    assert [type(pool) for pool in pools] == [nn.AvgPool2d] * 2
    assert [pool.kernel_size for pool in pools] == [5, 5]
    assert model(images).shape == (2, 5)


def test_width_multiplies_the_heads_and_every_stage_doubles_them():
    model = pv.create_model("pit_s_max", width=1 / 3, depths=(1, 1, 1))
    assert [info["num_chs"] for info in model.feature_info] == [48, 96, 192]
    assert [stage.blocks[0].mix.num_heads for stage in model.stages] == [1, 2, 4]


@pytest.mark.parametrize("channels", [1, 3])
def test_features_keep_one_memory_layout(channels):
    model = small(in_chans=channels)
    seen = []
    for module in model.modules():
        if isinstance(module, EffBlock):
            module.register_forward_hook(lambda block, _, output: seen.append(output))
    seen.append(model.forward_features(torch.randn(2, channels, 64, 96)))
    assert len(seen) == 7
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in seen)


def test_what_halves_the_image_learns_with_the_block_behind_it():
    model = small()
    groups = group_parameters(model, model.group_matcher(), reverse=True)
    assert groups["stages.1.pool.weight"] == groups["stages.1.blocks.0.norm1.weight"]
    order = ["pos_embed", "stages.0.blocks.0.norm1.weight", "stages.1.pool.weight", "stages.1.blocks.2.norm1.weight"]
    found = [groups[name] for name in [*order, "stages.2.pool.bias", "norm.weight"]]
    assert found == sorted(set(found))
    stages = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    assert stages["stages.1.pool.weight"] == stages["stages.1.blocks.2.norm1.weight"]


def test_stochastic_depth_rises_through_all_stages():
    model = small(drop_path_rate=0.6)
    rates = [getattr(block.drop_path, "drop_prob", 0) for stage in model.stages for block in stage.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_weight_decay_spares_the_positions():
    model = small()
    assert model.no_weight_decay() <= {name for name, _ in model.named_parameters()}


def test_there_is_nothing_to_fuse():
    with pytest.raises(ValueError, match="nothing to fuse in PiTPF"):
        pv.fuse(small())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"op": "min"}, r"unknown spatial op 'min'.*'max' and 'avg'"),
        ({"kernel_size": 4}, r"kernel_size=4.*odd"),
        ({"pooled": (-1,)}, r"no block -1 that could pool: the network has 6"),
        ({"depths": (1, 0)}, r"depths=\(1, 0\).*stage without blocks"),
        ({"width": 0}, r"width=0 leaves no heads"),
        ({"img_size": 12}, r"img_size=12 has no whole patch of patch_size=16"),
    ],
)
def test_bad_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)
