import pytest
import timm
import torch
from search.searches_for_tests import INDIVIDUAL, TINY, cells
from torch import nn
from torch.testing import assert_close

import plainvision as pv
from plainvision.search import OPERATIONS, CellNetwork, Edge, Space
from plainvision.search.network import DiscreteCell
from plainvision.search.operations import operation
from plainvision.search.skeleton import Place
from plainvision.search.space import NONE
from plainvision.search.supernet import SearchCell, Supernet
from plainvision.surgery.fusing import fuse


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


def one_hot(space: Space, cell) -> torch.Tensor:
    """Return the weights (E, O) that leave only the cell's operations: `none` on every other edge."""
    chosen = {(node, edge.source): edge.operation for node, edges in enumerate(cell) for edge in edges}
    columns = [space.operations.index(chosen.get(edge, NONE)) for edge in space.edges]
    return nn.functional.one_hot(torch.tensor(columns), len(space.operations)).float()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("place", [Place(1, False, 4, (6, 8), False), Place(1, True, 4, (6, 8), True)])
def test_with_one_hot_weights_the_searched_cell_computes_the_discrete_one(seed, place):
    space = Space(nodes=3)
    cell = cells(space, seed).normal[0]
    searched, discrete = SearchCell(space, place), DiscreteCell(cell, place)
    discrete.inputs.load_state_dict(searched.inputs.state_dict(), strict=False)
    edges = [(node, edge) for node, edges in enumerate(cell) for edge in edges]
    for layer, (node, edge) in zip(discrete.operations, edges, strict=True):
        mixed = searched.mixed[space.edges.index((node, edge.source))]
        # What is missing are the batch norms' weights, which are 1 and 0 until they learn.
        missing = layer.load_state_dict(mixed.operations[edge.operation].state_dict(), strict=False)
        assert missing.unexpected_keys == []
    newer = torch.randn(3, 8, 6, 10)
    older = torch.randn(3, 6, 12, 20) if place.behind_reduction else torch.randn(3, 6, 6, 10)
    expected = discrete(older, newer)
    assert expected.shape == ((3, 12, 3, 5) if place.reduction else (3, 12, 6, 10))
    assert_close(searched(older, newer, one_hot(space, cell)), expected, rtol=1e-5, atol=1e-6)


def test_each_node_keeps_its_two_strongest_edges_and_none_is_never_chosen():
    space = Space(depth=3, nodes=2, operations=("none", "skip", "max_pool_3x3", "sep_conv_3x3"))
    net = Supernet(space, channels=2, num_classes=3)
    with torch.no_grad():
        net.normal[0] = torch.tensor(
            [
                [9.0, 1, 2, 0],  # node 1 from input 0: mostly none, then max pool
                [0, 0, 0, 5],
                [0, 3, 0, 0],  # node 2 from input 0: skip is strong
                [9.0, 0, 0, 1],  # weak, because of none
                [0, 0, 0, 1],
            ]
        )
    genotype = net.genotype({"epoch": 1})
    assert genotype.normal[0] == (
        (Edge("max_pool_3x3", 0), Edge("sep_conv_3x3", 1)),
        (Edge("skip", 0), Edge("sep_conv_3x3", 2)),
    )
    assert genotype.reduction[0] == (Edge("skip", 0), Edge("skip", 1))  # all equal: the first
    assert (genotype.origin, genotype.space) == ({"epoch": 1}, space)


def test_individual_cells_have_parameters_of_their_own_and_shared_ones_share():
    images = torch.randn(2, 1, 8, 8)
    for search, count in ((TINY, 1), (INDIVIDUAL, 3)):
        net = Supernet(search.space, channels=2, num_classes=3, in_chans=1)
        assert net.normal.shape == (count, 5, 8)
        before = net.eval()(images)
        gradients = torch.autograd.grad(before.sum(), net.architecture())
        assert all(row.abs().sum() > 0 for row in gradients[0])
        with torch.no_grad():
            net.normal[-1, :, 3] += 3
        assert len(set(net.genotype({}).normal)) == min(count, 2)
        assert not torch.equal(net(images), before)
        assert len(net.weights()) + 2 == len(list(net.parameters()))


def test_shared_cells_share_their_architecture_and_not_their_weights():
    net = Supernet(Space(depth=8, nodes=2), channels=2, num_classes=3)
    parameters = [{id(p) for p in cell.parameters()} for cell in net.cells]
    assert len(set.union(*parameters)) == sum(map(len, parameters))


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
    assert "cell_network" not in pv.list_models()


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
