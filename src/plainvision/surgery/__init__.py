"""One network in, another out; the original stays as it is."""

from plainvision.surgery.activations import series_activation
from plainvision.surgery.fusing import fuse, merge_pairs
from plainvision.surgery.pairs import linear_pairs
from plainvision.surgery.plain import PlainReport, plain
from plainvision.surgery.pooling import attention_pooling
from plainvision.surgery.same_answers import FusionReport
from plainvision.surgery.spatial_ops import SpatialOpReport, spatial_op

__all__ = [
    "FusionReport",
    "PlainReport",
    "SpatialOpReport",
    "attention_pooling",
    "fuse",
    "linear_pairs",
    "merge_pairs",
    "plain",
    "series_activation",
    "spatial_op",
]
