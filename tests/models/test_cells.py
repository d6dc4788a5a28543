"""Networks of cells: their operations, their sizes, and what timm asks of them."""

import subprocess
import sys

import pytest
import timm
import torch
from search.searches_for_tests import INDIVIDUAL, cells
from torch.testing import assert_close

import plainvision as pv
from plainvision.genotype import NONE, OPERATIONS
from plainvision.models.cells import CellNetwork, operation
from plainvision.surgery import fuse


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != NONE])
@pytest.mark.parametrize("stride", [1, 2])
def test_an_operation_keeps_the_channels_and_halves_odd_sizes_too(name, stride):
    layer = operation(name, 5, stride=stride, affine=True)
    assert layer(torch.randn(2, 5, 7, 4)).shape == ((2, 5, 7, 4) if stride == 1 else (2, 5, 4, 2))


def test_pools_and_skips_have_nothing_to_learn_and_convolutions_have():
    counts = {n: sum(p.numel() for p in operation(n, 4, stride=1, affine=True).parameters()) for n in OPERATIONS[1:]}
    assert [name for name, count in counts.items() if count == 0] == ["skip", "max_pool_3x3", "avg_pool_3x3"]
    assert counts["sep_conv_3x3"] == 2 * (4 * 9 + 16 + 8)
    assert counts["dil_conv_5x5"] == 4 * 25 + 16 + 8


def test_a_halving_skip_sees_even_and_odd_pixels():
    layer = operation("skip", 2, stride=2, affine=False).eval()
    with torch.no_grad():
        layer.even.weight.fill_(1)
        layer.odd.weight.fill_(1)
        x = torch.zeros(1, 2, 4, 4)
        x[0, 0, 0, 0], x[0, 0, 1, 1], x[0, 0, 0, 1] = 1, 2, 4
        found = layer(x)[0, :, 0, 0]
    assert_close(found, torch.tensor([1.0, 2.0]) / (1 + 1e-5) ** 0.5)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (3, 1)])
def test_a_network_of_cells_takes_images_of_any_size(size):
    net = pv.create_model("cell_network", genotype=cells().text(), channels=4, depth=5, num_classes=3, in_chans=1)
    assert isinstance(net, CellNetwork)
    assert net(torch.randn(2, 1, *size)).shape == (2, 3)


def test_the_network_is_built_by_name_and_stays_out_of_the_list(tmp_path):
    cells().save(tmp_path / "genotype.json")
    net = timm.create_model("cell_network", genotype=str(tmp_path / "genotype.json"), channels=4, stem_stride=4)
    assert net.forward_features(torch.randn(2, 3, 64, 64)).shape == (2, net.num_features, 4, 4)
    assert net.get_classifier().out_features == net.num_classes == 1000
    net.reset_classifier(5)
    assert net.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 5)
    features = net.forward_head(net.forward_features(torch.randn(1, 3, 64, 64)), pre_logits=True)
    assert features.shape == (1, net.num_features)
    net.reset_classifier(0)
    assert net(torch.randn(1, 3, 64, 64)).shape == (1, net.num_features)
    words = "import timm, plainvision.models as ours; print('cell_network' in timm.list_models(), ours.list_models())"
    found = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout
    assert found.startswith("True ['alexnet'")
    assert "cell_network" not in found


def test_a_network_of_cells_can_be_fused():
    net = pv.create_model("cell_network", genotype=cells().text(), channels=4, num_classes=3).eval()
    images = torch.randn(2, 3, 32, 32)
    assert_close(fuse(net, images=2)(images), net(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"cell_network is built from a genotype, and none was given.*plainvision search"),
        ({"genotype": cells(INDIVIDUAL.space).text(), "depth": 8}, r"individual cells of a network of 5"),
        ({"genotype": cells().text(), "depth": 2}, r"depth=2: a network has two reduction cells"),
        ({"genotype": cells().text(), "channels": 0}, r"channels=0: give the channels of a node"),
        ({"genotype": cells().text(), "stem_stride": 3}, r"stem_stride=3 must be 1, 2, 4 or 8"),
        ({"genotype": cells().text(), "nodes": 3}, r"cell_network has no option 'nodes'"),
    ],
)
def test_what_cannot_be_built_is_explained(options, message):
    with pytest.raises(ValueError, match=message):
        pv.create_model("cell_network", **options)
