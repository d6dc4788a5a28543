"""Networks of cells: the layers that a search and its result share, and the network that a genotype describes.

Paper    Liu et al. 2019, "DARTS", https://arxiv.org/abs/1806.09055, section 3.1
Differs  pooling is followed by a batch norm without weights in the discrete network too, not in the search alone, so
         that an operation computes the same in both; a skip halves odd sizes too; one classifier, without the
         auxiliary one and without path dropout
Use      plainvision.create_model("cell_network", genotype="runs/search/genotype.json"), or timm's `create_model`. It is
         no family of `list_models`: what it is, its genotype says
Shapes   B batch, C channels, H height, W width, K classes
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from plainvision.genotype import INPUTS, Cell, Genotype, load_genotype, reductions
from plainvision.models.study_network import StudyNetwork

STEM_WIDTH = 3
"""The stem has so many times the channels of a node of the first cell, as in the authors' code."""


def operation(name: str, channels: int, *, stride: int, affine: bool) -> nn.Module:
    """Return the layer of an operation: (B, C, H, W) -> (B, C, H / stride, W / stride), rounded up.

    Without ``affine``, as in a search, batch norms have no weights, which would undo the architecture's.
    """
    if name == "skip":
        return nn.Identity() if stride == 1 else HalvingSkip(channels, channels, affine=affine)
    if "pool" in name:
        average = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        layer = nn.MaxPool2d(3, stride, padding=1) if name == "max_pool_3x3" else average
        return nn.Sequential(layer, nn.BatchNorm2d(channels, affine=False))  # nothing to learn, whatever `affine`
    kind, size = name[:3], int(name[-1])
    if kind == "dil":
        return _depthwise(size, 2, channels, stride, affine)
    return nn.Sequential(_depthwise(size, 1, channels, stride, affine), _depthwise(size, 1, channels, 1, affine))


def _depthwise(size: int, dilation: int, channels: int, stride: int, affine: bool) -> nn.Sequential:
    """Return ReLU, depthwise and 1x1 convolution, batch norm."""
    padding = dilation * (size // 2)
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, size, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


class ReluConvNorm(nn.Sequential):
    """ReLU, 1x1 convolution, batch norm: (B, in_channels, H, W) -> (B, out_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool) -> None:
        conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        super().__init__(nn.ReLU(), conv, nn.BatchNorm2d(out_channels, affine=affine))


class HalvingSkip(nn.Module):
    """A skip to half the size: (B, in_channels, H, W) -> (B, out_channels, H / 2, W / 2), rounded up.

    Half of the channels come from the pixels at even rows and columns, half from those at odd ones. At odd sizes the
    last row and column have zeros beside them.
    """

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool) -> None:
        super().__init__()
        self.even = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        shifted = F.pad(x, (-1, 1, -1, 1))  # up and left by one
        return self.norm(torch.cat((self.even(x), self.odd(shifted)), dim=1))


@dataclass(frozen=True)
class CellPlace:
    """The place of a cell in its network."""

    reduction: bool
    """Whether the cell halves height and width."""
    channels: int
    """Of each node."""
    inputs: tuple[int, int]
    """Channels of the cell before the last one and of the last one."""
    behind_reduction: bool
    """Whether the last one is a reduction cell, so that the one before has twice its height and width."""

    def stride(self, source: int) -> int:
        """Return the stride of an operation on ``source``."""
        return 2 if self.reduction and source < INPUTS else 1


def cell_places(depth: int, nodes: int, channels: int) -> list[CellPlace]:
    """Return the places of a network of ``depth`` cells whose first nodes have ``channels``, at least 1."""
    if channels < 1:
        raise ValueError(f"channels={channels}: give the channels of a node in the first cell, 1 or more.")
    found: list[CellPlace] = []
    older = newer = STEM_WIDTH * channels
    for index in range(depth):
        reduction = index in reductions(depth)
        channels *= 2 if reduction else 1
        found.append(CellPlace(reduction, channels, (older, newer), bool(found) and found[-1].reduction))
        older, newer = newer, nodes * channels
    return found


def stem(in_chans: int, channels: int, stride: int) -> nn.Sequential:
    """Return the first convolutions, of stride 1, 2, 4 or 8: (B, in_chans, H, W) -> (B, 3 * channels, H / s, W / s)."""
    if stride not in (1, 2, 4, 8):
        raise ValueError(f"stem_stride={stride} must be 1, 2, 4 or 8: each convolution of the stem halves the size.")
    width = STEM_WIDTH * channels
    layers: list[nn.Module] = []
    for step in range(max(1, stride.bit_length() - 1)):
        conv = nn.Conv2d(width if step else in_chans, width, 3, min(stride, 2), 1, bias=False)
        layers += [nn.ReLU(), conv, nn.BatchNorm2d(width)]
    return nn.Sequential(*layers[1:])


class CellInputs(nn.Module):
    """Brings a cell's two inputs to its width and to one size: two of (B, C', H', W') -> two of (B, C, H, W)."""

    def __init__(self, place: CellPlace, *, affine: bool) -> None:
        super().__init__()
        older, newer = place.inputs
        kind = HalvingSkip if place.behind_reduction else ReluConvNorm
        self.older = kind(older, place.channels, affine=affine)
        self.newer = ReluConvNorm(newer, place.channels, affine=affine)

    def forward(self, older: Tensor, newer: Tensor) -> list[Tensor]:
        return [self.older(older), self.newer(newer)]


class DiscreteCell(nn.Module):
    """A cell whose edges are decided: two inputs (B, C', H', W') -> (B, nodes * C, H, W)."""

    def __init__(self, cell: Cell, place: CellPlace) -> None:
        super().__init__()
        edges = [edge for node in cell for edge in node]
        self.sources = [edge.source for edge in edges]
        self.inputs = CellInputs(place, affine=True)
        self.operations = nn.ModuleList(
            operation(edge.operation, place.channels, stride=place.stride(edge.source), affine=True) for edge in edges
        )

    def forward(self, older: Tensor, newer: Tensor) -> Tensor:
        sources = self.inputs(older, newer)
        layers = iter(zip(self.operations, self.sources, strict=True))
        for (one, first), (other, second) in zip(layers, layers, strict=True):  # two by two
            sources.append(one(sources[first]) + other(sources[second]))
        return torch.cat(sources[INPUTS:], dim=1)


class CellNetwork(StudyNetwork):
    """A network of cells for images of any size: (B, in_chans, H, W) -> (B, K).

    Args:
        genotype: the cells, the path of their file, or the text of one.
        channels: of a node in the first cell; reduction cells double them.
        depth: number of cells; None takes as many as were searched.
        num_classes: K; 0 leaves the classifier out.
        in_chans: channels of the images.
        stem_stride: stride of the stem, 1, 2, 4 or 8.
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
        cells, nodes = self.genotype.cells(depth), self.genotype.space.nodes
        places = cell_places(len(cells), nodes, channels)
        self.stem = stem(in_chans, channels, stem_stride)
        self.cells = nn.ModuleList(map(DiscreteCell, cells, places))
        self.num_features = self.head_hidden_size = nodes * places[-1].channels
        self.drop_rate = drop_rate
        self.reset_classifier(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last cell's output: (B, in_chans, H, W) -> (B, num_features, H', W')."""
        older = newer = self.stem(x)
        for cell in self.cells:
            older, newer = newer, cell(older, newer)
        return newer


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
