"""One network in, another out; the original stays as it is."""

from plainvision.surgery.attention_pooling import attention_pooling
from plainvision.surgery.fuse import FusionReport, fuse, merge_pairs
from plainvision.surgery.linear_pairs import linear_pairs
from plainvision.surgery.series_activation import series_activation

__all__ = ["FusionReport", "attention_pooling", "fuse", "linear_pairs", "merge_pairs", "series_activation"]
