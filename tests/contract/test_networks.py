"""What every registered network promises; a new one is tested by being registered."""

import copy
import warnings

import pytest
import timm
import torch
from networks_for_tests import TINY
from timm.optim import create_optimizer_v2
from torch.testing import assert_close

import plainvision as pv

# Networks whose weights nobody has published, and those whose are on Google Drive, from where no program loads them.
WITHOUT_WEIGHTS = [
    *(f"patchconvnet_{size}" for size in ("s20", "s36", "b36", "l60", "l120")),
    *(name for family in ("resnet_cifar", "resnet_pf", "vit_pf", "pit_pf") for name in pv.list_models(family)),
]
# The ResNets for CIFAR differ in the number of blocks alone, and TINY gives all of them the same.
ALIKE = ("resnet32_cifar", "resnet44_cifar", "resnet56_cifar")
EVERY = [(family, name) for family in TINY for name in pv.list_models(family)]
NAMES = [(family, name) for family, name in EVERY if name not in ALIKE]


def test_every_family_has_a_tiny_form():
    assert sorted(name for _, name in EVERY) == sorted(pv.list_models())


@pytest.fixture(params=NAMES, ids=[name for _, name in NAMES])
def build(request):
    family, name = request.param

    def build(**options):
        return timm.create_model(name, **{**TINY[family], **options}).eval()

    return build


def test_logits_have_one_column_per_class_at_any_input_size(build, images):
    assert build()(images).shape == (2, 1000)
    assert build(num_classes=7)(images).shape == (2, 7)
    assert build(num_classes=7)(images.transpose(2, 3)).shape == (2, 7)


def test_it_takes_any_number_of_channels(build):
    for channels in (1, 4):
        model = build(in_chans=channels, num_classes=3)
        assert model(torch.randn(2, channels, 96, 64)).shape == (2, 3)
        assert model.in_chans == channels


def test_features_and_head_are_the_forward_pass(build, images):
    model = build(num_classes=5, drop_rate=0.3)
    features = model.forward_features(images)
    assert features.shape[1] == model.num_features
    assert_close(model.forward_head(features), model(images), rtol=0, atol=0)
    assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)


def test_features_only_tells_the_truth_about_channels_and_reduction(build):
    size = (2, 3, 192, 96)
    model = build(features_only=True)
    outputs = model(torch.randn(size))
    assert [output.shape[1] for output in outputs] == model.feature_info.channels()
    for output, reduction in zip(outputs, model.feature_info.reduction(), strict=True):
        # What no window covers at the border is lost, by at most one pixel per halving.
        for side, whole in zip(output.shape[2:], size[2:], strict=True):
            assert whole / reduction - 2 < side <= whole / reduction + 1


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_output_stride_is_kept_or_refused_with_a_reason(build, stride):
    coarse = build()
    reductions = [info["reduction"] for info in coarse.feature_info]
    if len(set(reductions)) == 1 and reductions[0] > stride:
        with pytest.raises(ValueError, match=r"has no output_stride 8: .*no stride that dilation could replace"):
            build(output_stride=stride)
        return
    fine = build(output_stride=stride)
    assert {key: value.shape for key, value in fine.state_dict().items()} == {
        key: value.shape for key, value in coarse.state_dict().items()
    }
    assert [info["reduction"] for info in fine.feature_info] == [min(one, stride) for one in reductions] or (
        max(info["reduction"] for info in fine.feature_info) <= stride  # 7, 14 and 28 of a PiT
    )
    last, features = fine.forward_intermediates(torch.randn(2, 3, 192, 96))
    for output, info in zip(features, fine.feature_info, strict=True):
        assert abs(output.shape[2] - 192 / info["reduction"]) <= 5
    assert last.shape[2] >= 192 / stride - 12  # a pooling behind the features may take a border
    by_features = build(features_only=True, output_stride=stride)
    assert max(by_features.feature_info.reduction()) <= stride


def test_features_only_takes_out_indices(build, images):
    every = build(features_only=True)
    some = build(features_only=True, out_indices=(0, 2))
    some.load_state_dict({key: value for key, value in every.state_dict().items() if key in some.state_dict()})
    for found, expected in zip(some(images), [every(images)[i] for i in (0, 2)], strict=True):
        assert_close(found, expected, rtol=0, atol=0)


def test_forward_intermediates_are_the_features(build, images):
    model = build()
    last, intermediates = model.forward_intermediates(images)
    assert_close(last, model.forward_features(images), rtol=0, atol=0)
    assert [x.shape[1] for x in intermediates] == [info["num_chs"] for info in model.feature_info]
    early = model.forward_intermediates(images, indices=[0, 1], stop_early=True, intermediates_only=True)
    for found, expected in zip(early, intermediates[:2], strict=True):
        assert_close(found, expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match="NCHW"):
        model.forward_intermediates(images, output_fmt="NHWC")


def test_pruning_keeps_the_intermediates(build, images):
    model = build()
    expected = model.forward_intermediates(images, indices=[1], intermediates_only=True)
    assert model.prune_intermediate_layers(indices=[1]) == [1]
    found = model.forward_intermediates(images, indices=[1], intermediates_only=True)
    assert_close(found, expected, rtol=0, atol=0)


def test_the_classifier_can_be_replaced_and_removed(build, images):
    model = build()
    assert any(module is model.get_classifier() for module in model.modules())
    model.reset_classifier(11)
    assert model.num_classes == 11
    assert model(images).shape == (2, 11)
    model.reset_classifier(0)
    assert model(images).shape == (2, model.head_hidden_size)
    assert build(num_classes=0)(images).shape == (2, model.head_hidden_size)


def test_checkpointing_changes_no_gradient(build, images):
    plain = build(num_classes=5, drop_rate=0.0).train()
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing(True)
    for model in (plain, saving):
        model(images).square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert a.grad is not None, f"{name} does not learn"
        assert_close(a.grad, b.grad, msg=name)


def test_layer_decay_slows_the_stem_most(build):
    optimizer = create_optimizer_v2(build(), "adamw", lr=1.0, weight_decay=0.05, layer_decay=0.5)
    scales = [group["lr_scale"] for group in optimizer.param_groups]
    assert max(scales) == 1
    assert min(scales) < 0.5


def test_weights_survive_a_file_and_timms_checkpoint_path(build, images, tmp_path):
    model = build(num_classes=4)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    again = build(num_classes=4, checkpoint_path=str(tmp_path / "weights.pth"))
    assert_close(again(images), model(images), rtol=0, atol=0)
    third = pv.load_checkpoint(build(num_classes=4), tmp_path / "weights.pth")
    assert_close(third(images), model(images), rtol=0, atol=0)


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_timm_knows_its_configuration(family, name):
    config = timm.create_model(name, **TINY[family]).pretrained_cfg
    side = pv.card(name).image_size
    assert config["input_size"] == (3, side, side)
    assert config["url"].startswith("https://") or name in WITHOUT_WEIGHTS
    assert name in timm.list_models()


def test_stochastic_depth_is_accepted(build, images):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it has nothing to drop
        assert build(drop_path_rate=0.1, num_classes=3)(images).shape == (2, 3)


@pytest.mark.parametrize("name", [name for _, name in EVERY])
def test_the_card_tells_the_truth(name):
    card = pv.card(name)
    assert card.name == name
    with torch.device("meta"):
        assert card.training_params == sum(p.numel() for p in timm.create_model(name).parameters())
    assert 0 < card.macs <= card.training_macs
    assert card.source
