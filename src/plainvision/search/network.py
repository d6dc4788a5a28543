"""The network that a genotype describes: its cells in a row, with one operation on each edge.

Paper    Liu et al. 2019, "DARTS", https://arxiv.org/abs/1806.09055, section 3.1
Differs  one plain classifier, without the auxiliary one and without path dropout; pooling as in `operations`
Use      plainvision.create_model("cell_network", genotype="runs/search/genotype.json"); timm knows the name too,
         once this module is imported. It is no family of `list_models`: what it is, its genotype says
Shapes   B batch, C channels, H height, W width, K classes
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from plainvision.search.genotype import Cell, Genotype, load_genotype
from plainvision.search.operations import operation
from plainvision.search.skeleton import Inputs, Place, places, stem


class DiscreteCell(nn.Module):
    """A cell whose edges are decided: two inputs (B, C', H', W') -> (B, nodes * C, H, W)."""

    def __init__(self, cell: Cell, place: Place) -> None:
        super().__init__()
        self.sources = [edge.source for node in cell for edge in node]
        self.inputs = Inputs(place, affine=True)
        self.operations = nn.ModuleList(
            operation(edge.operation, place.channels, stride=place.stride(edge.source), affine=True)
            for node in cell
            for edge in node
        )

    def forward(self, older: Tensor, newer: Tensor) -> Tensor:
        sources = self.inputs(older, newer)
        layers = iter(zip(self.operations, self.sources, strict=True))
        nodes: list[Tensor] = []
        for (one, first), (other, second) in zip(layers, layers, strict=True):  # two by two
            nodes.append(one(sources[first]) + other(sources[second]))
            sources.append(nodes[-1])
        return torch.cat(nodes, dim=1)


class CellNetwork(nn.Module):
    """A network of cells for images of any size: (B, in_chans, H, W) -> (B, K).

    Args:
        genotype: the cells, the path of their file, or the text of one.
        channels: of a node in the first cell; reduction cells double them.
        depth: cells in a row; None takes as many as were searched.
        num_classes: K; 0 leaves the classifier out.
        in_chans: channels of the images.
        stem_stride: by how much the stem makes the image smaller, 1, 2, 4 or 8.
        drop_rate: dropout before the classifier.

    Raises:
        FileNotFoundError: there is no such genotype.
        ValueError: it is damaged, or cannot have this depth.
    """

    def __init__(
        self,
        genotype: Genotype | str | None = None,
        *,
        channels: int = 16,
        depth: int | None = None,
        num_classes: int = 1000,
        in_chans: int = 3,
        stem_stride: int = 1,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if genotype is None:
            raise ValueError(
                "cell_network is built from a genotype, and none was given. Give the option genotype, for instance "
                "genotype='runs/search/genotype.json'; `plainvision search` writes one."
            )
        self.genotype = genotype if isinstance(genotype, Genotype) else load_genotype(genotype)
        depth = depth or self.genotype.space.depth
        where = places(depth, self.genotype.space.nodes, channels)
        self.stem = stem(in_chans, channels, stem_stride)
        self.cells = nn.ModuleList(DiscreteCell(self.genotype.cell(place.index, depth), place) for place in where)
        self.num_features = self.head_hidden_size = self.genotype.space.nodes * where[-1].channels
        self.num_classes = num_classes
        self.drop_rate = drop_rate
        self.classifier = _linear(self.num_features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last cell's output: (B, in_chans, H, W) -> (B, num_features, H', W')."""
        older = newer = self.stem(x)
        for cell in self.cells:
            older, newer = newer, cell(older, newer)
        return newer

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of `forward_features`, or with ``pre_logits`` the mean over all places."""
        x = F.dropout(x.mean((2, 3)), self.drop_rate, self.training)
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer by a new one.

        Raises:
            ValueError: another pooling than "avg".
        """
        if global_pool not in (None, "avg"):
            raise ValueError(f"global_pool={global_pool!r}: networks of cells pool by average. Leave it out.")
        self.num_classes = num_classes
        parameter = next(self.parameters())
        self.classifier = _linear(self.num_features, num_classes).to(device=parameter.device, dtype=parameter.dtype)


def _linear(features: int, num_classes: int) -> nn.Module:
    return nn.Linear(features, num_classes) if num_classes else nn.Identity()


default_cfgs = generate_default_cfgs(
    {
        "cell_network.untrained": {
            "input_size": (3, 32, 32),
            "num_classes": 1000,
            "pool_size": None,
            "crop_pct": 1.0,
            "interpolation": "bicubic",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "stem.0",
            "classifier": "classifier",
            "paper_ids": "arXiv:1806.09055",
        }
    }
)


@register_model
def cell_network(pretrained: bool = False, **options: Any) -> CellNetwork:
    """Return the network of the cells that the option ``genotype`` names."""
    return build_model_with_cfg(CellNetwork, "cell_network", pretrained, **options)
