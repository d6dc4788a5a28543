"""Several runs one after the other, in folders below one: those that are finished are read, and not trained again.

A run that diverged would diverge again, at the same step: its folder gets a diverged.json, and it counts as finished.
"""

import os
import statistics
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from plainvision import files
from plainvision.data.locations import absolute
from plainvision.processes import TrainingInterrupted, stop_requested
from plainvision.training import loop
from plainvision.training.classification import Classification
from plainvision.training.losses import Diverged
from plainvision.training.progress import say
from plainvision.training.recipe import Recipe
from plainvision.training.resumable import read_metrics
from plainvision.training.run_folder import RunFolder

_DIVERGED = "diverged.json"


@dataclass(frozen=True)
class Ended:
    """What a run left behind."""

    top1: float | None = None
    """Validation top-1 after the last epoch, per cent; None where it diverged."""
    best_top1: float | None = None
    """The highest of an epoch in which the network had its final form, per cent; None where it diverged."""
    diverged_epoch: int | None = None
    """In which epoch, from 1, it diverged; None where it did not."""
    why: str = ""
    """How it diverged, in words."""


def train_each(
    recipes: Mapping[str, Recipe],
    out: Path,
    *,
    resume: bool = False,
    retry_diverged: bool = False,
    console: Console | None = None,
) -> Generator[tuple[str, Ended]]:
    """Train the runs of ``recipes``, by the names of their folders below ``out``, and yield how each ended.

    Args:
        recipes: what to train, by folder.
        out: where the folders go; it is locked meanwhile.
        resume: go on with what is there: finished runs are read, a run that was stopped is continued.
        retry_diverged: go on from the last checkpoint of those that diverged, for instance with another precision.
        console: where to show progress; None is nowhere.

    Raises:
        ValueError: data and settings do not fit together, or a folder holds another run.
        OSError: a folder cannot be written.
        TrainingInterrupted: Ctrl-C or SIGTERM came; the state is saved.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("several runs go in one process, one after the other. Start them without a launcher.")
    for name, recipe in recipes.items():
        if not isinstance(recipe.task, Classification):
            raise ValueError(
                f"{name}: several runs are compared by top-1, and {type(recipe.task).__name__} is scored by "
                f"{recipe.task.score_name}. Train each by itself, and compare their metrics.jsonl."
            )
    # All folders are looked at first: what is wrong with the last should not be said after hours.
    known = {name: _looked_at(out / name, recipe, resume, retry_diverged) for name, recipe in recipes.items()}
    done = sum(ended is not None for ended in known.values())
    epochs = sorted({recipe.epochs for recipe in recipes.values()})
    say(console, f"{len(known)} runs, epochs each: {', '.join(map(str, epochs))}; finished already: {done}")
    spent: list[float] = []
    first = next(iter(recipes.values()))
    first.task.splits(first, 0, 1)  # what the images lack is told before the folder is made
    out.mkdir(parents=True, exist_ok=True)
    with files.locked(out), stop_requested() as stop:
        for number, (name, recipe) in enumerate(recipes.items(), start=1):
            folder, ended = out / name, known[name]
            if ended is None:
                ahead = len(known) - done - len(spent)
                remaining = f"; about {duration(statistics.fmean(spent) * ahead)} left" if spent else ""
                say(console, f"run {number} of {len(known)}: {name}{remaining}")
                start = time.perf_counter()
                ended = _trained(recipe, folder, console)
                spent.append(time.perf_counter() - start)
                if stop.is_set():
                    raise TrainingInterrupted(between_runs(out))
            else:
                files.remove_unfinished(folder)
            yield name, ended


def between_runs(out: Path) -> str:
    """Return what to say where work stopped between two runs."""
    return (
        f"stopped with no run going; those that are finished are saved in {out}. Run the same command with --resume "
        "to continue."
    )


def finished(folder: RunFolder) -> Ended | None:
    """Return how the run in ``folder`` ended, None where it has not."""
    file = folder.path / _DIVERGED
    if file.exists():
        found = files.read_object(file)
        epoch, why = found.get("epoch"), found.get("why")
        if type(epoch) is not int or not isinstance(why, str):
            raise ValueError(f"{file} is damaged: it names no epoch. Remove it: then the run is continued.")
        return Ended(diverged_epoch=epoch, why=why)
    epochs = [line for line in read_metrics(folder.path) if "top1" in line]
    recipe = folder.recipe
    if not epochs or (epochs[-1]["epoch"] < recipe.epochs - 1 and recipe.patience is None):
        return None
    # The weights are written between the line and the state.
    state = folder.load_state()
    if state is None or state["step"] != epochs[-1]["step"]:
        return None
    if epochs[-1]["epoch"] < recipe.epochs - 1 and state.get("stale_epochs", 0) < (recipe.patience or 0):
        return None
    return Ended(top1=epochs[-1]["top1"], best_top1=state["best_top1"])


def duration(seconds: float) -> str:
    """Return a time in words, as exact as an estimate is."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _looked_at(folder: Path, recipe: Recipe, resume: bool, retry_diverged: bool) -> Ended | None:
    begun = resume and (folder / RunFolder.file).exists()
    run = RunFolder(folder, replace(recipe, data=absolute(recipe.data)), resume=begun)  # as the loop records it
    ended = finished(run) if begun else None
    if ended is not None and ended.diverged_epoch is not None and retry_diverged:
        (folder / _DIVERGED).unlink()
        return finished(run)
    return ended


def _trained(recipe: Recipe, folder: Path, console: Console | None) -> Ended:
    try:
        result = loop.train(recipe, folder, resume=(folder / RunFolder.file).exists(), console=console)
    except Diverged as error:
        epoch = 1 + sum("top1" in line for line in read_metrics(folder))
        ended = Ended(diverged_epoch=epoch, why=str(error))
        files.write_json(folder / _DIVERGED, {"epoch": epoch, "why": ended.why})
        say(console, f"diverged in epoch {epoch}: {ended.why}")
        return ended
    return Ended(top1=result.last.top1, best_top1=result.best_top1)
