import json
import math

import numpy as np
import pytest
import torch
from networks_for_tests import GOLDEN, official_weights, trained
from torch import nn
from torch.testing import assert_close

import plainvision as pv
from plainvision.inspection.counting import count_macs
from plainvision.layers import LinearPair

TABLES = json.loads((GOLDEN / "vanillanet_tables.json").read_text())
RECORDED = ("vanillanet_5", "vanillanet_6", "vanillanet_9", "vanillanet_13_x1_5_ada_pool")


@pytest.mark.parametrize("name", RECORDED)
def test_it_answers_like_the_official_code(name):
    with np.load(GOLDEN / "vanillanet_logits.npz") as golden:
        expected = torch.from_numpy(golden[f"{name}/seed0/224"])
    from networks_for_tests import golden_fill

    model = pv.load_checkpoint(pv.create_model(name), {"model": official_weights(name), "epoch": 299}).eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(golden_fill().image(224, 2, 0)))
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", sorted(TABLES["models"]))
def test_the_card_equals_the_paper(name):
    card, paper = pv.card(name), TABLES["models"][name]
    assert round(card.params / 1e6, 1) == paper["params_m"]
    # Half a per cent, or the printed digits: 5.2 stands for anything from 5.15 on.
    assert card.macs / 1e9 == pytest.approx(paper["macs_g"], rel=5e-3) or round(card.macs / 1e9, 1) == paper["macs_g"]
    assert card.top1 == paper["top1"]
    assert (card.latency.value, card.latency.device, card.latency.batch_size) == (paper["a100_ms"], "A100", 1)


@pytest.mark.parametrize("row", TABLES["series_ablation_vanillanet_6"], ids=lambda row: f"n={row['n']}")
def test_the_series_ablation_costs_what_the_paper_says(row):
    with torch.device("meta"):
        model = pv.create_model("vanillanet_6", deployed=True, series=row["n"])
    assert count_macs(model, 224) / 1e9 == pytest.approx(row["macs_g"], rel=5e-3)


def test_an_official_checkpoint_is_a_finished_network():
    model = pv.create_model("vanillanet_5")
    assert {pair.slope.item() for pair in model.modules() if isinstance(pair, LinearPair)} == {0.0}
    weights = official_weights("vanillanet_5")
    worse = {key: value * 2 for key, value in weights.items()}
    pv.load_checkpoint(model, {"model": worse, "model_ema": weights})
    assert {pair.slope.item() for pair in model.modules() if isinstance(pair, LinearPair)} == {1.0}
    assert_close(model.stages[0].conv.first[0].weight, weights["stages.0.conv1.0.weight"])  # the average, not the last


def test_timm_loads_an_official_file_by_itself(tmp_path):
    import argparse

    import timm

    weights = official_weights("vanillanet_5")
    torch.save({"model": weights, "args": argparse.Namespace(lr=1.0)}, tmp_path / "vanillanet_5.pth")
    by_us = pv.load_checkpoint(pv.create_model("vanillanet_5"), tmp_path / "vanillanet_5.pth")
    torch.save({"model": weights}, tmp_path / "plain.pth")
    by_path = timm.create_model("vanillanet_5", checkpoint_path=str(tmp_path / "plain.pth"))
    overlay = {"file": str(tmp_path / "plain.pth")}
    other_classes = timm.create_model("vanillanet_5", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=3)
    for model in (by_us, by_path, other_classes):
        assert_close(model.stem.conv.first[0].weight, weights["stem1.0.weight"])
    assert other_classes.get_classifier().second[0].out_channels == 3


def test_official_deployed_weights_load_into_the_deployed_form(images):
    """The official code's names for the fused layers, from its `switch_to_deploy`."""
    training_form = trained(pv.create_model("vanillanet_5", width=1 / 64))
    pv.set_slope(training_form, 1)
    fused = pv.fuse(training_form)
    names = {"stem.conv.": "stem.0.", "stem.act.1.": "stem.1.", "head.": "cls.2."}
    official = {}
    for key, value in fused.state_dict().items():
        for ours, theirs in names.items():
            key = theirs + key.removeprefix(ours) if key.startswith(ours) else key
        official[key.replace(".act.1.", ".act.")] = value
    model = pv.load_checkpoint(pv.create_model("vanillanet_5", width=1 / 64, deployed=True), official).eval()
    assert_close(model(images), fused(images), rtol=0, atol=0)


def test_the_fixed_pooling_is_the_adaptive_one_at_224_pixels_and_exports():
    model = pv.create_model("vanillanet_13_x1_5_ada_pool", width=1 / 96, deployed=True).eval()
    pools = [layer for layer in model.modules() if isinstance(layer, nn.MaxPool2d)]
    for pool, side in zip(pools, (75, 38, 19), strict=True):
        x = torch.randn(1, 2, side, side)
        assert_close(pool(x), nn.functional.adaptive_max_pool2d(x, math.ceil(side / 2)), rtol=0, atol=0)
    exported = torch.export.export(model, (torch.randn(1, 3, 224, 224),))
    x = torch.randn(1, 3, 224, 224)
    assert_close(exported.module()(x), model(x))


@pytest.mark.parametrize("shortcut", ["before", "after"])
def test_a_shortcut_adds_no_parameter_and_fuses(shortcut, images):
    plain = pv.create_model("vanillanet_7", width=1 / 64)
    model = trained(pv.create_model("vanillanet_7", width=1 / 64, shortcut=shortcut, drop_path_rate=0.2))
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters())
    pv.set_slope(model, 1)
    assert_close(pv.fuse(model)(images), model(images), rtol=1e-4, atol=1e-4)


def test_a_shortcut_carries_the_input_past_the_convolution():
    """With every convolution silent, the shortcut alone is left: pooled, and padded with empty channels."""
    stage = pv.create_model("vanillanet_5", width=1 / 64, shortcut="after", deployed=True).stages[0]
    for parameter in stage.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(1, 8, 8, 8)
    assert_close(stage(x)[:, :8], nn.functional.max_pool2d(x, 2))
    assert stage(x)[:, 8:].abs().sum() == 0


def test_no_series_means_a_plain_relu():
    model = pv.create_model("vanillanet_6", width=1 / 64, series=0, linear_pairs=False)
    assert type(model.stem.act) is nn.ReLU
    assert not any(isinstance(module, LinearPair) for module in model.modules())


def test_stochastic_depth_without_a_shortcut_says_that_it_does_nothing():
    with pytest.warns(UserWarning, match=r"drop_path_rate=0\.1.*no shortcut"):
        pv.create_model("vanillanet_5", width=1 / 64, drop_path_rate=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, r"width=0 leaves no channels"),
        ({"shortcut": "around"}, r"unknown shortcut 'around'.*before.*after"),
        ({"global_pool": "sum"}, r"unknown global_pool 'sum'"),
        ({"series": -1}, r"series=-1"),
    ],
)
def test_bad_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        pv.create_model("vanillanet_5", **options)
