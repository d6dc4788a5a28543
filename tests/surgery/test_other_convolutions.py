"""Convolutions that are more than torch's own keep their computation, and layers have all their names changed."""

import pytest
import timm
import torch
from networks_for_tests import trained
from timm.layers import Conv2dSame, ScaledStdConv2d, StdConv2d
from torch import Tensor, nn
from torch.testing import assert_close

import plainvision as pv
from plainvision.inspection.tracing import example_input
from plainvision.layers import LinearPair, SeriesActivation
from plainvision.surgery import merge_pairs

NETWORKS = (
    "nf_resnet26",
    "tf_efficientnet_b0",
    "tf_mobilenetv3_small_075",
    "nf_regnet_b0",
    "eca_nfnet_l0",
    "resnetv2_50x1_bit",
    "tf_mixnet_s",
    "edgenext_xx_small",
    "xcit_nano_12_p16_224",
)


def check_forms(model: nn.Module) -> None:
    """Check that fused, with pairs and merged the network answers as it does, or that in words it is refused."""
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
    close = {"rtol": 1e-3, "atol": 1e-3 * expected.abs().max().item()}
    try:
        assert_close(pv.fuse(model, image_size=64, images=1)(images), expected, **close)
    except ValueError as error:
        assert "nothing to fuse in" in str(error)  # noqa: PT017
    try:
        deep = pv.surgery.linear_pairs(model).eval()
    except ValueError as error:
        assert "of classes that extend nn.Conv2d" in str(error)  # noqa: PT017
        return
    assert_close(deep(images), expected, **close)
    assert_close(merge_pairs(deep)(images), expected, **close)
    assert pv.set_slope(deep, 0) > 0
    assert deep(images).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_timm_keep_their_answers(name):
    check_forms(trained(timm.create_model(name, num_classes=4)))


@pytest.mark.parametrize("kind", [Conv2dSame, ScaledStdConv2d, StdConv2d])
def test_a_convolution_that_extends_torchs_stays_and_one_beside_it_changes(kind):
    model = nn.Sequential(kind(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    model = trained(nn.Sequential(model, nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    check_forms(model)
    assert [type(layer) for layer in pv.surgery.linear_pairs(model)[0]][::3] == [kind, LinearPair]
    report = pv.fuse(model, image_size=16).report
    assert f"1 stay as they were: 1 because the {kind.__name__} before it extends a convolution" in str(report)


def test_pairs_that_hold_another_convolution_are_not_merged():
    pair = LinearPair(nn.Sequential(ScaledStdConv2d(3, 4, 3)), nn.Sequential(nn.Conv2d(4, 4, 1)), slope=1.0)
    with pytest.raises(ValueError, match=r"a part is one nn\.Conv2d"):
        merge_pairs(nn.Sequential(pair))


def test_merging_compares_both_forms(monkeypatch):
    right = LinearPair.merge

    def wrong(self):
        merged = right(self)
        merged.bias.data += 1e-3
        return merged

    model = trained(pv.surgery.linear_pairs(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False))))
    monkeypatch.setattr(LinearPair, "merge", wrong)
    with pytest.raises(ValueError, match=r"fusing LinearPair changes its answers by"):
        merge_pairs(model)


class AsksForWeight(nn.Module):
    """As EdgeNeXt and XCiT place their positional encoding on the device of a weight."""

    def __init__(self):
        super().__init__()
        self.project, self.conv = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.project(torch.ones(x.shape, device=self.project.weight.device)) + x


def test_a_convolution_whose_weight_the_network_asks_for_stays():
    asks = AsksForWeight()
    model = trained(nn.Sequential(asks, nn.Conv2d(3, 4, 3), nn.Flatten()))
    deep = pv.surgery.linear_pairs(model)
    assert type(deep[0].project) is nn.Conv2d
    images = torch.randn(2, 3, 8, 8)
    assert_close(deep(images), model(images), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"no convolution to replace in AsksForWeight.*others read their weights"):
        pv.surgery.linear_pairs(asks)


class TwoNames(nn.Module):
    """Each layer is called by its second name."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 4)
        self.features = nn.Sequential(self.conv1, self.bn1, self.relu)
        self.head = nn.Sequential(self.avgpool, nn.Flatten(), self.fc)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def test_a_layer_is_changed_under_all_its_names():
    model, images = trained(TwoNames()), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = model(images)
        deep = pv.surgery.linear_pairs(model).eval()
        assert deep.conv1 is deep.features[0]
        assert pv.set_slope(deep, 0) == 1
        assert not torch.equal(deep(images), expected)
        series = pv.surgery.series_activation(model, n=1, image_size=16).eval()
        assert isinstance(series.relu, SeriesActivation)
        series.relu.conv.weight.mul_(3)
        assert not torch.equal(series(images), expected)
        assert pv.attention_maps(pv.surgery.attention_pooling(model).eval(), images).shape == (2, 16, 16)
        space = pv.dynamic.Space(dilation=(1, 3))
        dynamic = pv.dynamic.DynamicNetwork(model, sites={"A": "conv1"}, space=space, image_size=16).eval()
        assert torch.equal(dynamic(images), expected)
        with dynamic.configure({"A": 3}):
            assert not torch.equal(dynamic(images), expected)
        fused = pv.fuse(model, image_size=16)
        assert fused.report.parameters_after < fused.report.parameters_before
        assert fused.conv1 is fused.features[0]


class HeadFirst(nn.Module):
    """Its head is registered first, and it takes images of ``channels`` in blocks of four pixels."""

    def __init__(self, channels):
        super().__init__()
        self.head, self.stem = nn.Conv2d(8, 4, 1), nn.Conv2d(4 * channels, 8, 3, padding=1)
        self.norm, self.pool = nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        x = self.norm(self.stem(nn.functional.pixel_unshuffle(x, 2))).relu()
        return self.head(self.pool(x)).flatten(1)


def test_the_channels_of_images_are_those_that_the_network_takes():
    for channels in (3, 1):
        model = trained(HeadFirst(channels))
        assert example_input(model, 2, 16).shape == (2, channels, 16, 16)
        assert not isinstance(pv.fuse(model, image_size=16).norm, nn.BatchNorm2d)
    model = trained(HeadFirst(5))
    with pytest.raises(
        ValueError, match=r"does not take images \(1, 8, 16, 16\).*Give the image_size and the channels"
    ):
        pv.fuse(model, image_size=16)
    assert not isinstance(pv.fuse(model, image_size=16, channels=5).norm, nn.BatchNorm2d)
    assert pv.surgery.attention_pooling(model, channels=5)(torch.randn(1, 5, 16, 16)).shape == (1, 4)
    options = {"sites": ["stem"], "space": pv.dynamic.Space(stride=(1, 2)), "image_size": 16}
    assert len(pv.dynamic.DynamicNetwork(model, channels=5, **options).permutations) == 2


def test_a_network_of_timm_says_its_channels_itself():
    with torch.device("meta"):
        shuffled, grey = timm.create_model("tresnet_m"), timm.create_model("resnet18", in_chans=1)
    assert example_input(shuffled, 1, 64).shape == (1, 3, 64, 64)
    assert example_input(grey, 1, 64).shape == (1, 1, 64, 64)
