"""Techniques: what a run does beside plain training, one file each."""

from plainvision.training.techniques.attention_pooling import AttentionPooling
from plainvision.training.techniques.deep_training import DeepTraining
from plainvision.training.techniques.ema import EMA
from plainvision.training.techniques.fuse_after_anneal import FuseAfterAnneal
from plainvision.training.techniques.linear_pairs import LinearPairs
from plainvision.training.techniques.random_options import RandomOptions
from plainvision.training.techniques.series_activations import SeriesActivations
from plainvision.training.techniques.spatial_ops import SpatialOps
from plainvision.training.techniques.technique import NoEffectWarning, Technique

TECHNIQUES: dict[str, type[Technique]] = {
    technique.__name__: technique
    for technique in (
        AttentionPooling,
        DeepTraining,
        EMA,
        FuseAfterAnneal,
        LinearPairs,
        RandomOptions,
        SeriesActivations,
        SpatialOps,
    )
}

__all__ = [
    "EMA",
    "TECHNIQUES",
    "AttentionPooling",
    "DeepTraining",
    "FuseAfterAnneal",
    "LinearPairs",
    "NoEffectWarning",
    "RandomOptions",
    "SeriesActivations",
    "SpatialOps",
    "Technique",
]
