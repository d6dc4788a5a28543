"""Where known networks may change, and which layers follow."""

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import plainvision.models  # noqa: F401  (registers our networks with timm)
from plainvision.dynamic import DynamicNetwork, Site, Space
from plainvision.dynamic.engine import shared_passes, whole_passes
from plainvision.dynamic.sites import find_sites, followers
from plainvision.inspection.tracing import trace_graph
from plainvision.layers.dynamic_conv import DynamicLayer, Option

SECOND = [f"layer{stage}.0.conv2" for stage in (1, 2, 3, 4)]
FIRST = [f"layer{stage}.0.conv1" for stage in (1, 2, 3, 4)]
POOLS = ["features.pool0", *(f"features.transition{stage}.pool" for stage in (1, 2, 3))]
DENSE = [f"features.denseblock{stage}.denselayer1.conv2" for stage in (1, 2, 3, 4)]
MOBILE = [f"features.{block}.conv.1.0" for block in (2, 4, 7, 14)]
TIMM_MOBILE = [f"blocks.{stage}.0.conv_dw" for stage in (1, 2, 3, 5)]
SHORTCUTS = [f"layer{stage}.0.downsample.0" for stage in (1, 2, 3, 4)]
STEM = [f"stem.{number}" for number in (0, 2, 4, 6)]
CIFAR = ["conv1", "layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1"]

# Network -> the layers whose stride changes, the layers whose dilation and size change, the followers of each site.
KNOWN = {
    "torchvision/resnet50": (SECOND, SECOND, SHORTCUTS),
    "torchvision/resnext50_32x4d": (SECOND, SECOND, SHORTCUTS),
    "torchvision/wide_resnet50_2": (SECOND, SECOND, SHORTCUTS),
    "torchvision/resnet18": (FIRST, FIRST, [None, *SHORTCUTS[1:]]),
    "torchvision/mobilenet_v2": (MOBILE, MOBILE, [None] * 4),
    "torchvision/densenet121": (POOLS, DENSE, [None] * 4),
    "timm/resnet50": (SECOND, SECOND, SHORTCUTS),
    "timm/resnext50_32x4d": (SECOND, SECOND, SHORTCUTS),
    "timm/resnet18": (FIRST, FIRST, [None, *SHORTCUTS[1:]]),
    "timm/mobilenetv2_100": (TIMM_MOBILE, TIMM_MOBILE, [None] * 4),
    "timm/densenet121": (POOLS, DENSE, [None] * 4),
    "timm/patchconvnet_s60": (STEM, STEM, [None] * 4),
    "timm/resnet20_cifar": (CIFAR, CIFAR, [None, None, "layer2.0.shortcut", "layer3.0.shortcut"]),
}


def on_meta(name: str) -> nn.Module:
    """Build a network without weights."""
    package, _, own = name.partition("/")
    with torch.device("meta"):
        return timm.create_model(own) if package == "timm" else torchvision.models.get_model(own, weights=None)


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_network_has_four_sites_and_followers_on_its_shortcuts(name):
    model = on_meta(name)
    strides, kernels, beside = KNOWN[name]
    sites = find_sites(model, None)
    assert list(sites) == ["A", "B", "C", "D"]
    assert [site.stride for site in sites.values()] == strides
    assert [site.dilation for site in sites.values()] == kernels
    assert [site.size for site in sites.values()] == kernels
    graph = trace_graph(model)
    found = [followers(model, graph, site.stride) for site in sites.values()]
    assert found == [() if layer is None else (layer,) for layer in beside]


@pytest.mark.parametrize("name", ["torchvision/resnet50", "timm/resnet20_cifar"])
def test_only_a_stride_is_followed(name):
    model = on_meta(name)
    strides, _, beside = KNOWN[name]
    together = {layer: site for layers in (strides, beside) for layer, site in zip(layers, "ABCD", strict=True)}
    together.pop(None, None)
    alone = dict(zip(strides, "ABCD", strict=True))
    for attribute, expected in (("stride", together), ("dilation", alone), ("size", alone)):
        network = DynamicNetwork(model, space=Space(**{attribute: {"D": (1, 3)}}), image_size=64)
        changing = {name: layer for name, layer in network.model.named_modules() if isinstance(layer, DynamicLayer)}
        belongs = {name: layer.site for name, layer in changing.items() if layer.site is not None}
        assert belongs == expected
        assert {layer.takes for layer in changing.values() if layer.site is not None} == {(attribute,)}


