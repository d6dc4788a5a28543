import copy

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from networks_for_tests import trained
from torch import nn
from torch.testing import assert_close

import plainvision as pv
from plainvision.bench import count_macs, count_parameters
from plainvision.layers.attention_pool import AttentionPool, DeployedAttentionPool, Pooling
from plainvision.training.techniques import TECHNIQUES, AttentionPooling

CLASSES = 5


def narrow(name: str, **options) -> nn.Module:
    return timm.create_model(name, num_classes=CLASSES, **options)


def densenet(**options) -> nn.Module:
    return torchvision.models.DenseNet(8, (1, 1, 1, 1), 16, num_classes=CLASSES, **options)


NETWORKS = {
    "resnet50 of timm": lambda: narrow("resnet50", channels=(8, 16, 16, 16)),
    "mobilenetv3 of timm": lambda: narrow("mobilenetv3_small_050"),
    "convnext_tiny of timm": lambda: narrow("convnext_tiny", dims=(8, 16, 24, 32), depths=(1, 1, 1, 1)),
    "1x1 convolution as the classifier": lambda: narrow("dla34", channels=(8, 8, 8, 16, 24, 32)),
    "resnet18 of torchvision": lambda: torchvision.models.resnet18(num_classes=CLASSES),
    "densenet of torchvision": densenet,
    "shufflenet_v2 of torchvision": lambda: torchvision.models.ShuffleNetV2(
        [1, 1, 1], [24, 24, 24, 24, 32], num_classes=CLASSES
    ),
    "a call, channels last": lambda: narrow("mambaout_femto", dims=(8, 16, 24, 32), depths=(1, 1, 1, 1)),
}

WIDE = {
    "mobilenetv3_large_100 of timm": lambda: narrow("mobilenetv3_large_100"),
    "mobilenet_v2 of torchvision": lambda: torchvision.models.mobilenet_v2(num_classes=CLASSES, width_mult=0.25),
}


def new(name: str) -> nn.Module:
    model = (NETWORKS | WIDE)[name]()
    if "pretrained_cfg" in vars(model):
        model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 64, 96)}
    return trained(model)


@pytest.fixture(params=NETWORKS, ids=list(NETWORKS))
def network(request):
    return new(request.param)


@pytest.fixture(params=[False, True], ids=["one token", "per class"])
def per_class(request):
    return request.param


def pool_of(model: nn.Module) -> Pooling:
    (pool,) = (module for module in model.modules() if isinstance(module, Pooling))
    return pool


def features_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    seen = []
    with pool_of(model).register_forward_pre_hook(lambda _, args: seen.append(args[0])), torch.no_grad():
        model(images)
    (features,) = seen
    return features


def make_it_average(pool: AttentionPool, patches: int) -> None:
    """Give the pool weights by which it returns the plain mean: uniform shares of patches that stay as they are."""
    pool.norm1, pool.norm = nn.Identity(), nn.Identity()
    with torch.no_grad():
        pool.token.zero_()
        pool.q.weight.zero_()
        for layer in (pool.v, pool.proj):
            layer.weight.copy_(torch.eye(len(layer.weight)))
        # The single token, here zero, has a share too.
        pool.scale1.fill_(1.0 if pool.classes else (patches + 1) / patches)
        pool.scale2.zero_()


@pytest.mark.parametrize("name", [*NETWORKS, *WIDE])
def test_a_pool_that_averages_gives_the_logits_of_before(name, images, per_class):
    network = new(name)
    pooled = pv.surgery.attention_pooling(network, per_class)
    features = features_of(pooled, images)
    assert features.ndim == 4
    assert features.shape[2] != features.shape[3]
    make_it_average(pool_of(pooled), features[0, 0].numel())
    assert_close(pooled(images), network(images), rtol=1e-4, atol=1e-4)


def test_a_layer_that_averages_channels_last_is_replaced_too(images, per_class):
    options = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1), "img_size": (64, 96), "window_size": 4}
    network = narrow("swin_tiny_patch4_window7_224", **options).eval()
    network.pretrained_cfg = {"input_size": (3, 64, 96)}
    pooled = pv.surgery.attention_pooling(network, per_class)
    features = features_of(pooled, images)
    assert features.shape == (2, 16, 8, 12)
    make_it_average(pool_of(pooled), 8 * 12)
    assert_close(pooled(images), network(images), rtol=1e-4, atol=1e-4)


