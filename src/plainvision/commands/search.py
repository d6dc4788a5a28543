"""Search cells, draw them, and train networks of them beside random ones under the same budget.

Example: plainvision search --data.root clothing.zip --epochs 50 --cells individual --out runs/search
"""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from plainvision.commands import Table, parsed, resumable, show
from plainvision.commands.options.output import KeptFigureOptions
from plainvision.search.settings import Budget, CellSearch

if TYPE_CHECKING:
    from plainvision.search.comparison import Trained


@dataclass(frozen=True)
class Arguments:
    """What `plainvision search` takes."""

    out: Path
    """The search's folder: cells, figure, counts, and below it the networks' runs."""
    search: Annotated[CellSearch, tyro.conf.arg(name="")] = field(default_factory=CellSearch)
    """The search, field by field."""
    training: Budget = field(default_factory=Budget)
    """What each network is trained with after the search."""
    skip_training: bool = False
    """Only search and draw."""
    output: Annotated[KeptFigureOptions, tyro.conf.arg(name="")] = field(default_factory=KeptFigureOptions)
    """What is drawn: the cells."""
    resume: bool = False
    """Continue what is in that folder, search and training alike, as if it had never stopped."""


def main(words: list[str]) -> None:
    """Search, draw, train, and print what came out."""
    arguments = parsed(Arguments, words, "search", __doc__)

    from rich.console import Console

    from plainvision.bench import write_record
    from plainvision.figures.cells import draw_cells
    from plainvision.figures.style import save
    from plainvision.files import write_json
    from plainvision.search.cell_search import search_cells
    from plainvision.search.choices import operation_counts
    from plainvision.search.comparison import check_images, compare_with_random, means

    arguments.output.check()
    out, search = arguments.out, arguments.search
    if not arguments.skip_training:
        check_images(search, arguments.training)
    with resumable("search", words):
        console = Console()
        found = search_cells(search, out, resume=arguments.resume, console=console)
        figure = arguments.output.figure or out / "cells.png"
        save(draw_cells(found), figure)
        counts = operation_counts([found])
        write_json(out / "choices.json", counts)
        show(_choices(counts))
        print(f"cells in {out / 'genotype.json'}, drawn in {figure}, counts in {out / 'choices.json'}")
        if arguments.skip_training:
            return
        rows = compare_with_random(found, search, arguments.training, out, resume=arguments.resume, console=console)
    averages = means(rows)
    show(_networks(rows, averages))
    claim = f"cells found by a search of {search.cells} cells, beside random ones trained alike"
    figures = {"mean": averages, "networks": [asdict(row) for row in rows], "choices": counts}
    write_record(out / "record.json", claim, figures, f"plainvision search {shlex.join(words)}")
    print(f"networks in {out}, scores in {out / 'comparison.json'}, record in {out / 'record.json'}")


def _choices(rows: list[dict[str, Any]]) -> Table:
    heads = ("\n".join(operation.replace("_", " ").rsplit(" ", 1)) for operation in rows[0]["counts"])
    table = Table(("cell", "places", *heads, "without\nparameters"), words=2)
    for row in rows:
        places = ", ".join(map(str, row["places"]))
        table.add_row(row["cell"], places, *map(str, row["counts"].values()), f"{100 * row['parameter_free']:.0f} %")
    return table


def _networks(rows: "Sequence[Trained]", means: list[dict[str, Any]]) -> Table:
    table = Table(("cells", "seed", "top-1\n%", "params\nM", "MACs\nM", "without\nparameters"), words=2)
    for row in rows:
        costs = _costs(row.parameters, row.macs, row.parameter_free)
        table.add_row(row.cells, str(row.seed), f"{row.top1:.2f}", *costs)
    table.add_section()
    for mean in means:
        spread = "" if mean["top1_std"] is None else f" ± {mean['top1_std']:.2f}"
        costs = _costs(mean["parameters_mean"], mean["macs_mean"], mean["parameter_free_mean"])
        table.add_row(mean["cells"], "mean", f"{mean['top1_mean']:.2f}{spread}", *costs)
    return table


def _costs(parameters: float, macs: float, share: float) -> tuple[str, str, str]:
    return f"{parameters / 1e6:.3f}", f"{macs / 1e6:.1f}", f"{100 * share:.0f} %"
