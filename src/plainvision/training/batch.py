"""Moved to `plainvision.data.rows`; older scripts find its names here."""

from plainvision.data.rows import Batch, evaluation_transform, training_transform

__all__ = ["Batch", "evaluation_transform", "training_transform"]
