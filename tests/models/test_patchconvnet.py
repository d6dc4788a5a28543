import json

import numpy as np
import pytest
import timm
import torch
from networks_for_tests import GOLDEN, golden_fill, official_weights, trained, unfold
from torch import nn
from torch.testing import assert_close

import plainvision as pv
from plainvision.inspection.counting import count_macs
from plainvision.layers.attention_pool import AttentionPool, ClassTokenLogits
from plainvision.models.patchconvnet import ColumnBlock

TABLES = json.loads((GOLDEN / "patchconvnet_tables.json").read_text())
OFFICIAL = {"S60": "patchconvnet_s60", "B60": "patchconvnet_b60", "S60_multi": "patchconvnet_s60_multi"}


def small(**options):
    return pv.create_model("patchconvnet_s20", **{"embed_dim": 32, "depth": 2, "num_classes": 5, **options})


def as_printed(macs: int, printed: float) -> bool:
    """Half a per cent, or the printed digits: 4.0 stands for anything from 3.95 on."""
    return macs / 1e9 == pytest.approx(printed, rel=5e-3) or round(macs / 1e9, 1) == printed


@pytest.mark.parametrize("official", OFFICIAL)
def test_it_answers_like_the_official_code(official):
    with np.load(GOLDEN / "patchconvnet_logits.npz") as golden:
        expected = torch.from_numpy(golden[f"{official}/seed0/224"])
    weights = official_weights(official, "patchconvnet")
    model = pv.load_checkpoint(pv.create_model(OFFICIAL[official]), {"model": weights, "epoch": 399}).eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(golden_fill().image(224, 2, 0)))
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("official", ["S120", "B120", "L60", "L120"])
def test_every_official_checkpoint_has_our_keys_and_shapes(official):
    with torch.device("meta"):
        model = pv.create_model(f"patchconvnet_{official.lower()}")
        shapes = json.loads((GOLDEN / "patchconvnet_shapes.json").read_text())[official]
        weights = {key: torch.empty(shape) for key, shape in unfold(shapes).items()}
    model.load_state_dict(weights, strict=True, assign=True)


@pytest.mark.parametrize("name", sorted(TABLES["imagenet1k"]))
def test_the_card_equals_the_paper(name):
    card, paper = pv.card(f"patchconvnet_{name}"), TABLES["imagenet1k"][name]
    assert round(card.params / 1e6, 1) == paper["params_m"]
    assert as_printed(card.macs, paper["macs_g"])
    assert card.top1 == paper["top1"]
    assert card.memory[:4] == (paper["peak_mb"], "V100", 256, "amp")


def test_the_card_of_the_network_with_a_token_per_class_equals_the_paper():
    card, paper = pv.card("patchconvnet_s60_multi"), TABLES["multiclass_s60"]
    assert round(card.params / 1e6, 1) == paper["params_m"]
    assert as_printed(card.macs, paper["macs_g"])
    assert card.top1 == paper["top1_finetuned"]


