"""Passes that share their work, against whole passes of the network as it is configured."""

import random
import warnings
import weakref
from collections import Counter

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from networks_for_tests import trained
from torch import Tensor, nn

import plainvision.models  # noqa: F401  (registers our networks with timm)
from plainvision.dynamic import DynamicNetwork, Space
from plainvision.dynamic.engine import shared_passes, whole_passes
from plainvision.dynamic.network import NotTracedWarning
from plainvision.dynamic.sites import find_sites
from plainvision.layers.dynamic_conv import DynamicLayer, Option, Permutation, dynamic_layer

BOTTLENECK = torchvision.models.resnet.Bottleneck
ONE_EACH = [1, 1, 1, 1]
# Expansion, channels, blocks and stride of each stage; the published network has more blocks.
SHORT = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 1, 2], [6, 64, 1, 2], [6, 96, 1, 1], [6, 160, 1, 2]]

NETWORKS = {
    "resnet": lambda: torchvision.models.ResNet(BOTTLENECK, ONE_EACH, num_classes=5, width_per_group=8),
    "mobilenet": lambda: torchvision.models.MobileNetV2(5, 0.25, SHORT),
    "densenet": lambda: torchvision.models.DenseNet(4, (2, 1, 2, 1), 8, num_classes=5),
    "timm's resnet": lambda: timm.models.ResNet(timm.models.resnet.Bottleneck, ONE_EACH, 5, channels=(8, 16, 24, 32)),
    "resnet for cifar": lambda: timm.create_model("resnet20_cifar", num_classes=5, width=0.5, depths=(1, 2, 1)),
}
SPACES = {
    "stride": Space(stride=(0.5, 1, 2)),
    "dilation": Space(dilation=(1, 2, 4)),
    "size": Space(size=(1, 3, 5)),
    "all together": Space(stride=(1, 2), dilation=(1, 2), size=(1, 3)),
}


def few(model: nn.Module, space: Space, image_size: int, count: int = 6) -> DynamicNetwork:
    """Return a network with some permutations of a space in any order, that of the trained network first."""
    own = {
        label: Option(
            **{
                name: getattr(dynamic_layer(model.get_submodule(layer)).trained, name)
                for name, layer in vars(site).items()
                if name in space.attributes
            }
        )
        for label, site in find_sites(model, None).items()
    }
    chosen = [space.default(own), *random.Random(0).sample(space.permutations(own), count - 1)]
    # Those that share the most are the first and the last of the list.
    chosen.append((*chosen[0][:-1], chosen[1][-1]))
    return DynamicNetwork(model, space=Space(chosen=tuple(chosen)), image_size=image_size).eval()


def one_by_one(network: DynamicNetwork, images: Tensor) -> list[Tensor]:
    """Configure the network, and pass the images."""
    found = []
    for permutation in network.permutations:
        with network.configure(dict(zip(network.sites, permutation, strict=True))), torch.inference_mode():
            found.append(network(images.clone()))
    return found


def shared(network: DynamicNetwork, images: Tensor) -> dict[int, Tensor]:
    with torch.inference_mode():
        passes = list(shared_passes(network.levels, network.permutations, tuple(network.sites), images))
    assert Counter(number for number, _ in passes) == Counter(range(len(network.permutations)))
    return dict(passes)


def assert_shared_equals_one_by_one(network: DynamicNetwork, images: Tensor) -> None:
    expected = one_by_one(network, images)
    found = shared(network, images)
    for number, logits in enumerate(expected):
        assert torch.equal(found[number], logits), network.permutations[number]
    assert len({tuple(logits.flatten().tolist()) for logits in expected}) > 1  # else nothing has been shown


def options(network: DynamicNetwork) -> list[Option]:
    return [layer.option for layer in network.modules() if isinstance(layer, DynamicLayer)]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", NETWORKS)
