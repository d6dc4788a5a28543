"""Moved to `plainvision.data.batches`; older scripts find its names here."""

from plainvision.data.batches import Batch, EvaluationBatches, TrainingBatches

__all__ = ["Batch", "EvaluationBatches", "TrainingBatches"]