def test_what_was_trained_at_each_site_is_read_from_its_layers():
    resnet = DynamicNetwork(on_meta("torchvision/resnet18"), space=Space(stride={"D": (2,)}, size={"A": (3,)}))
    assert list(resnet.trained.values()) == [Option(stride=1, size=3), *[Option(stride=2, size=3)] * 3]
    small = torchvision.models.DenseNet(4, (1, 1, 1, 1), 8)
    dense = DynamicNetwork(small, space=Space(stride={"A": (2,)}, dilation={"A": (1,)}), image_size=64)
    assert list(dense.trained.values()) == [Option(stride=2, dilation=1)] * 4


# Sites by name


def test_sites_can_be_named_or_are_called_by_letters():
    model = on_meta("torchvision/vgg11")
    assert find_sites(model, ["features.3", "features.0"]) == {"A": Site.at("features.3"), "B": Site.at("features.0")}
    split = Site(stride="features.2", size="features.3", follow=())
    assert find_sites(model, {"early": "features.0", "late": split}) == {"early": Site.at("features.0"), "late": split}
    assert find_sites(on_meta("torchvision/resnet18"), {"stem": "conv1"}) == {"stem": Site.at("conv1")}


def test_a_site_can_name_the_layers_that_follow():
    model = on_meta("torchvision/resnet18")
    sites = {"A": Site(stride="layer2.0.conv1", follow=())}
    alone = DynamicNetwork(model, sites=sites, space=Space(stride=(1, 2)), image_size=64)
    assert len(alone.permutations) == 1  # without its shortcut the layer must keep its stride
    sites = {"A": Site(stride="layer2.0.conv1", follow=("layer2.0.downsample.0",))}
    assert len(DynamicNetwork(model, sites=sites, space=Space(stride=(1, 2)), image_size=64).permutations) == 2


