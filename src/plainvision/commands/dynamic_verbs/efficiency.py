"""Show how few multiply-adds would do for the answers of the trained network, and for those of the best case.

Choosing so takes an oracle: it has to know the answer, or the true class, before it chooses.

Example: plainvision dynamic efficiency runs/stride_and_size --figure efficiency.pdf
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from plainvision.commands import Table, parsed, show

if TYPE_CHECKING:
    from plainvision.dynamic.outcomes import Outcomes
    from plainvision.figures.outcomes import Kind


@dataclass(frozen=True)
class Arguments:
    """What `plainvision dynamic efficiency` takes."""

    outcomes: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that `plainvision dynamic evaluate` wrote into, or files; each permutation of the first is drawn too."""
    figure: Path | None = None
    """Figure 6: a .png, .pdf or .svg file; by default efficiency.png beside the first outcomes."""
    json: Path | None = None
    """The record; by default efficiency.json beside the first outcomes."""


def main(words: list[str]) -> None:
    """Print the table, and write the record and the figure."""
    arguments = parsed(Arguments, words, "dynamic efficiency", __doc__)

    from plainvision.commands.dynamic_verbs.outcomes import facts, place, read_outcomes, write
    from plainvision.commands.dynamic_verbs.tables import ORACLE, digits
    from plainvision.figures import outcomes as figures

    found = read_outcomes(arguments.outcomes, "efficiency")
    json = place(arguments.json, "--json", arguments.outcomes[0], "efficiency.json")
    figure = place(arguments.figure, "--figure", arguments.outcomes[0], "efficiency.png")
    rows = [{"outcomes": name, **row} for name, one in found.items() for row in _rows(one)]
    unit, letter = (1e9, "G") if max(row["macs"] for row in rows) >= 1e9 else (1e6, "M")
    several = len(found) > 1
    heads = (*(["outcomes"] if several else []), "what", "top-1\n%", f"MACs\n{letter}", "fewer")
    shown = Table(heads, words=1 + several)
    for row in rows:
        shown.add_row(
            *([row["outcomes"]] if several else []),
            row["what"],
            f"{row['top1']:.2f}",
            digits(row["macs"] / unit),
            "" if row["factor"] is None else f"{row['factor']:.2f} x",
            end_section=row["what"] == "best case, cheapest",
        )
    show(shown)
    print(
        "MACs are multiply-adds, the mean over the images. Cheapest is each image's cheapest permutation of the same "
        f"answer.\nOnly an oracle can choose that, or the best case. {ORACLE}"
    )
    first = next(iter(found.values()))
    points: list[tuple[str, float, float, Kind]] = [
        (row["outcomes"] if several else "", row["macs"], row["top1"], row["what"]) for row in rows
    ]
    drawn = figures.efficiency(first.macs, first.each(), points)
    record = {"outcomes": {name: facts(one) for name, one in found.items()}, "rows": rows}
    claim = "multiply-adds that an oracle needs to answer as the trained network or as the best case does"
    write(claim, record, f"plainvision dynamic efficiency {shlex.join(words)}", json, drawn, figure)


def _rows(outcomes: "Outcomes") -> list[dict[str, Any]]:
    """Return accuracy and multiply-adds of the trained network and the best case, and of the cheapest like them."""
    rows: list[dict[str, Any]] = []
    for like, what in (("static", "static"), ("best", "best case")):
        found = outcomes.cheapest(like)  # type: ignore[arg-type]
        rows.append({"what": what, "top1": found.accuracy, "macs": found.reference_macs, "factor": None})
        rows.append(
            {"what": f"{what}, cheapest", "top1": found.accuracy, "macs": found.mean_macs, "factor": found.factor}
        )
    return rows
