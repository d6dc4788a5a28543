"""Found cells beside random ones: networks of both, trained by one recipe under one budget.

A search that does not beat random cells has found nothing (Li and Talwalkar 2019, https://arxiv.org/abs/1902.07638).
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from plainvision.files import locked, write_json
from plainvision.genotype import Genotype, random_genotype
from plainvision.inspection.counting import count_macs, count_parameters
from plainvision.processes import TrainingInterrupted, stop_requested
from plainvision.search.choices import parameter_free_share
from plainvision.search.settings import Budget, CellSearch
from plainvision.study.settings import momentum_recipe
from plainvision.training.loop import train
from plainvision.training.recipe import Recipe

Kind = Literal["found", "random"]


@dataclass(frozen=True)
class Trained:
    """One network of the comparison, trained."""

    cells: Kind
    """Whether its cells were found or drawn at random."""
    seed: int
    """Of its weights and its order of images, and of the drawing."""
    top1: float
    """Validation top-1 after the last epoch, per cent."""
    parameters: int
    """Learned values."""
    macs: int
    """Multiply-adds of one image."""
    parameter_free: float
    """The share of operations without parameters in its normal cells."""


def compare_with_random(
    found: Genotype,
    search: CellSearch,
    budget: Budget,
    out: str | Path,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> list[Trained]:
    """Train the found cells and as many random ones in folders below ``out``, write comparison.json, return the rows.

    Seed by seed a found and a random network take turns, so that what is there after a break can be compared. Each
    seed draws other random cells of the same space.

    Args:
        found: the cells that the search found.
        search: the search's settings, for its data.
        budget: what each network is trained with.
        out: where the folders of the runs go: found_0, random_0, found_1, ...
        resume: continue runs that are there; those that are finished are only scored again.
        console: where to show progress; None is nowhere.

    Raises:
        ValueError: budget and data do not fit together, or a folder holds another run.
        OSError: a folder cannot be written.
        TrainingInterrupted: Ctrl-C or SIGTERM came; the state is saved.
    """
    out, rows = Path(out), []
    out.mkdir(parents=True, exist_ok=True)
    with locked(out), stop_requested() as stop:
        for seed in range(budget.seeds):
            cells: dict[Kind, Genotype] = {"found": found, "random": random_genotype(found.space, seed)}
            for kind, genotype in cells.items():
                recipe = cell_recipe(genotype, search, budget, name=f"{kind}_{seed}", seed=seed)
                folder = out / recipe.name
                if stop.is_set():
                    raise TrainingInterrupted(f"stopped between two networks; what is finished is saved in {out}.")
                result = train(recipe, folder, resume=resume and (folder / "recipe.json").exists(), console=console)
                macs = count_macs(result.network, search.data.image_size, search.data.channels)
                parameters, share = count_parameters(result.network), parameter_free_share(genotype)
                rows.append(Trained(kind, seed, result.last.top1, parameters, macs, share))
                write_json(out / "comparison.json", {"networks": [asdict(row) for row in rows], "mean": means(rows)})
    return rows


def check_images(search: CellSearch, budget: Budget) -> None:
    """Look at the images that the networks are trained with and scored on, before a search that takes hours.

    Raises:
        ValueError, FileNotFoundError: there is no validation split, or not one batch to train with.
    """
    recipe = cell_recipe(random_genotype(search.space, 0), search, budget, name="found_0", seed=0)
    recipe.task.splits(recipe, 0, 1)


def cell_recipe(genotype: Genotype, search: CellSearch, budget: Budget, *, name: str, seed: int) -> Recipe:
    """Return the recipe of one network; it holds the cells themselves, so that its weights need no other file."""
    return momentum_recipe(
        budget,
        name=name,
        model="cell_network",
        model_options={
            "genotype": genotype.text(),
            "channels": budget.channels,
            "depth": budget.depth,
            "in_chans": search.data.channels,
            "stem_stride": search.stem_stride,
        },
        data=search.data,
        clip_grad=budget.clip_grad,
        seed=seed,
    )


def means(rows: Sequence[Trained]) -> list[dict[str, Any]]:
    """Return a row for the found and one for the random networks; the spread is that between seeds, None for one."""
    found: list[dict[str, Any]] = []
    for kind in dict.fromkeys(one.cells for one in rows):
        own = [one for one in rows if one.cells == kind]
        top1 = [one.top1 for one in own]
        spread = statistics.stdev(top1) if len(top1) > 1 else None
        row = {"cells": kind, "networks": len(own), "top1_mean": statistics.fmean(top1), "top1_std": spread}
        others = ("parameters", "macs", "parameter_free")
        found.append(row | {f"{name}_mean": statistics.fmean(getattr(one, name) for one in own) for name in others})
    return found