def test_shared_passes_are_whole_passes_to_the_bit(name, space):
    network = few(trained(NETWORKS[name]()), SPACES[space], 48)
    assert network.levels.traced
    assert len(network.permutations) > 2
    images = torch.randn(2, 3, 48, 48)
    expected = one_by_one(network, images)
    with torch.inference_mode():
        whole = list(whole_passes(network.levels, network.permutations, tuple(network.sites), images))
    assert [number for number, _ in whole] == list(range(len(network.permutations)))
    found = shared(network, images)
    for number, logits in whole:
        assert torch.equal(logits, expected[number])
        assert torch.equal(found[number], logits), network.permutations[number]
    assert len({tuple(logits.flatten().tolist()) for logits in expected}) > 2


# Networks that write into values which something else still needs


class Base(nn.Module):
    """A stem, sites ``a`` and ``b``, and what a pass may use between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.c = nn.Conv2d(3, 4, 3, 1, 1), *(nn.Conv2d(4, 4, 3, 1, 1) for _ in range(3))
        self.identity, self.act, self.drop, self.fc = nn.Identity(), nn.ReLU(True), nn.Dropout(0.5), nn.Linear(4, 5)
        self.gain = nn.Parameter(torch.full((1, 4, 1, 1), 0.7))

    def head(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))


class Toys:
    """Passes from ``stem`` on, ``n`` the network itself."""

    def relu_on_a_value_from_before_a_site_that_reads_it(n, x):
        y = n.a(x)
        x = x.relu_()
        return n.b(x + y) + x

    def functional_relu_in_place(n, x):
        y = n.a(x)
        z = F.relu(x, True)
        return n.b(F.relu(y, inplace=True)) + z

    def layers_in_place_used_again_and_again(n, x):
        x = n.act(x)
        y = n.act(n.a(x))
        return n.act(n.b(n.act(y))) + y + x

    def a_shortcut_that_is_added_to(n, x):
        y = n.a(x)
        x += y
        z = n.b(x)
        z += x
        return z

    def a_shortcut_that_takes_what_a_deeper_site_puts_out(n, x):
        y = n.a(x)
        x = x.add_(y)
        z = n.b(x)
        return x.mul_(z)

    def a_shortcut_that_is_multiplied(n, x):
        y = n.a(x)
        y = y.mul_(x)
        z = n.b(y.relu())
        z = z.mul_(x)
        return z - x

    def an_identity_between(n, x):
        shortcut = n.identity(x)
        y = n.a(x)
        shortcut = n.act(shortcut)
        return n.b(y + shortcut) + shortcut

    def a_dropout_between(n, x):
        shortcut = n.drop(x)
        shortcut += n.a(x)
        return n.b(shortcut) + n.c(shortcut)

    def a_view_that_is_written(n, x):
        flat = x.flatten(2)
        y = n.a(x)
        flat = flat.add_(y.flatten(2))
        return n.b(flat.view_as(x))

    def parts_of_a_value_that_are_written(n, x):
        first, second = n.a(x).chunk(2, 1)
        first = first.relu_()
        y = n.b(torch.cat([first, second], 1))
        second = second.sub_(y[:, :2])
        return torch.cat([first, second], 1) + y

    def a_detached_value_that_is_written(n, x):
        same = x.detach()
        same += n.a(x)
        return n.b(same) + n.c(same)

    def a_value_read_before_a_deeper_site_overwrites_it(n, x):
        y = n.act(n.a(x))
        z = n.b(y)
        w = n.c(y) + y
        y += z
        return y * w

    def operators_that_others_write_in_place(n, x):
        y = n.a(x)
        y -= x
        y *= n.gain
        z = n.b(y)
        z /= 3
        z **= 2
        return z + y

    def a_gate(n, x):
        y = n.a(x)
        gate = n.c(y.mean((2, 3), keepdim=True)).sigmoid_()
        return n.b(y.mul(gate)).add_(x)

    def the_same_layer_twice(n, x):
        x = n.a(x).relu_()
        return n.b(n.a(x).relu_()) + x

    def sites_beside_each_other(n, x):
        return torch.cat([n.a(x)[:, :2], n.b(x)[:, 2:]], 1).relu_() * n.c(x)

    def shapes_that_are_read(n, x):
        y = n.a(x)
        y = F.interpolate(y, x.shape[2:])
        return n.b(y.view(y.shape[0], 4, -1).view(y.size()).clone()) + x

    def nothing_behind_the_last_site(n, x):
        return n.b(n.a(x))

    def a_pass_that_meets_the_last_site_first(n, x):
        return n.a(n.c(n.b(x)).relu_())


TOYS = {name: passing for name, passing in vars(Toys).items() if not name.startswith("_")}


def toy(passing, space: Space | None = None) -> DynamicNetwork:
    class Network(Base):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(passing(self, self.stem(x)))

    sites = {"A": "a", "B": "b"}
    return DynamicNetwork(trained(Network()), sites=sites, space=space or Space(dilation=(1, 2, 3)), image_size=8)


@pytest.mark.parametrize("name", TOYS)
def test_what_a_network_writes_in_place_does_not_reach_another_permutation(name):
    network = toy(TOYS[name])
    network.eval()
    assert network.levels.traced
    assert len(network.permutations) == 9
    assert_shared_equals_one_by_one(network, torch.randn(2, 3, 8, 8))


def test_the_images_are_not_written_into():
    class Network(Base):
        def forward(self, x: Tensor, gain: float = 2.0) -> Tensor:
            x = x.sub_(0.5).mul_(gain)
            return self.head(self.b(self.a(self.stem(x))))

    network = DynamicNetwork(Network(), sites=["a", "b"], space=Space(size=(1, 3)), image_size=8).eval()
    images = torch.randn(2, 3, 8, 8)
    before = images.clone()
    assert_shared_equals_one_by_one(network, images)
    assert torch.equal(images, before)


# What is shared


def calls(network: DynamicNetwork, images: Tensor) -> Counter[str]:
    """Count how often each layer is passed."""
    found: Counter[str] = Counter()
    hooks = [
        layer.register_forward_hook(lambda *_, name=name: found.update([name]))
        for name, layer in network.model.named_modules()
    ]
    shared(network, images)
    for hook in hooks:
        hook.remove()
    return found


def prefixes(permutations: tuple[Permutation, ...], count: int) -> int:
    """Return how many different beginnings of so many options there are."""
    return len({permutation[:count] for permutation in permutations})


def test_each_layer_is_passed_as_often_as_the_sites_before_it_have_options():
    space = Space(stride={"A": (1, 2), "B": (1, 2, 3), "C": (1, 2), "D": (1, 2, 3)})
    network = DynamicNetwork(trained(NETWORKS["resnet"]()), space=space, image_size=64).eval()
    assert len(network.permutations) == 36
    found = calls(network, torch.randn(1, 3, 64, 64))
    for layer, expected in {
        "conv1": 1,
        "maxpool": 1,
        "layer1.0.conv1": 1,
        "layer1.0.conv2": 2,
        "layer1.0.downsample.0": 2,
        "layer1.0.conv3": 2,
        "layer2.0.conv1": 2,
        "layer2.0.conv2": 6,
        "layer2.0.bn3": 6,
        "layer3.0.conv1": 6,
        "layer3.0.conv2": 12,
        "layer3.0.downsample.1": 12,
        "layer4.0.conv1": 12,
        "layer4.0.conv2": 36,
        "fc": 36,
    }.items():
        assert found[layer] == expected, layer


def test_permutations_that_are_no_product_share_their_beginnings():
    network = few(trained(NETWORKS["mobilenet"]()), SPACES["size"], 32, count=12)
    found = calls(network, torch.randn(1, 3, 32, 32))
    assert found["features.0.0"] == 1
    for count, layer in enumerate(("features.2", "features.4", "features.5", "features.7"), start=1):
        assert found[f"{layer}.conv.1.0"] == prefixes(network.permutations, count)
    assert found["classifier.1"] == prefixes(network.permutations, 4)
    assert prefixes(network.permutations, 2) < len(network.permutations)


def test_values_of_one_option_are_given_up_before_the_next_one():
    network = DynamicNetwork(NETWORKS["resnet"](), space=Space(dilation=(1, 2)), image_size=32).eval()
    alive: dict[str, list[weakref.ref]] = {}

    def note(name, output):
        held = alive.setdefault(name, [])
        assert not any(reference() is not None for reference in held)
        held.append(weakref.ref(output))

    for name in ("layer1.0.bn3", "layer2.0.bn3", "layer2.0.downsample.1", "layer4.0.conv2"):
        network.model.get_submodule(name).register_forward_hook(lambda *given, name=name: note(name, given[-1]))
    with torch.inference_mode():
        for _ in shared_passes(network.levels, network.permutations, "ABCD", torch.randn(1, 3, 32, 32)):
            pass
    assert {name: len(held) for name, held in alive.items()} == {
        "layer1.0.bn3": 2,
        "layer2.0.bn3": 4,
        "layer2.0.downsample.1": 2,
        "layer4.0.conv2": 16,
    }


def test_sites_may_be_named_in_any_order_and_permutations_repeated():
    model = trained(NETWORKS["resnet for cifar"]())
    sites = {"late": "layer3.0.conv1", "early": "layer2.0.conv1"}
    some = [(Option(stride=a), Option(stride=b)) for a, b in ((1, 2), (2, 4), (1, 2), (2, 2), (1, 4), (4, 1))]
    network = DynamicNetwork(model, sites=sites, space=Space(chosen=tuple(some)), image_size=32).eval()
    images = torch.randn(2, 3, 32, 32)
    assert network.levels.sites == ("early", "late")
    assert_shared_equals_one_by_one(network, images)
    found = calls(network, images)
    assert (found["conv1"], found["layer2.0.conv1"], found["layer3.0.conv1"]) == (1, 3, 5)


# Configurations and networks that cannot be followed


def test_the_configuration_is_given_back_also_when_only_some_passes_are_taken():
    network = toy(TOYS["nothing_behind_the_last_site"]).eval()
    network.configure({"A": 3})
    before = options(network)
    images = torch.randn(1, 3, 8, 8)
    expected = network(images)
    for passes in (shared_passes, whole_passes):
        found = passes(network.levels, network.permutations, ("A", "B"), images)
        next(found), next(found)
        assert options(network) != before
        found.close()
        assert options(network) == before
        for _ in passes(network.levels, network.permutations, ("A", "B"), images):
            pass
        assert options(network) == before
    assert torch.equal(network(images), expected)


def test_a_network_that_decides_in_its_pass_takes_whole_passes_with_a_warning():
    class Deciding(Base):
        def forward(self, x: Tensor) -> Tensor:
            x = self.a(self.stem(x))
            x[:, :2] = x[:, 2:] if x.shape[2] > 6 else x[:, :2]
            return self.head(self.b(x).relu_())

    network = DynamicNetwork(trained(Deciding()), sites=["a", "b"], space=Space(dilation=(1, 2, 3)), image_size=8)
    network.eval()
    assert len(network.permutations) == 9
    with pytest.warns(
        NotTracedWarning, match=r"Deciding decides in its pass what to compute.*The results are the same"
    ):
        assert not network.levels.traced
    assert set(network.levels.sites) == {"A", "B"}
    assert_shared_equals_one_by_one(network, torch.randn(2, 3, 8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert network.levels is network.levels  # it warns once
    assert calls(network, torch.randn(2, 3, 8, 8))["stem"] == 9


def test_a_whole_pass_that_writes_into_the_images_gives_them_unchanged_to_the_next_permutation():
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x):
            if x.mean() > 100:  # cannot be traced
                return x
            return self.conv(x.sub_(0.5).mul_(4)).mean((2, 3))

    network = DynamicNetwork(Writes(), sites=["conv"], space=Space(stride=(1, 2, 3)), image_size=8).eval()
    images = torch.rand(2, 3, 8, 8)
    before = images.clone()
    with pytest.warns(NotTracedWarning), torch.no_grad():
        levels = network.levels
    with torch.no_grad():
        shared = dict(shared_passes(levels, network.permutations, list(network.sites), images))
        whole = dict(whole_passes(levels, network.permutations, list(network.sites), images))
    assert torch.equal(images, before)
    for number, logits in whole.items():
        torch.testing.assert_close(shared[number], logits)
