"""The searched network: it computes what the discrete one does, and names the strongest operations."""

import pytest
import torch
from search.searches_for_tests import INDIVIDUAL, TINY, cells
from torch import nn
from torch.testing import assert_close

from plainvision.genotype import NONE, CellSpace, Edge
from plainvision.models.cells import CellPlace, DiscreteCell
from plainvision.search.supernet import SearchCell, Supernet


def one_hot(space: CellSpace, cell) -> torch.Tensor:
    """Return the weights (E, O) that leave only the cell's operations: `none` on every other edge."""
    chosen = {(node, edge.source): edge.operation for node, edges in enumerate(cell) for edge in edges}
    columns = [space.operations.index(chosen.get(edge, NONE)) for edge in space.edges]
    return nn.functional.one_hot(torch.tensor(columns), len(space.operations)).float()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("place", [CellPlace(False, 4, (6, 8), False), CellPlace(True, 4, (6, 8), True)])
def test_with_one_hot_weights_the_searched_cell_computes_the_discrete_one(seed, place):
    space = CellSpace(nodes=3)
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
    space = CellSpace(depth=3, nodes=2, operations=("none", "skip", "max_pool_3x3", "sep_conv_3x3"))
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
    net = Supernet(CellSpace(depth=8, nodes=2), channels=2, num_classes=3)
    parameters = [{id(p) for p in cell.parameters()} for cell in net.cells]
    assert len(set.union(*parameters)) == sum(map(len, parameters))
