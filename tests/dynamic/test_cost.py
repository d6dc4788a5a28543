"""What permutations cost, against counting in real passes."""

import copy
from collections import Counter

import pytest
import timm
import torch
import torchvision
from networks_for_tests import trained
from torch import Tensor, nn

import plainvision.models  # noqa: F401  (registers our networks with timm)
from plainvision.dynamic import DynamicNetwork, Space
from plainvision.dynamic.cost import Cost, Costs, feasible
from plainvision.dynamic.network import NotTracedWarning
from plainvision.inspection.counting import count_macs
from plainvision.layers.dynamic_conv import DynamicLayer, Option

PATHS = "two paths of the network no longer meet in the same size"
SHRUNK = "a feature map would shrink to nothing"


def cifar() -> DynamicNetwork:
    model = trained(timm.create_model("resnet20_cifar", num_classes=10, depths=(1, 1, 1)))
    sites = {"late": "layer3.0.conv1", "early": "layer2.0.conv1"}  # not in the order of the network
    return DynamicNetwork(model, sites=sites, space=Space(stride=(0.5, 1, 2, 4), size=(1, 3)), image_size=16).eval()


def dense() -> DynamicNetwork:
    model = trained(torchvision.models.DenseNet(4, (1, 1, 1, 1), 8, num_classes=3))
    return DynamicNetwork(model, space=Space(stride=(1, 2, 4)), image_size=48).eval()


def counted(network: DynamicNetwork, images: Tensor) -> tuple[int, int] | None:
    """Return multiply-adds and activations of a real pass of the network as it is configured, None if it fails."""
    put_out = []
    convs = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(lambda *given: put_out.append(given[-1].numel())) for layer in convs]
    try:
        with torch.no_grad():
            network(images)
    except RuntimeError:
        return None
    finally:
        for hook in hooks:
            hook.remove()
    return count_macs(network, tuple(images.shape[2:])), sum(put_out)


@pytest.mark.parametrize("build", [cifar, dense])
def test_the_cost_of_each_permutation_is_what_a_real_pass_of_one_image_takes(build):
    network = build()
    images = torch.randn(1, 3, *network.image_size)
    costs = network.costs(images.expand(5, -1, -1, -1))  # of one image, however many there are
    found = Counter()
    for permutation in network.space.permutations(network.trained)[::3]:
        cost = costs(permutation)
        with network.configure(dict(zip(network.sites, permutation, strict=True))):
            real = counted(network, images)
        found[real is None] += 1
        assert (cost.problem is None) == (real is not None)
        if real is not None:
            assert (cost.macs, cost.activations) == real
    assert found[False] > 5
    assert (found[True] > 5) == (build is dense)


def test_costs_touch_neither_the_network_nor_its_weights():
    network = cifar()
    network.configure({"early": Option(stride=4, size=1)})
    before = copy.deepcopy(network.state_dict())
    costs = Costs(network.levels, tuple(network.sites), torch.randn(1, 3, 16, 16))
    other = next(p for p in network.permutations if p[0].stride == 1)
    assert costs(network.default).macs == network.static_macs != costs(other).macs
    options = {
        layer.site: layer.option for layer in network.modules() if isinstance(layer, DynamicLayer) and layer.site
    }
    assert options["late"] == Option()
    for layer in network.modules():
        assert not layer._forward_hooks
    for key, value in network.state_dict().items():
        assert value.device.type == "cpu"
        assert torch.equal(value, before[key])


def test_images_of_another_size_have_their_own_costs():
    network = cifar()
    small, large = (network.costs(torch.empty(1, 3, side, side)) for side in (16, 32))
    for permutation in network.permutations[::17]:
        head = 64 * 10
        assert large(permutation).macs - head == 4 * (small(permutation).macs - head)
        assert large(permutation).activations == 4 * small(permutation).activations