def test_all_weights_are_kept_and_the_original_is_untouched(network, images, per_class):
    before = copy.deepcopy(network.state_dict())
    expected = network(images)
    pooled = pv.surgery.attention_pooling(network, per_class)
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(network(images), expected)
    state = pooled.state_dict()
    assert all(torch.equal(state[key], value) for key, value in before.items())
    added = state.keys() - before.keys()
    (name,) = (name for name, module in pooled.named_modules() if module is pool_of(pooled))
    assert all(key.startswith(f"{name}.") for key in added)
    assert count_parameters(pooled) == count_parameters(network) + count_parameters(pool_of(pooled))


def test_the_pool_sees_the_whole_map_and_learns(network, images, per_class):
    pooled = trained(pv.surgery.attention_pooling(network, per_class))
    pool = pool_of(pooled)
    maps = pool.attend(features_of(pooled, images))
    assert maps.shape[1] == (CLASSES if per_class else 1)
    assert_close(maps.sum((2, 3)), torch.ones(2, maps.shape[1]))
    logits = pooled(images)
    assert logits.shape == (2, CLASSES)
    logits.square().sum().backward()
    assert all(weight.grad is not None for weight in pooled.parameters())
    assert all(layer.weight.grad.abs().max() > 0 for layer in (pool.q, pool.k, pool.v, pool.proj, *pool.mlp[::2]))


def test_a_logit_depends_on_the_token_of_its_class_alone(network, images):
    pooled = pv.surgery.attention_pooling(network, per_class=True)
    token = pool_of(pooled).token
    assert token.shape[0] == CLASSES
    for k in range(CLASSES):
        (gradient,) = torch.autograd.grad(pooled(images)[:, k].sum(), token)
        assert (gradient.abs().amax(1) > 0).tolist() == [row == k for row in range(CLASSES)]


def test_weights_go_into_another_one_made_the_same_way(network, images, per_class):
    pooled = trained(pv.surgery.attention_pooling(network, per_class), seed=1)
    again = pv.surgery.attention_pooling(network, per_class)
    again.load_state_dict(pooled.state_dict())
    assert_close(again(images), pooled(images), rtol=0, atol=0)


def test_it_fuses(network, per_class):
    pooled = trained(pv.surgery.attention_pooling(network, per_class))
    fused = pv.fuse(pooled, image_size=(64, 96), images=2)
    assert isinstance(pool_of(fused), DeployedAttentionPool)
    assert fused.report.layers_after < fused.report.layers_before
    assert fused.report.largest_relative_error < 1e-4


@pytest.mark.parametrize("name", ["resnet50 of timm", "mobilenetv3_large_100 of timm", "shufflenet_v2 of torchvision"])
def test_batch_norms_fold_as_before(name, per_class):
    fused = pv.fuse(pv.surgery.attention_pooling(new(name), per_class), image_size=64, images=1)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())


def test_squeeze_and_excitation_keeps_its_average():
    model = new("mobilenetv3 of timm")
    pooled = pv.surgery.attention_pooling(model)
    kinds = {name: type(module) for name, module in model.named_modules()}
    changed = {name for name, kind in kinds.items() if type(pooled.get_submodule(name)) is not kind}
    assert changed == {"global_pool.pool"}
    assert any(name.endswith(".se.conv_reduce") for name in kinds)


def test_modes_dtype_and_frozen_weights_stay():
    model = new("resnet18 of torchvision").train().double()
    model.bn1.eval()
    model.conv1.requires_grad_(False)
    modes = {name: module.training for name, module in model.named_modules()}
    pooled = pv.surgery.attention_pooling(model)
    assert {name: pooled.get_submodule(name).training for name in modes} == modes
    assert all(module.training for module in pool_of(pooled).modules())
    assert {weight.dtype for weight in pooled.parameters()} == {torch.float64}
    assert [name for name, weight in pooled.named_parameters() if not weight.requires_grad] == ["conv1.weight"]
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pooled.modules())


def test_a_call_in_a_whole_network_makes_it_a_graph_whose_layers_still_know_training(images):
    model = densenet(drop_rate=0.5)
    pooled = pv.surgery.attention_pooling(model)
    assert isinstance(pooled, torch.fx.GraphModule)
    assert type(pooled.features) is type(model.features)
    assert not torch.equal(pooled(images), pooled(images))  # dropout
    pooled.eval()
    assert_close(pooled(images), pooled(images), rtol=0, atol=0)


