"""Inference-time-dynamic networks: what it would buy to configure a network for each image (arXiv:2103.09891)."""

from plainvision.dynamic.evaluation import evaluate
from plainvision.dynamic.network import DynamicNetwork
from plainvision.dynamic.outcomes import Outcomes
from plainvision.dynamic.sites import Site
from plainvision.dynamic.space import Space

__all__ = ["DynamicNetwork", "Outcomes", "Site", "Space", "evaluate"]
