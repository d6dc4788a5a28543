"""Doubts about a finished run that its numbers raise."""

from collections.abc import Sequence
from typing import Any

from plainvision.training.evaluation import Evaluation


def doubts(evaluation: Evaluation, raw: Evaluation | None, metrics: Sequence[dict[str, Any]]) -> list[str]:
    """Return a sentence for each reason to doubt that a run learned what it could, by its scores and its metrics.

    ``raw`` are the scores of the weights themselves, where their average is kept.
    """
    found = []
    low, high = evaluation.top1_interval
    if low <= evaluation.largest_class:
        found.append(
            f"The network has learned nothing that shows: top-1 is {evaluation.top1:.2f} % of {evaluation.images} "
            f"images (95 % interval {low:.1f} to {high:.1f} %), and naming the most frequent class each time scores "
            f"{evaluation.largest_class:.2f} %. Give more epochs, or another lr."
        )
    losses = [line["loss"] for line in metrics if "loss" in line]
    if losses and losses[-1] > losses[0]:
        found.append(
            f"The training loss ends at {losses[-1]:.4g}, above the {losses[0]:.4g} of its first steps. Give a lower "
            "lr, a longer warm-up or clip_grad."
        )
    if raw is not None:
        raw_low, raw_high = raw.top1_interval
        if raw_low > high or raw_high < low:
            remedy = " The average is behind: give more epochs, a lower decay, or its warm-up."
            behind = remedy if raw_low > high else ""
            found.append(
                f"The average of the weights, which is what is kept, scores {evaluation.top1:.2f} % and the weights "
                f"themselves {raw.top1:.2f} %.{behind}"
            )
    return found
