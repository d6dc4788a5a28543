"""Doubts about a finished run that its numbers raise."""

from collections.abc import Sequence
from typing import Any

from plainvision.training.evaluation import Evaluation
from plainvision.training.label_evaluation import LabelEvaluation


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
    found += _of_losses(metrics)
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


def doubts_of_labels(
    evaluation: LabelEvaluation, raw: LabelEvaluation | None, metrics: Sequence[dict[str, Any]]
) -> list[str]:
    """Return the same of a run whose images have sets of labels."""
    found = []
    own = evaluation.detailed.map
    chance = 100 * float(evaluation.predictions.truth.mean())
    if not own.low > chance:
        found.append(
            f"The network has learned nothing that shows: mAP is {own} of {evaluation.images} images, and labels at "
            f"random score {chance:.2f} %, the share of images that have a label in the mean. Give more epochs, or "
            "another lr."
        )
    found += _of_losses(metrics)
    if raw is not None:
        other = raw.detailed.map
        if other.low > own.high:
            found.append(
                f"The average of the weights, which is what is kept, has a mAP of {own.value:.2f} % and the weights "
                f"themselves {other.value:.2f} %. The average is behind: give more epochs, a lower decay, or its "
                "warm-up."
            )
    return found


def _of_losses(metrics: Sequence[dict[str, Any]]) -> list[str]:
    losses = [line["loss"] for line in metrics if "loss" in line]
    if losses and losses[-1] > losses[0]:
        return [
            f"The training loss ends at {losses[-1]:.4g}, above the {losses[0]:.4g} of its first steps. Give a lower "
            "lr, a longer warm-up or clip_grad."
        ]
    return []
