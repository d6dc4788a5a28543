"""A network that can be configured, and which permutations it has."""

import copy
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
import torchvision
from networks_for_tests import trained
from torch import Tensor, fx, nn

import plainvision.models  # noqa: F401  (registers our networks with timm)
from plainvision.dynamic import DynamicNetwork, Site, Space
from plainvision.dynamic.network import NotTracedWarning
from plainvision.inspection.counting import count_macs
from plainvision.layers.dynamic_conv import DynamicLayer, Option

PATHS = "two paths of the network no longer meet in the same size"
SHRUNK = "a feature map would shrink to nothing"
MEMORY = "more than 2.25 times the activations of the trained network"


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network without weights."""
    with torch.device("meta"):
        return build()


def narrow(seed: int = 0) -> nn.Module:
    """Return a small ResNet of bottlenecks, its statistics off their initial values."""
    bottleneck = torchvision.models.resnet.Bottleneck
    return trained(torchvision.models.ResNet(bottleneck, [1, 1, 1, 1], num_classes=5, width_per_group=8), seed)


def small_densenet() -> nn.Module:
    return trained(torchvision.models.DenseNet(4, (1, 1, 1, 1), 8, num_classes=3))


def strides(*values: float) -> tuple[Option, ...]:
    return tuple(Option(stride=value) for value in values)


@pytest.fixture(scope="module")
def network() -> DynamicNetwork:
    return DynamicNetwork(narrow(), space=Space(stride=(0.5, 1, 2)), image_size=32, name="narrow").eval()


# Permutations


def test_resnet_50_of_torchvision_and_timm_has_the_papers_permutations():
    models = [on_meta(torchvision.models.resnet50), on_meta(lambda: timm.create_model("resnet50"))]
    for attribute, count, left_out in (("stride", 361, {MEMORY: 39}), ("dilation", 625, {}), ("size", 625, {})):
        one, other = (DynamicNetwork(model, space=attribute) for model in models)
        assert one.image_size == other.image_size == (224, 224)
        assert len(one.permutations) == len(set(one.permutations)) == len(one.macs) == count
        assert one.left_out == other.left_out == left_out
        assert one.permutations == other.permutations
        assert np.array_equal(one.macs, other.macs)
        assert one.static_macs == one.macs[one.permutations.index(one.default)] == count_macs(models[0], 224)


def test_multiply_adds_of_a_permutation_are_those_of_the_configured_network():
    network = DynamicNetwork(on_meta(torchvision.models.resnet50), space=Space(stride={"C": (0.5, 1), "D": (1, 4)}))
    for permutation, macs in zip(network.permutations, network.macs, strict=True):
        with network.configure(dict(zip("ABCD", permutation, strict=True))):
            assert macs == count_macs(network.model, 224)
    assert network.static_macs == count_macs(network.model, 224) == 4_089_184_256


def test_permutations_that_would_shrink_a_feature_map_to_nothing_are_left_out_and_counted():
    network = DynamicNetwork(small_densenet(), space=Space(stride=(0.5, 2, 4)), image_size=32)
    assert list(network.left_out) == [SHRUNK]
    assert len(network.permutations) + network.left_out[SHRUNK] == 3**4
    images = torch.randn(1, 3, 32, 32)
    for permutation in network.space.permutations(network.trained):
        with network.configure(dict(zip("ABCD", permutation, strict=True))), torch.no_grad():
            try:
                network.eval()(images)
            except RuntimeError:
                assert permutation not in network.permutations
            else:
                assert permutation in network.permutations


def test_densenet_at_32_pixels_keeps_what_can_be_computed():
    network = DynamicNetwork(
        on_meta(torchvision.models.densenet121), space=Space(stride={"C": (1, 2, 4), "D": (2, 4)}), image_size=32
    )
    # 32 pixels are 16 at A, 8 at B and 4 at C, which leaves 3, 2 or 1 of them for the window of 2 pixels at D.
    assert [(c.stride, d.stride) for _, _, c, d in network.permutations] == [(1, 2), (1, 4), (2, 2), (2, 4)]
    assert network.left_out == {SHRUNK: 2}


def test_a_site_beside_an_identity_keeps_its_own_stride():
    sites = {"A": "layer1.0.conv1", "B": "layer2.0.conv1"}
    model = timm.create_model("resnet20_cifar", num_classes=10)
    network = DynamicNetwork(model, sites=sites, space=Space(stride=(0.5, 1, 2, 3)))
    assert network.image_size == (32, 32)
    assert network.permutations == tuple((Option(stride=1), Option(stride=b)) for b in (0.5, 1, 2, 3))
    assert network.left_out == {PATHS: 12}


def test_a_bound_on_activations_leaves_out_what_needs_more():
    bounded = DynamicNetwork(narrow(), space=Space(stride=(1, 2), max_activations=1.5), image_size=32)
    free = DynamicNetwork(narrow(), space=Space(stride=(1, 2)), image_size=32)
    ((reason, count),) = bounded.left_out.items()
    assert reason == "more than 1.5 times the activations of the trained network"
    assert 0 < count == 16 - len(bounded.permutations) < 16
    assert set(bounded.permutations) < set(free.permutations)
    assert bounded.default in bounded.permutations


def test_a_network_of_which_nothing_can_be_computed_is_refused():
    match = rf"none of 4 permutations can be computed \(4: {PATHS}\)\. Give other options, or larger images\."
    model = timm.create_model("resnet20_cifar", num_classes=10)
    with pytest.raises(ValueError, match=match):
        DynamicNetwork(model, sites={"A": "layer1.0.conv1"}, space=Space(stride=(0.5, 2, 3, 4)))
    match = rf"Sequential cannot take images of 3x4x4 at all: {SHRUNK}\. Give the image_size, and the channels,"
    valid = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten())
    with pytest.raises(ValueError, match=match):
        DynamicNetwork(valid, sites=["0"], image_size=4)


# The network itself


def test_a_network_is_traced_once(monkeypatch):
    trace, traced = fx.Tracer.trace, []
    monkeypatch.setattr(fx.Tracer, "trace", lambda *given: traced.append(given) or trace(*given))
    network = DynamicNetwork(narrow(), space=Space(stride=(1, 2)), image_size=32)
    assert network.levels.traced
    network.costs(torch.randn(1, 3, 64, 64))(network.default)
    assert len(traced) == 1


@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d", "mobilenet_v2", "densenet121"])
def test_a_network_begins_as_it_was_trained_to_the_bit_and_the_original_stays(name):
    model = trained(torchvision.models.get_model(name, weights=None))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
        before, layers = copy.deepcopy(model.state_dict()), [type(layer) for layer in model.modules()]
        network = DynamicNetwork(model, space=Space(stride={"D": (1, 3)}, dilation={"B": (2,)}), image_size=64)
        assert len(network.permutations) == 2
        assert torch.equal(network(images), expected)
        network.configure({"B": {"stride": 2, "dilation": 2}, "D": {"stride": 1, "dilation": 1}})
        assert not torch.allclose(network(images), expected, rtol=0.01)
        assert torch.equal(model(images), expected)
        network.configure({})
        assert torch.equal(network(images), expected)
    assert [type(layer) for layer in model.modules()] == layers
    assert list(network.model.state_dict()) == list(before)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_modes_stay_as_they_are():
    model = narrow().train()
    model.layer2.eval()
    network = DynamicNetwork(model, space=Space(stride={"A": (1, 2)}), image_size=32)
    for name, layer in network.model.named_modules():
        assert layer.training == model.get_submodule(name).training
    assert not network.model.layer2[0].conv2.training
    assert network.model.layer1[0].conv2.training


def test_the_fingerprint_is_of_the_weights():
    model = Own()
    one, same = (DynamicNetwork(model, sites=["steps"], space=Space(stride=(s,)), image_size=8 * s) for s in (2, 4))
    one.configure({"A": 2})
    assert one.fingerprint == same.fingerprint
    with torch.no_grad():
        model.head.bias[1] += 1e-6
    other = DynamicNetwork(model, sites=["steps"], space=Space(stride=(2,)), image_size=8)
    assert other.fingerprint != one.fingerprint


def test_a_network_is_called_by_timms_name_its_class_or_the_given_one(network):
    space = Space(stride={"C": (2,)})
    assert network.name == "narrow"
    assert DynamicNetwork(network.model, space=space, image_size=32).name == "ResNet"
    assert DynamicNetwork(timm.create_model("resnet20_cifar"), space=space).name == "resnet20_cifar"


def test_sites_are_described_by_the_layers_that_change():
    dense = small_densenet()
    pool, conv = "features.pool0", "features.denseblock1.denselayer1.conv2"
    for space, expected in (
        (Space(stride={"A": (2,)}), pool),
        (Space(size={"A": (3,)}), conv),
        (Space(stride={"A": (2,)}, dilation={"A": (2,)}, size={"A": (3,)}), f"{pool} and {conv}"),
    ):
        described = DynamicNetwork(dense, space=space, image_size=64).described_sites
        assert described["A"] == expected
        assert list(described) == ["A", "B", "C", "D"]


# Configuring


def configured(network: DynamicNetwork) -> dict[str, Option]:
    return {name: layer.option for name, layer in network.named_modules() if isinstance(layer, DynamicLayer)}


def test_a_configuration_lasts_until_the_next_one(network):
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        default = network(images)
        network.configure({"B": 1, "D": 0.5})
        found = configured(network)
        changed = network(images)
        assert not torch.equal(changed, default)
        network.configure({"D": 0.5})  # B, which is not named, is as it was trained
        assert configured(network) != found
        assert not torch.equal(network(images), changed)
        network.configure({"D": Option(stride=0.5), "B": {"stride": 1}})
        assert torch.equal(network(images), changed)
        network.configure({})
        assert set(configured(network).values()) == {Option()}
        assert torch.equal(network(images), default)


def test_a_configuration_within_with_ends_with_it(network):
    network.configure({"A": 2})
    before = configured(network)
    with network.configure({"B": 1}):
        inner = configured(network)
        assert inner["model.layer1.0.conv2"] == Option()
        with network.configure({"C": 1, "B": 0.5}):
            assert configured(network)["model.layer2.0.downsample.0"] == Option(stride=0.5)  # it follows
        assert configured(network) == inner
        with pytest.raises(RuntimeError, match="channels"), network.configure({"C": 1}):
            network(torch.randn(1, 2, 32, 32))
        assert configured(network) == inner  # after an error too
    assert configured(network) == before
    assert before["model.layer1.0.conv2"] == before["model.layer1.0.downsample.0"] == Option(stride=2)
    network.configure({})


def test_a_wrong_configuration_is_refused_and_changes_nothing(network):
    for permutation, match in (
        ({"E": 1}, r"unknown site 'E': narrow has A, B, C, D\."),
        ({"A": 1, "B": 3}, r"site B has no option 3: it has ½, 1, 2\. Choose one, or make the DynamicNetwork with a"),
        ({"A": {"strides": 1}}, r"unknown attribute 'strides' at site A: it is one of stride, dilation, size\."),
        ({"A": {"dilation": 2}}, r"site A has no option 2"),
        ({"A": Option(stride=2, size=3)}, r"site A has no option stride 2 size 3"),
    ):
        with pytest.raises(ValueError, match=match):
            network.configure(permutation)
        assert set(configured(network).values()) == {Option()}


def test_several_attributes_are_given_by_name():
    space = Space(stride={"A": (1, 2), "D": (1,)}, dilation={"A": (2, 3)}, size={"C": (5,)})
    network = DynamicNetwork(narrow(), space=space, image_size=32)
    assert network.default == tuple(Option(stride, 1, 3) for stride in (1, 2, 2, 2))
    assert Counter(len(options) for options in network.options.values()) == {1: 3, 4: 1}
    network.configure({"A": {"stride": 2, "dilation": 3, "size": 3}, "C": Option(2, 1, 5)})
    found = configured(network)
    assert found["model.layer1.0.conv2"] == Option(stride=2, dilation=3)
    assert found["model.layer1.0.downsample.0"] == Option(stride=2)  # what follows takes the stride alone
    assert found["model.layer3.0.conv2"] == Option(size=5)
    assert found["model.layer3.0.downsample.0"] == Option()
    assert found["model.layer4.0.conv2"] == Option()  # the trained options can always be chosen
    with pytest.raises(
        ValueError, match=r"site A: 2 could be any of stride, dilation, size\. Give them by name, .*'A'"
    ):
        network.configure({"A": 2})


def test_a_layer_may_change_its_stride_and_another_its_size():
    network = DynamicNetwork(
        small_densenet(), space=Space(stride={"B": (1, 2)}, size={"B": (3, 5)}), image_size=64
    ).eval()
    assert len(network.permutations) == 4
    network.configure({"B": {"stride": 1, "size": 5}})
    pool, conv = network.model.features.transition1.pool, network.model.features.denseblock2.denselayer1.conv2
    assert (pool.option, conv.option) == (Option(stride=1), Option(size=5))


# Layers and networks of one's own


class Steps(DynamicLayer):
    """Every s-th pixel."""

    trained = Option(stride=2)

    def forward(self, x: Tensor) -> Tensor:
        step = int(self.option.stride or 2)
        return x[:, :, ::step, ::step]


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.steps, self.shortcut = nn.Conv2d(1, 4, 3, 1, 1), Steps(), nn.AvgPool2d(2, ceil_mode=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((self.steps(x) + self.shortcut(x)).mean((2, 3)))


def test_a_layer_of_ones_own_is_a_site_and_takes_others_with_it():
    model = Own().eval()
    network = DynamicNetwork(model, sites={"own": "steps"}, space=Space(stride=(2, 3, 4)), image_size=(12, 24)).eval()
    assert network.image_size == (12, 24)
    assert network.permutations == tuple(strides(value) for value in (2, 3, 4))
    assert network.trained == {"own": Option(stride=2)}
    images = torch.randn(2, 1, 12, 24)
    with torch.no_grad(), network.configure({"own": 4}):
        x = model.stem(images)
        pooled = nn.functional.avg_pool2d(x, 2, 4, ceil_mode=True)
        assert torch.equal(network(images), model.head((x[:, :, ::4, ::4] + pooled).mean((2, 3))))


def test_image_size_decides_what_permutations_cost():
    small, large = (DynamicNetwork(Own(), sites=["steps"], space=Space(stride=(1, 2)), image_size=s) for s in (8, 16))
    assert small.static_macs - 12 == 8 * 8 * 9 * 4
    assert large.static_macs - 12 == 4 * (small.static_macs - 12)
    assert DynamicNetwork(Own(), sites=["steps"], space=Space(stride=(2,))).image_size == (224, 224)


def test_a_site_may_lack_what_others_change():
    sites = {"A": Site(stride="layer1.0.conv2"), "B": Site(stride="layer2.0.conv2")}
    network = DynamicNetwork(narrow(), sites=sites, space=Space(stride=(1, 2)), image_size=32)
    assert len(network.permutations) == 4
    assert network.described_sites == {"A": "layer1.0.conv2", "B": "layer2.0.conv2"}


class DecidesOnValues(nn.Module):
    """Looks at the values of its images, of which shapes alone have none."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 5, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if x.mean() > 100:
            x = x / 2
        return self.second(x).mean((2, 3))


