"""Techniques: what a run does beside plain training, one file each."""

from plainvision.training.techniques.attention_pooling import AttentionPooling as AttentionPooling
from plainvision.training.techniques.deep_training import DeepTraining as DeepTraining
from plainvision.training.techniques.distillation import Distillation as Distillation
from plainvision.training.techniques.ema import EMA as EMA
from plainvision.training.techniques.frozen_backbone import FrozenBackbone as FrozenBackbone
from plainvision.training.techniques.frozen_statistics import FrozenStatistics as FrozenStatistics
from plainvision.training.techniques.fuse_after_anneal import FuseAfterAnneal as FuseAfterAnneal
from plainvision.training.techniques.linear_pairs import LinearPairs as LinearPairs
from plainvision.training.techniques.plain import Plain as Plain
from plainvision.training.techniques.random_options import RandomOptions as RandomOptions
from plainvision.training.techniques.series_activations import SeriesActivations as SeriesActivations
from plainvision.training.techniques.spatial_ops import SpatialOps as SpatialOps
from plainvision.training.techniques.technique import NoEffectWarning as NoEffectWarning
from plainvision.training.techniques.technique import Technique as Technique

# In the order in which they act where several are added: what changes the network first, what averages it last.
TECHNIQUES: dict[str, type[Technique]] = {
    technique.__name__: technique
    for technique in (
        Plain,
        SpatialOps,
        AttentionPooling,
        SeriesActivations,
        LinearPairs,
        FrozenBackbone,
        FrozenStatistics,
        DeepTraining,
        FuseAfterAnneal,
        RandomOptions,
        Distillation,
        EMA,
    )
}
