"""Inference-time-dynamic networks: what it would buy to configure a network for each image (arXiv:2103.09891)."""

from plainvision.dynamic.outcomes import Outcomes
from plainvision.dynamic.space import Space

__all__ = ["Outcomes", "Space"]
