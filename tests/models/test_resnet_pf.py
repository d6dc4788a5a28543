import json

import numpy as np
import pytest
import torch
from networks_for_tests import GOLDEN, golden_fill, official_weights, trained
from torch import nn
from torch.testing import assert_close

import plainvision as pv
from plainvision.layers.spatial_pool import pooled_blocks, spatial_pool
from plainvision.models.resnet_pf import Bottleneck

TABLES = json.loads((GOLDEN / "parameter_free_tables.json").read_text())["models"]
# The official names, and what ours are built by; the baseline is the same network without pooling.
OFFICIAL = {
    "pf_resnet50_max": ("resnet50_max", {}),
    "pf_resnet50_hybrid": ("resnet50_hybrid", {}),
    "pf_resnet50": ("resnet50_max", {"pooled": "none"}),
}
NAMES = ("resnet50_max", "resnet50_hybrid")


def small(name="resnet50_max", **options):
    return pv.create_model(name, **{"width": 1 / 8, "depths": (2, 2, 1, 1), "num_classes": 5, **options})


def mixers(model):
    return [module.mix for module in model.modules() if isinstance(module, Bottleneck)]


@pytest.mark.parametrize("official", OFFICIAL)
def test_it_answers_like_the_official_code(official):
    with np.load(GOLDEN / "parameter_free_logits.npz") as golden:
        expected = torch.from_numpy(golden[f"{official}/seed0/224"])
    name, options = OFFICIAL[official]
    model = pv.load_checkpoint(pv.create_model(name, **options), official_weights(official, "parameter_free")).eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(golden_fill().image(224, 2, 0)))
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_the_card_equals_the_paper(name):
    card, paper = pv.card(name), TABLES[name]
    assert round(card.params / 1e6, 1) == paper["params_m"]
    assert round(card.macs / 1e9, 1) == paper["macs_g"]
    assert card.top1 == paper["top1"]
    assert str(paper["top1_long"]) in card.note


def test_the_baseline_costs_what_the_paper_says():
    with torch.device("meta"):
        model = pv.create_model("resnet50_max", pooled="none")
    paper = TABLES["resnet50"]
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == paper["params_m"]
    assert round(pv.bench.count_macs(model) / 1e9, 1) == paper["macs_g"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_activations_keep_the_layout_in_which_a_cpu_pools_fast(name, channels):
    model = small(name, in_chans=channels)
    seen = []
    for module in model.stages.modules():
        module.register_forward_hook(lambda module, _, output: seen.append((module, output)))
    model(torch.randn(2, channels, 64, 96))
    for module, output in seen:
        assert output.is_contiguous(memory_format=torch.channels_last), module


@pytest.mark.parametrize("name", NAMES)
def test_images_in_either_layout_get_the_same_answer(name, images):
    model = trained(small(name))
    other = model(images.contiguous(memory_format=torch.channels_last))
    assert_close(other, model(images), rtol=1e-5, atol=1e-5 * other.abs().max().item())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(97, 131), (33, 64), (75, 50)])
def test_odd_sizes_round_up_at_each_halving(name, size):
    model = small(name)
    for features, reduction in zip(
        model.forward_intermediates(torch.randn(1, 3, *size), intermediates_only=True), (2, 4, 8, 16, 32), strict=True
    ):
        assert features.shape[2:] == tuple(-(-side // reduction) for side in size)


def test_which_blocks_pool_is_an_option():
    for pooled, expected in {
        "all": [True] * 6,
        "none": [False] * 6,
        "odd": [False, True, False, True, False, False],
        "even": [True, False, True, False, True, True],
        (0, 4): [True, False, False, False, True, False],
    }.items():
        found = [isinstance(mix, nn.MaxPool2d) for mix in mixers(small(pooled=pooled))]
        assert found == expected, pooled


def test_the_hybrid_convolves_where_it_halves_and_pools_elsewhere():
    kinds = mixers(small("resnet50_hybrid"))
    assert [isinstance(mix, nn.MaxPool2d) for mix in kinds] == [True, True, False, True, False, False]
    assert isinstance(kinds[2].pool, nn.AvgPool2d)
    assert kinds[2].conv[0].stride == (1, 1)


def test_op_and_window_are_options(images):
    model = small(op="avg", kernel_size=5)
    assert all(isinstance(mix, nn.AvgPool2d) and mix.kernel_size == 5 for mix in mixers(model))
    assert model(images).shape == (2, 5)


def test_width_multiplies_all_channels():
    whole, half = pv.create_model("resnet50_max", num_classes=0), pv.create_model("resnet50_max", width=0.5)
    assert half.num_features * 2 == whole.num_features == 2048
    assert [info["num_chs"] * 2 for info in half.feature_info] == [info["num_chs"] for info in whole.feature_info]


@pytest.mark.parametrize("op", ["max", "avg"])
def test_a_window_counts_nothing_outside_the_image(op):
    pool = spatial_pool(op)
    for value in (-2.0, 3.0):
        assert_close(pool(torch.full((1, 2, 4, 6), value)), torch.full((1, 2, 4, 6), value))


def test_blocks_are_counted_within_their_stage_by_word_and_through_the_network_by_number():
    assert pooled_blocks("odd", (3, 2)) == [[False, True, False], [False, True]]
    assert pooled_blocks([0, 3], (3, 2)) == [[True, False, False], [True, False]]


OPTIONS = {
    "max": {},
    "hybrid": {"strided": "conv"},
    "baseline": {"pooled": "none"},
    "average": {"op": "avg"},
    "some": {"pooled": (1, 3), "strided": "conv"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_each_form_fuses_to_the_same_answers(options, images):
    model = trained(small(**options))
    fused = pv.fuse(model)
    expected = model(images)
    assert_close(fused(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert all(isinstance(block.reduce, nn.Conv2d) for block in fused.modules() if isinstance(block, Bottleneck))


@pytest.mark.parametrize("name", NAMES)
def test_the_forward_pass_can_be_traced(name, images):
    model = trained(small(name))
    assert_close(torch.fx.symbolic_trace(model)(images), model(images), rtol=0, atol=0)


def test_stochastic_depth_rises_to_its_rate_in_the_last_block():
    model = small(drop_path_rate=0.5)
    rates = [getattr(block.drop_path, "drop_prob", 0) for block in model.modules() if isinstance(block, Bottleneck)]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_attention_pooling_takes_the_place_of_its_average(images):
    changed = pv.surgery.attention_pooling(small())
    assert changed(images).shape == (2, 5)
    assert pv.attention_maps(changed, images).shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strided": "skip"}, r"unknown strided 'skip'.*'pool' or 'conv'"),
        ({"op": "min"}, r"unknown spatial op 'min'.*'max' and 'avg'"),
        ({"kernel_size": 2}, r"kernel_size=2.*odd.*Give 3"),
        ({"pooled": "some"}, r"pooled='some'.*'all', 'none', 'odd', 'even'"),
        ({"pooled": (2, 9)}, r"no block 9 that could pool: the network has 6"),
        ({"depths": (2, 0, 1, 1)}, r"depths=\(2, 0, 1, 1\).*stage without blocks"),
        ({"width": 0}, r"width=0 leaves no channels.*above zero"),
        ({"global_pool": "sum"}, r"unknown global_pool 'sum'.*'avg', 'max'"),
        ({"global_pool": ""}, r"a classifier needs pooled features.*num_classes=0"),
    ],
)
def test_bad_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)
