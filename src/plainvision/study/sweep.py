"""A sweep runs: each point of a grid is trained once for each seed, and the scores of its seeds are summed up."""

import contextlib
import json
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from plainvision.models.registry import create_model
from plainvision.study.grid import Point
from plainvision.training.several_runs import Ended, train_each


def run_sweep(
    points: Sequence[Point],
    out: str | Path,
    *,
    seeds: int = 1,
    resume: bool = False,
    retry_diverged: bool = False,
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Train each point with ``seeds`` seeds, from its recipe's own on, in folders below ``out``, and return the rows.

    A row has the point's values; ``top1``, the best validation top-1 of each run that did not diverge, with its mean,
    its standard deviation (of a sample; None for one run) and their number; and in which epochs the others diverged.

    Args:
        points: what to train.
        out: where the folders of the runs go, named after the values.
        seeds: how many runs each point gets.
        resume: go on with what is there: finished runs are read, a run that was stopped is continued.
        retry_diverged: also continue runs that diverged, from their last checkpoint.
        console: where to show progress; None is nowhere.

    Raises:
        ValueError: nothing to train, two points of the same values, data and settings that do not fit together, or a
            folder that holds another run.
        OSError: a folder cannot be written.
        TrainingInterrupted: Ctrl-C or SIGTERM came; the state is saved.
    """
    if seeds < 1 or not points:
        raise ValueError(f"seeds={seeds} and {len(points)} points leave nothing to train. Give one or more of each.")
    runs = {}
    for number in range(seeds):  # seed by seed, so that what is there after a break can be compared
        for point in points:
            seed = point.recipe.seed + number
            name = point.named(seed)
            if name in runs:
                raise ValueError(
                    f"two points are called {name}: the same is trained twice. Leave one out, or give more epochs, "
                    "where too few make two of them alike."
                )
            runs[name] = replace(point.recipe, seed=seed)
    _check_networks(points)
    with contextlib.closing(
        train_each(runs, Path(out), resume=resume, retry_diverged=retry_diverged, console=console)
    ) as found:
        ended = dict(found)
    return [_row(point, {seed: ended[point.named(seed)] for seed in _seeds(point, seeds)}) for point in points]


def _seeds(point: Point, seeds: int) -> range:
    return range(point.recipe.seed, point.recipe.seed + seeds)


def _row(point: Point, ended: dict[int, Ended]) -> dict[str, Any]:
    scores = {seed: one.best_top1 for seed, one in ended.items() if one.best_top1 is not None}
    top1 = list(scores.values())
    return {
        **point.values,
        "top1_mean": statistics.fmean(top1) if top1 else None,
        "top1_std": statistics.stdev(top1) if len(top1) > 1 else None,
        "n": len(top1),
        "top1": top1,
        "seeds": list(scores),
        "diverged_seeds": [seed for seed, one in ended.items() if one.diverged_epoch is not None],
        "diverged_epochs": [one.diverged_epoch for one in ended.values() if one.diverged_epoch is not None],
        "epochs": point.recipe.epochs,
        "published": point.published,
    }


def _check_networks(points: Sequence[Point]) -> None:
    """Build each network without memory: an option that the last does not know should not be said after hours."""
    built = set()
    for point in points:
        model, options = point.recipe.model, point.recipe.model_options
        words = json.dumps([model, options])
        if words in built:
            continue
        built.add(words)
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of initialising what has no memory
            try:
                create_model(model, **options)
            except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
                told = ", ".join(f"{name}={value}" for name, value in point.values.items())
                raise ValueError(f"{told}: {model} cannot be built with {options}. {error}") from error