def test_timm_keeps_a_layer_pool_where_only_the_classes_change(images):
    model = pv.surgery.attention_pooling(new("convnext_tiny of timm"))
    pool = pool_of(model)
    model.reset_classifier(3)
    assert pool_of(model) is pool
    assert model(images).shape == (2, 3)


def test_resnet50_costs_what_the_paper_says_it_costs():
    with torch.device("meta"):
        model = timm.create_model("resnet50")
    pooled = pv.surgery.attention_pooling(model)
    assert all(weight.is_meta for weight in pooled.parameters())
    assert round(count_macs(model) / 1e9, 1) == 4.1
    assert 4.5e9 < count_macs(pooled) < 4.6e9


def test_a_technique_builds_it():
    model = new("convnext_tiny of timm")
    assert pool_of(AttentionPooling().build(model)).classes is None
    technique = AttentionPooling(per_class=True)
    assert pool_of(technique.build(model)).classes == CLASSES
    assert technique.to_dict() == {"technique": "AttentionPooling", "per_class": True}
    assert TECHNIQUES["AttentionPooling"] is AttentionPooling


@pytest.mark.parametrize("build", [torchvision.models.vgg11, torchvision.models.alexnet, torchvision.models.vit_b_16])
def test_networks_without_a_global_average_are_refused(build):
    with torch.device("meta"):
        model = build()
    with pytest.raises(ValueError, match=rf"no average to replace in {type(model).__name__}: .*Give a network with"):
        pv.surgery.attention_pooling(model)


class _Gated(nn.Module):
    """An average that all features pass by, as in squeeze-and-excitation."""

    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True)


class _Head(nn.Module):
    def __init__(self, average, features: int = 4):
        super().__init__()
        self.average = average
        self.linear = nn.Linear(features, CLASSES)

    def forward(self, x):
        return self.linear(self.average(self, x).flatten(1))


def test_an_average_that_features_pass_by_is_none():
    for average in (lambda _, x: _Gated()(x)[:, :, 0, 0], lambda _, x: x.mean((2, 3)) + x.amax((2, 3))):
        with pytest.raises(ValueError, match=r"no average to replace in Sequential"):
            pv.surgery.attention_pooling(nn.Sequential(nn.Conv2d(3, 4, 9, stride=8), _Head(average)))


def test_a_call_that_is_not_the_same_in_training_is_refused():
    def dropped(layer, x):
        return F.dropout(x.mean((2, 3)), training=layer.training)

    def branching(_, x):
        return x.mean((2, 3)) if x.sum() > 0 else -x.mean((2, 3))

    for average in (dropped, branching):
        model = nn.Sequential(nn.Conv2d(3, 4, 9, stride=8), _Head(average))
        with pytest.raises(ValueError, match=r"_Head calls the average itself and cannot be rewritten.*AdaptiveAvgPoo"):
            pv.surgery.attention_pooling(model)


def test_the_right_one_of_several_calls_is_replaced():
    def twice(_, x):
        return torch.mean(x * F.adaptive_avg_pool2d(x, (1, 1)), dim=[-1, -2])

    pooled = pv.surgery.attention_pooling(nn.Sequential(nn.Conv2d(3, 4, 9, stride=8), _Head(twice)))
    calls = [node.target for node in pooled[1].graph.nodes]
    assert F.adaptive_avg_pool2d in calls
    assert "attention_pool" in calls
    assert torch.mean not in calls


def test_an_average_that_serves_two_places_is_refused():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 9, stride=8)
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x):
            x = self.conv(x)
            return self.pool(x * self.pool(x))

    with pytest.raises(ValueError, match=r"'pool' of Shared serves 2 places.*one such layer per place"):
        pv.surgery.attention_pooling(Shared())


def test_a_second_pooling_by_attention_is_refused():
    model = pv.surgery.attention_pooling(new("convnext_tiny of timm"))
    with pytest.raises(ValueError, match=r"ConvNeXt pools by attention already.*Take it as it is"):
        pv.surgery.attention_pooling(model)


def test_class_tokens_without_a_classifier_are_refused():
    # With no classes MobileNetV3 ends in a 1x1 convolution and its activation, which gives no logits.
    for model in (timm.create_model("mobilenetv3_small_050", num_classes=0), torchvision.models.squeezenet1_1()):
        with pytest.raises(ValueError, match=r"per_class=True gives each .*num_classes above 0, or drop per_class"):
            pv.surgery.attention_pooling(model, per_class=True)
