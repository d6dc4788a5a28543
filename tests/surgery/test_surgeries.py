import pytest
import timm
import torch
import torchvision
from networks_for_tests import trained
from torch import nn
from torch.testing import assert_close

import plainvision as pv
from plainvision.layers import LinearPair, SeriesActivation

NETWORKS = {
    "alexnet of torchvision": lambda: torchvision.models.alexnet(num_classes=5),
    "resnet50 of torchvision": lambda: torchvision.models.resnet50(num_classes=5, width_per_group=8),
    "resnet50 of timm": lambda: timm.create_model("resnet50", num_classes=5, base_width=8),
}


def convolutions(model: nn.Module) -> int:
    return sum(isinstance(module, nn.Conv2d) for module in model.modules())


@pytest.fixture(params=NETWORKS, ids=list(NETWORKS))
def network(request):
    return trained(NETWORKS[request.param]())


def test_both_surgeries_keep_the_trained_function_and_fuse_back(network, images):
    expected = network(images)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    close = {"rtol": 1e-4, "atol": 1e-4 * expected.abs().max().item()}

    paired = pv.surgery.linear_pairs(network)
    assert_close(paired(images), expected, **close)
    pairs = sum(isinstance(module, LinearPair) for module in paired.modules())
    assert pairs == convolutions(network)

    series = pv.surgery.series_activation(paired, n=2)
    assert_close(series(images), expected, **close)
    added = sum(isinstance(module, SeriesActivation) for module in series.modules())
    assert added > 0

    changed = trained(series, seed=1)  # what training would do; the identity that surgery starts from proves nothing
    fused = pv.fuse(changed, image_size=64, images=2)
    expected = changed(images)
    assert_close(fused(images), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    assert convolutions(fused) == convolutions(network) + added
    assert not any(isinstance(module, nn.BatchNorm2d | LinearPair | SeriesActivation) for module in fused.modules())
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())  # untouched


def test_pairs_alone_fuse_back_to_the_original_layer_count(network):
    assert convolutions(pv.fuse(pv.surgery.linear_pairs(network), image_size=64, images=1)) == convolutions(network)


def test_a_relu_that_serves_several_places_gets_one_series_activation_each():
    model = torchvision.models.resnet18()
    series = pv.surgery.series_activation(model, n=1, image_size=64)
    channels = [m.conv.in_channels for m in series.modules() if isinstance(m, SeriesActivation)]
    assert len(channels) == 17
    assert isinstance(series, torch.fx.GraphModule)


def test_relus_behind_linear_layers_stay():
    model = pv.surgery.series_activation(torchvision.models.alexnet())
    assert sum(isinstance(module, SeriesActivation) for module in model.modules()) == 5
    assert type(model.classifier[2]) is nn.ReLU


def test_grouped_convolutions_keep_their_groups_and_depthwise_ones_stay(images):
    model = trained(timm.create_model("resnext26ts", num_classes=4))
    paired = trained(pv.surgery.linear_pairs(model))
    expected = paired(images)
    fused = pv.fuse(paired, image_size=64)
    assert_close(fused(images), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    groups = [m.groups for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [m.groups for m in fused.modules() if isinstance(m, nn.Conv2d)] == groups
    depthwise = nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.Conv2d(3, 4, 1))
    assert isinstance(pv.surgery.linear_pairs(depthwise)[0], nn.Conv2d)


def test_surgery_on_a_network_without_its_layer_is_refused():
    with pytest.raises(ValueError, match=r"no convolution to replace in Linear"):
        pv.surgery.linear_pairs(nn.Linear(3, 3))
    with pytest.raises(ValueError, match=r"no ReLU layer on an image-like tensor in Sequential"):
        pv.surgery.series_activation(nn.Sequential(nn.Conv2d(3, 3, 1), nn.GELU()))


class _Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.relu(x) if x.sum() > 0 else -x)  # what follows depends on the values


def test_a_shared_relu_in_a_network_that_cannot_be_traced_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), _Branching())
    nn.init.constant_(model[0].bias, 100.0)
    with pytest.raises(ValueError, match=r"ReLU '1\.relu' .* serves several places.*cannot be traced"):
        pv.surgery.series_activation(model)


@pytest.mark.parametrize("surgery", [pv.surgery.linear_pairs, pv.surgery.series_activation])
def test_a_random_start_computes_something_else_and_still_fuses(surgery, images):
    model = trained(torchvision.models.alexnet(num_classes=5))
    kept, new = surgery(model), surgery(model, init="random")
    assert_close(kept(images), model(images), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(new(images), model(images), rtol=1e-2)
    assert new.state_dict().keys() == kept.state_dict().keys()
    new = trained(new)
    assert_close(pv.fuse(new, image_size=64)(images), new(images), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match=r"init='zero' is no way to start. Give one of identity, random"):
        surgery(model, init="zero")
