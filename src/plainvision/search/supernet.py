"""The network that is searched: on each edge all candidates at once, weighted by the architecture.

Paper    Liu et al. 2019, "DARTS", https://arxiv.org/abs/1806.09055, sections 2.1, 2.2 and 2.4
Shapes   B batch, C channels, H height, W width, E edges of a cell, O candidate operations, K classes
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from plainvision.genotype import EDGES, NONE, Cell, CellSpace, Edge, Genotype
from plainvision.models.cells import CellInputs, CellPlace, cell_places, operation, stem


class MixedOperation(nn.Module):
    """Equation 2: the weighted sum of all candidates, (B, C, H, W) -> (B, C, H / stride, W / stride).

    `none` adds zero, so that it has no layer; its weight is what the others lack.
    """

    def __init__(self, space: CellSpace, channels: int, stride: int) -> None:
        super().__init__()
        self.columns = [column for column, name in enumerate(space.operations) if name != NONE]
        self.operations = nn.ModuleDict(
            {name: operation(name, channels, stride=stride, affine=False) for name in space.choices}
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        layers = zip(self.columns, self.operations.values(), strict=True)
        return reduce(torch.add, (weights[column] * layer(x) for column, layer in layers))


class SearchCell(nn.Module):
    """A cell in which every node sees every source before it (equation 1), with weights (E, O) from outside."""

    def __init__(self, space: CellSpace, place: CellPlace) -> None:
        super().__init__()
        self.edges = space.edges
        self.inputs = CellInputs(place, affine=False)
        self.mixed = nn.ModuleList(
            MixedOperation(space, place.channels, place.stride(source)) for _, source in space.edges
        )

    def forward(self, older: Tensor, newer: Tensor, weights: Tensor) -> Tensor:
        sources = self.inputs(older, newer)
        sums: dict[int, Tensor] = {}
        for (node, source), layer, row in zip(self.edges, self.mixed, weights, strict=True):
            if node not in sums and node:
                sources.append(sums[node - 1])  # complete, since the edges come node by node
            x = layer(sources[source], row)
            sums[node] = sums[node] + x if node in sums else x
        return torch.cat(list(sums.values()), dim=1)


class Supernet(nn.Module):
    """All networks of a space at once: images (B, in_chans, H, W) -> logits (B, K).

    Attributes:
        normal: (N, E, O), the architecture of N normal cells before the softmax: one, or one for each place.
        reduction: (E, O), that of the reduction cell.
    """

    def __init__(
        self, space: CellSpace, *, channels: int, num_classes: int, in_chans: int = 3, stem_stride: int = 1
    ) -> None:
        super().__init__()
        self.space = space
        self.places = cell_places(space.depth, space.nodes, channels)
        self.stem = stem(in_chans, channels, stem_stride)
        self.cells = nn.ModuleList(SearchCell(space, place) for place in self.places)
        self.classifier = nn.Linear(space.nodes * self.places[-1].channels, num_classes)
        # Zeros weigh all candidates equally (appendix A.1.1).
        shape = (len(space.edges), len(space.operations))
        self.normal = nn.Parameter(torch.zeros(space.normal_cells, *shape))
        self.reduction = nn.Parameter(torch.zeros(shape))

    def architecture(self) -> list[nn.Parameter]:
        """Return the parameters that choose: α in the paper."""
        return [self.normal, self.reduction]

    def weights(self) -> list[nn.Parameter]:
        """Return all other parameters: w in the paper."""
        chosen = {id(parameter) for parameter in self.architecture()}
        return [parameter for parameter in self.parameters() if id(parameter) not in chosen]

    def forward(self, images: Tensor) -> Tensor:
        older = newer = self.stem(images)
        normal, reduction = self.normal.softmax(-1), self.reduction.softmax(-1)
        own = iter(normal.expand(len(self.places), -1, -1) if len(normal) == 1 else normal)
        for place, cell in zip(self.places, self.cells, strict=True):
            older, newer = newer, cell(older, newer, reduction if place.reduction else next(own))
        return self.classifier(newer.mean((2, 3)))

    @torch.no_grad()
    def genotype(self, origin: dict[str, Any]) -> Genotype:
        """Return the discrete cells: each node keeps its two strongest edges, each edge its strongest operation.

        How strong an edge is, is the largest weight of an operation other than `none` (section 2.4).
        """
        normal = tuple(_strongest(self.space, weights.tolist()) for weights in self.normal.softmax(-1))
        return Genotype(self.space, normal, _strongest(self.space, self.reduction.softmax(-1).tolist()), origin)


def _strongest(space: CellSpace, weights: Sequence[Sequence[float]]) -> Cell:
    """Return the cell of the softmax's weights, (E, O); of equals the first is taken, so that a run can be repeated."""
    nodes: list[list[tuple[float, Edge]]] = [[] for _ in range(space.nodes)]
    for (node, source), row in zip(space.edges, weights, strict=True):
        strengths = {name: weight for name, weight in zip(space.operations, row, strict=True) if name != NONE}
        best = max(strengths, key=strengths.__getitem__)
        nodes[node].append((strengths[best], Edge(best, source)))
    kept = [sorted(node, key=lambda weighed: -weighed[0])[:EDGES] for node in nodes]
    return tuple(tuple(sorted((edge for _, edge in node), key=lambda edge: edge.source)) for node in kept)
