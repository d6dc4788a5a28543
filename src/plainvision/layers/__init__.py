"""Blocks that a family and a surgery, or two families, share."""

from plainvision.layers.fusable import Fusable
from plainvision.layers.linear_pair import LinearPair, set_slope
from plainvision.layers.series_activation import SeriesActivation

__all__ = ["Fusable", "LinearPair", "SeriesActivation", "set_slope"]
