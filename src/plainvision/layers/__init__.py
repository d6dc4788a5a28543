"""Blocks that a family and a surgery, or two families, share."""

from plainvision.layers.dynamic_conv import DynamicConv2d, DynamicLayer, DynamicPool2d, Option
from plainvision.layers.fusable import Fusable
from plainvision.layers.linear_pair import LinearPair, set_slope
from plainvision.layers.series_activation import SeriesActivation

__all__ = [
    "DynamicConv2d",
    "DynamicLayer",
    "DynamicPool2d",
    "Fusable",
    "LinearPair",
    "Option",
    "SeriesActivation",
    "set_slope",
]