def test_a_network_that_decides_on_values_works_too():
    network = DynamicNetwork(DecidesOnValues(), sites=["first", "second"], space=Space(stride=(1, 2)), image_size=8)
    assert len(network.permutations) == 4
    assert network.macs.tolist() == [64 * 108 + 64 * 180, 64 * 108 + 16 * 180, 16 * 108 + 16 * 180, 16 * 108 + 4 * 180]
    with pytest.warns(NotTracedWarning):
        assert not network.levels.traced


def test_an_attribute_that_a_site_has_no_layer_for_makes_no_permutations():
    sites = {"A": Site(stride="first"), "B": Site.at("second")}
    network = DynamicNetwork(DecidesOnValues(), sites=sites, space=Space(stride=(1, 2), size=(3, 5)), image_size=8)
    assert len(network.permutations) == 2 * 4
    assert network.default in network.permutations
    with pytest.raises(ValueError, match=r"site A has no layer whose size could change\. Leave it out of size\."):
        DynamicNetwork(DecidesOnValues(), sites=sites, space=Space(size={"A": (3, 5)}), image_size=8)


def test_an_empty_option_is_the_trained_one():
    network = DynamicNetwork(DecidesOnValues(), sites=["first"], space=Space(stride=(1, 2)), image_size=8)
    images = torch.randn(1, 3, 8, 8)
    with network.configure({"A": 2}), network.configure({"A": Option()}):
        assert torch.equal(network(images), network.model(images))
        assert network.model.first.option == Option()
    with pytest.raises(ValueError, match="site A: '2' is no number"):
        network.configure({"A": "2"})


def test_sites_in_one_word_are_refused():
    with pytest.raises(ValueError, match=r"sites='first' is one word\. Give layers in a list"):
        DynamicNetwork(DecidesOnValues(), sites="first", space=Space(stride=(1, 2)), image_size=8)