@pytest.mark.parametrize("row", TABLES["imagenet21k"], ids=lambda row: f"{row['model']} {row['size']}")
def test_the_multiply_adds_at_every_size_equal_the_paper(row):
    with torch.device("meta"):
        model = pv.create_model(f"patchconvnet_{row['model']}")
    # The paper's counter takes five operations for each value of a layer norm, which are no multiply-adds of ours.
    norms = 5 * len(model.blocks) * model.embed_dim * (row["size"] // 16) ** 2
    assert as_printed(count_macs(model, row["size"]) + norms, row["macs_g"])


@pytest.mark.parametrize("row", TABLES["norm_ablation"], ids=lambda row: row["model"])
def test_every_network_of_the_norm_ablation_is_there(row):
    with torch.device("meta"):
        model = pv.create_model(f"patchconvnet_{row['model']}", norm="batch", drop_path_rate=row["drop_path"])
    assert not any(isinstance(module, nn.LayerNorm) for module in model.blocks.modules())


OPTIONS = {
    "as it is": {},
    "average pooling": {"pooling": "average"},
    "linear stem": {"stem": "linear"},
    "batch norm": {"norm": "batch"},
    "heads": {"heads": 4},
    "a token per class": {"per_class": True},
    "heads and a token per class": {"heads": 2, "per_class": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_each_ablation_fuses_to_the_same_answers(options, images):
    model = trained(small(**options))
    fused = pv.fuse(model)
    expected = model(images)
    assert_close(fused(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert not any(isinstance(module, nn.BatchNorm2d | ColumnBlock) for module in fused.modules())
    assert sum(p.numel() for p in fused.parameters()) < sum(p.numel() for p in model.parameters())


def test_the_column_keeps_one_memory_layout(images):
    """A block that transposes, or falls back to the other layout, would copy every activation."""
    model = small()
    seen = []
    for module in model.blocks.modules():
        module.register_forward_hook(lambda module, _, output: seen.append((module, output)))
    model(images)
    for module, output in seen:
        if output.shape[2:] != (1, 1):
            assert output.is_contiguous(memory_format=torch.channels_last), module


def test_the_same_image_in_another_orientation_is_another_grid():
    features = small().forward_features(torch.randn(1, 3, 64, 160))
    assert features.shape == (1, 32, 4, 10)


def test_a_token_per_class_decides_its_logit_alone(images):
    model = trained(small(per_class=True))
    before = model(images)
    with torch.no_grad():
        model.pool.token[2].neg_()
    changed = (model(images) - before).abs().amax(0) > 1e-6
    assert changed.tolist() == [False, False, True, False, False]


def test_all_class_logits_at_once_equal_a_loop_over_heads(images):
    head = ClassTokenLogits(8, 5)
    tokens = torch.randn(2, 5, 8)
    rows = [nn.functional.linear(tokens[:, k], head.weight[k : k + 1], head.bias[k : k + 1]) for k in range(5)]
    assert_close(head(tokens), torch.cat(rows, dim=1))


def test_a_network_of_one_token_starts_one_with_a_token_per_class(images):
    single, multiple = trained(small()), small(per_class=True).eval()
    pv.load_checkpoint(multiple, single.state_dict())
    assert_close(multiple.pool.token, single.pool.token.expand(5, -1))
    assert_close(multiple.head.weight, single.head.weight)
    # The tokens of classes do not attend to themselves, which is all that differs.
    with torch.no_grad():
        single.pool.k.weight.zero_()
        single.pool.v.weight.zero_()
        multiple.load_state_dict(single.state_dict())
    assert_close(multiple(images), single(images), rtol=1e-4, atol=1e-5)


def test_other_classes_start_from_the_mean_token(images):
    model = trained(small(per_class=True))
    mean = model.pool.token.mean(0)
    model.reset_classifier(3)
    assert_close(model.pool.token, mean.expand(3, -1))
    assert model(images).shape == (2, 3)


def test_timm_loads_the_published_file_into_networks_with_other_classes(tmp_path, monkeypatch):
    multiple = trained(small(per_class=True, num_classes=1000))
    torch.save({"model": multiple.state_dict()}, tmp_path / "multi.pth")
    overlay = {"file": str(tmp_path / "multi.pth")}
    options = {"embed_dim": 32, "depth": 2, "pretrained": True, "pretrained_cfg_overlay": overlay}
    again = timm.create_model("patchconvnet_s60_multi", num_classes=3, **options)
    assert_close(again.pool.token, multiple.pool.token.mean(0).expand(3, -1))
    assert_close(again.blocks[1].branch.point1.weight, multiple.blocks[1].branch.point1.weight)
    same = timm.create_model("patchconvnet_s60_multi", **options)
    assert_close(same.head.weight, multiple.head.weight)


@pytest.mark.parametrize("options", [{}, {"per_class": True}], ids=["one token", "a token per class"])
def test_both_forms_export(options, images):
    model = trained(small(**options))
    for form in (model, pv.fuse(model)):
        exported = torch.export.export(form, (images,)).module()
        assert_close(exported(images), form(images), rtol=1e-4, atol=1e-5)


def test_stochastic_depth_is_the_same_in_every_block():
    model = small(depth=4, drop_path_rate=0.3)
    assert [block.drop_path.drop_prob for block in model.blocks] == [0.3] * 4


def test_weight_decay_spares_the_class_token():
    model = small()
    assert set(model.no_weight_decay()) <= {name for name, _ in model.named_parameters()}


def test_the_pooling_can_be_changed_after_building(images):
    model = small()
    model.reset_classifier(4, "average")
    assert not any(isinstance(module, AttentionPool) for module in model.modules())
    assert model(images).shape == (2, 4)
    model.reset_classifier(0, "")
    assert model(images).shape == (2, 32, 4, 6)
    model.reset_classifier(2, "attention")
    assert model(images).shape == (2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, r"unknown pooling 'max'.*'attention', 'average'"),
        ({"stem": "patch"}, r"unknown stem 'patch'.*'conv' and 'linear'"),
        ({"norm": "group"}, r"unknown norm 'group'.*'layer' and 'batch'"),
        ({"embed_dim": 12}, r"embed_dim=12.*multiple of 8"),
        ({"heads": 5}, r"heads=5 does not divide 32 channels"),
        ({"per_class": True, "pooling": "average"}, r"average pooling has no class tokens.*per_class"),
        ({"global_pool": ""}, r"a classifier needs pooled features.*num_classes=0"),
    ],
)
def test_bad_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_the_classes_of_a_deployed_network_with_class_tokens_are_final():
    fused = pv.fuse(trained(small(per_class=True)))
    with pytest.raises(ValueError, match=r"folded in\. Replace the classifier of the training form"):
        fused.reset_classifier(3)
    single = pv.fuse(trained(small()))
    single.reset_classifier(3)
    assert single(torch.randn(1, 3, 64, 64)).shape == (1, 3)