class Paths(nn.Module):
    """Three paths beside each other, of which one keeps the size of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1, 2)
        self.reduce, self.again, self.stride = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, 2, 1)
        self.widen = nn.Conv2d(4, 4, 3, 1, 1)
        self.pool, self.last = nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 1)
        self.behind = nn.Conv2d(4, 4, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        strided, gate = self.stride(self.again(self.reduce(x))), self.widen(x).mean((2, 3), keepdim=True)
        x = strided.relu() + self.last(self.pool(x)) * gate
        return self.behind(x).mean((2, 3))


def test_the_first_layer_of_the_same_stride_on_each_path_follows():
    model = Paths()
    graph = trace_graph(model)
    assert followers(model, graph, "stride") == ("pool",)  # and neither what is before it nor what is behind
    assert followers(model, graph, "pool") == ("stride",)
    assert set(followers(model, graph, "widen")) == {"reduce", "last"}  # but not `again`, the second of its path
    assert followers(model, graph, "behind") == ()
    assert followers(model, graph, "stem") == ()


# Errors


def test_a_layer_that_does_not_exist_is_an_error_with_the_layers_that_do():
    match = (
        r"site A is to be 'layer1\.0\.conv9', and ResNet has no layer of that name\. Its convolutions: conv1, "
        r"layer1\.0\.conv1, .*, \.\.\.\."
    )
    with pytest.raises(ValueError, match=match):
        find_sites(on_meta("torchvision/resnet18"), ["layer1.0.conv9"])
    with pytest.raises(ValueError, match=r"site here is to be 'shortcut', and ResNet"):
        find_sites(on_meta("torchvision/resnet18"), {"here": Site(stride="conv1", follow=("shortcut",))})


@pytest.mark.parametrize("sites", [[], {}, ["conv1"] * 27])
def test_there_must_be_from_one_site_to_26_or_names(sites):
    with pytest.raises(ValueError, match=r"give from one site to 26, or names for them\."):
        find_sites(on_meta("torchvision/resnet18"), sites)


def test_a_network_that_is_not_known_asks_for_its_sites():
    match = r"no sites are known for VGG\. Name them with `sites`, .*Its convolutions: features\.0, features\.3, "
    with pytest.raises(ValueError, match=match):
        find_sites(on_meta("torchvision/vgg11"), None)
    match = r"no sites are known for VisionTransformer\. .*Its convolutions: patch_embed\.proj\."
    with pytest.raises(ValueError, match=match):
        find_sites(on_meta("timm/vit_tiny_patch16_224"), None)


def test_a_network_without_convolutions_says_so():
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    match = r"no sites are known for Sequential.*It has no convolution at all; .*`plainvision\.layers\.DynamicLayer`"
    with pytest.raises(ValueError, match=match):
        find_sites(mlp, None)
    with pytest.raises(ValueError, match=r"Sequential has no layer of that name\. It has no convolution at all"):
        find_sites(mlp, ["conv1"])


def test_a_layer_that_cannot_change_is_named_with_its_site():
    model = on_meta("torchvision/resnet18")
    with pytest.raises(ValueError, match=r"site A, fc: Linear is no convolution or pooling"):
        DynamicNetwork(model, sites=["fc"], image_size=64)
    with pytest.raises(ValueError, match=r"site A: maxpool \(MaxPool2d\) has no size that could change\. Name a conv"):
        DynamicNetwork(model, sites=["maxpool"], space="size", image_size=64)
    with pytest.raises(ValueError, match=r"site A, blocks\.1\.0\.conv_dw: Conv2dSame computes more"):
        DynamicNetwork(on_meta("timm/tf_efficientnet_b0"))


def test_a_layer_belongs_to_one_site():
    model = on_meta("torchvision/resnet18")
    with pytest.raises(ValueError, match=r"layer1\.0\.conv1 would belong to the sites A and B\. Let one of them go"):
        DynamicNetwork(model, sites=["layer1.0.conv1", "layer1.0.conv1"], image_size=64)
    match = r"layer2\.0\.downsample\.0 would belong to the sites A and B.*`Site\(follow=\.\.\.\)`"
    with pytest.raises(ValueError, match=match):
        DynamicNetwork(model, sites=["layer2.0.conv1", "layer2.0.downsample.0"], image_size=64)


@pytest.mark.parametrize("options", [{}, {"deployed": True}, {"series": 0}, {"shortcut": "before"}])
def test_vanillanet_has_sites_where_it_pools_and_in_the_activations_behind(options):
    model = timm.create_model("vanillanet_8", width=1 / 64, num_classes=3, **options)
    sites = find_sites(model, None)
    assert [site.stride for site in sites.values()] == ["stages.1.pool", "stages.2.pool", "stages.4.pool"]
    kernel = None if "series" in options else f"stages.1.act.{'1' if 'deployed' in options else 'conv'}"
    assert (sites["A"].dilation, sites["A"].size) == (kernel, kernel)
    dynamic = DynamicNetwork(model, space=Space(stride=(1, 2)), image_size=64).eval()
    assert find_sites(dynamic.model, None) == sites
    assert len(dynamic.permutations) == 8


@pytest.mark.parametrize("at", ["stride", "dilation", "size"])
@pytest.mark.parametrize("name", ["vanillanet_6", "patchconvnet_s60"])
def test_our_families_share_work_between_permutations_and_compute_the_same(name, at):
    options = {"width": 1 / 64} if name == "vanillanet_6" else {"depth": 2, "embed_dim": 32}
    dynamic = DynamicNetwork(
        timm.create_model(name, num_classes=3, **options), space=Space(**{at: (1, 2, 3)}), image_size=64
    ).eval()
    assert dynamic.levels.traced
    permutations = dynamic.permutations[-4:]
    with torch.no_grad():
        images = torch.randn(1, 3, 64, 64)
        shared = dict(shared_passes(dynamic.levels, permutations, list(dynamic.sites), images))
        whole = dict(whole_passes(dynamic.levels, permutations, list(dynamic.sites), images))
    assert len({logits.sum().item() for logits in whole.values()}) > 1
    for number, logits in whole.items():
        torch.testing.assert_close(shared[number], logits)
