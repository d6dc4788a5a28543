"""Cross-validation: one run for each fold, and how their scores spread."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from plainvision.files import write_json
from plainvision.processes import process_group
from plainvision.training.loop import train
from plainvision.training.recipe import Recipe
from plainvision.training.trackers import Tracker


@dataclass(frozen=True)
class FoldScore:
    """What came out of the run that a fold validated."""

    fold: int
    """Its number, from 1."""
    images: int
    """How many images validated."""
    score: float
    """Top-1, or what the task's score is, of the last network, which no choice by these images led to, per cent."""
    best_score: float
    """Of the epoch that scored best on these images, which is too good by that choice, per cent."""


@dataclass(frozen=True)
class CrossValidation:
    """The scores of all folds."""

    scores: tuple[FoldScore, ...]

    @property
    def mean(self) -> float:
        """Mean of the folds' scores, per cent."""
        return statistics.mean(one.score for one in self.scores)

    @property
    def std(self) -> float:
        """Their standard deviation (of a sample), in points."""
        return statistics.stdev(one.score for one in self.scores)

    @property
    def images(self) -> int:
        """How many images validated, each once."""
        return sum(one.images for one in self.scores)


def folder_of(out: str | Path, fold: int) -> Path:
    """Return the folder of a fold's run below ``out``."""
    return Path(out) / f"fold_{fold}"


def cross_validate(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    console: Console | None = None,
    trackers: Sequence[Tracker] = (),
) -> CrossValidation:
    """Train one run for each of ``recipe.data.folds``, in ``out``/fold_1 and so on, and write their scores there.

    Args:
        recipe: what decides the result; its `data.fold` is ignored.
        out: the folder of the runs and of cross_validation.json.
        resume: go on where the work stopped; a fold whose run has ended is scored again, and not trained.
        console: where to show progress.
        trackers: what else gets each run's metrics, see `train`.

    Raises:
        ValueError, OSError, TrainingInterrupted: those of `train`.
    """
    folds = recipe.data.folds
    if folds is None:
        raise ValueError("cross-validation needs data.folds, the number of its parts. Give 5, for instance.")
    scores = []
    for fold in range(1, folds + 1):
        own = replace(recipe, data=replace(recipe.data, fold=fold))
        folder = folder_of(out, fold)
        if console is not None and process_group().is_main_process:
            console.print(f"fold {fold} of {folds}", highlight=False)
        begun = resume and (folder / "recipe.json").is_file()
        result = train(own, folder, resume=begun, console=console, trackers=trackers)
        scores.append(FoldScore(fold, result.last.images, result.last.score, result.best_score))
    found = CrossValidation(tuple(scores))
    if process_group().is_main_process:
        key = next(iter(result.last.figures))  # top1 of a classifier
        record = {
            "recipe": recipe.name,
            "split_seed": recipe.data.split_seed,
            f"{key}_mean": found.mean,
            f"{key}_std": found.std,
            "n": len(scores),
            "images": found.images,
            "folds": [
                {"fold": one.fold, "images": one.images, key: one.score, f"best_{key}": one.best_score}
                for one in scores
            ],
        }
        write_json(Path(out) / "cross_validation.json", record)
    return found