def test_a_permutation_is_kept_within_the_bound_and_counted_by_reason_beyond_it():
    network = dense()
    costs = network.costs(torch.empty(1, 3, 48, 48))
    wanted = network.space.permutations(network.trained)
    static = costs(network.default).activations
    kept, found, left_out = feasible(costs, wanted, network.default, 2.0)
    each = {permutation: costs(permutation) for permutation in wanted}
    within = [p for p in wanted if each[p].problem is None and each[p].activations <= 2 * static]
    assert list(kept) == within
    assert list(found) == [each[p] for p in within]
    shrunk = sum(cost.problem == SHRUNK for cost in each.values())
    above = len(wanted) - shrunk - len(within)
    assert left_out == {SHRUNK: shrunk, "more than 2 times the activations of the trained network": above}
    assert min(shrunk, above, len(within)) > 5
    everything, _, problems = feasible(costs, wanted, network.default, None)
    assert len(everything) == len(wanted) - shrunk
    assert problems == {SHRUNK: shrunk}


def test_the_bound_is_in_terms_of_the_trained_network_even_where_that_is_not_among_the_permutations():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1))
    # 8 pixels: 2 (4 x 4 x 4) values at stride 2, 4 times as many at 1, 16 times at 1/2, 1/4 at 4.
    for bound, strides in ((16, (0.5, 1, 4)), (4, (1, 4)), (3.9, (4,)), (0.25, (4,))):
        space = Space(stride={"A": (0.5, 1, 4)}, max_activations=bound)
        network = DynamicNetwork(model, sites=["0"], space=space, image_size=8)
        assert network.permutations == tuple((Option(stride=stride),) for stride in strides)


class Paths(nn.Module):
    """A shortcut that keeps its size, and a branch that can shrink to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.valid = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return (self.valid(x)[:, :, :1, :1] + self.second(x)[:, :, :6, :6]).mean((2, 3))


def test_the_reason_is_told_why_a_permutation_cannot_be_computed():
    network = DynamicNetwork(Paths(), sites=["first"], space=Space(stride=(1, 2, 4)), image_size=8)
    assert [option.stride for (option,) in network.permutations] == [1, 2]
    assert network.left_out == {SHRUNK: 1}
    cifar = timm.create_model("resnet20_cifar", depths=(2, 1, 1))
    network = DynamicNetwork(cifar, sites=["layer1.1.conv1"], space=Space(stride=(1, 2, 4)))
    assert network.left_out == {PATHS: 2}


class Deciding(nn.Module):
    """What it computes depends on what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if x.shape[2] > 4:
            x = self.second(x)
        return self.second(x).mean((2, 3))


def test_a_network_that_cannot_be_traced_is_counted_by_whole_passes():
    space = Space(stride=(1, 2, 4))
    network = DynamicNetwork(Deciding(), sites=["first", "second"], space=space, image_size=12)
    with pytest.warns(NotTracedWarning):
        assert not network.levels.traced
    for permutation, macs in zip(network.permutations, network.macs, strict=True):
        with network.configure(dict(zip("AB", permutation, strict=True))):
            assert macs == count_macs(network.model, 12)
    assert len(network.permutations) > 2
    assert sum(network.left_out.values()) == 9 - len(network.permutations) > 0
    assert all(reason.startswith("the network cannot compute it (") for reason in network.left_out)


def test_costs_add_up_and_keep_the_first_problem():
    total = Cost(3, 4) + Cost(30, 40)
    assert (total.macs, total.activations, total.problem) == (33, 44, None)
    assert (Cost(1, 1, "this") + Cost(1, 1, "that")).problem == "this"


@pytest.mark.parametrize("size", [4, 7, 9, 16])
def test_what_passes_as_computable_is_computed_where_strides_meet_poolings(size):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    dynamic = DynamicNetwork(model, sites=["0", "1", "2"], space=Space(stride=(1, 2, 3, 4)), image_size=size).eval()
    for permutation in dynamic.permutations:
        with dynamic.configure(dict(zip(dynamic.sites, permutation, strict=True))):
            assert dynamic(torch.randn(1, 3, size, size)).shape == (1, 4)


def test_a_map_of_no_pixels_is_a_problem_also_where_a_layer_takes_it():
    class Cut(nn.Module):
        def forward(self, x):
            return x[..., 1:, 1:].sum((2, 3))

    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), Cut())
    dynamic = DynamicNetwork(model, sites=["0"], space=Space(stride=(2, 8)), image_size=8)
    assert [str(permutation[0]) for permutation in dynamic.permutations] == ["2"]
    assert dynamic.left_out == {"a feature map would shrink to nothing": 1}
