"""The scores of a detector or a segmenter, of each class and of all, for one or both of its forms."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plainvision.commands import Table, check_writable, show
from plainvision.files import write_csv

if TYPE_CHECKING:
    from torch import nn

Scores = Mapping[str, tuple[float, Mapping[str, float]]]
"""By what is measured: of all classes, and of each that is there; per cent."""


@dataclass(frozen=True)
class TaskScoreOptions:
    """Which forms are scored, and where the figures go."""

    fuse: bool = False
    """Fuse the network, and compare both forms."""
    csv: Path | None = None
    """Where to write the figures of each class."""

    def check(self) -> None:
        """Check that what is given can be written, before the work; else it is an `OSError`."""
        if self.csv is not None:
            check_writable(self.csv, "--csv")

    def forms(self, network: "nn.Module") -> "dict[str, nn.Module]":
        """Return the forms to score by what to call them; what cannot be fused is a `ValueError`."""
        from plainvision.surgery.fusing import fuse

        return {"as it is": network} | ({"deployed": fuse(network)} if self.fuse else {})

    def tell(self, results: Mapping[str, Scores], whole: str) -> None:
        """Print the scores of each form side by side, those of all classes as ``whole``, and write them if asked to."""
        columns = {(form, name): values for form, scores in results.items() for name, values in scores.items()}
        classes = dict.fromkeys(name for _, each in columns.values() for name in each)
        rows: list[tuple[str, list[float | None]]] = [(whole, [of_all for of_all, _ in columns.values()])]
        rows += [(name, [each.get(name) for _, each in columns.values()]) for name in classes]
        table = Table(("class", *(f"{form}\n{name} %" if self.fuse else f"{name}\n%" for form, name in columns)))
        for place, (name, figures) in enumerate(rows):
            table.add_row(name, *("" if one is None else f"{one:.2f}" for one in figures), end_section=place == 0)
        show(table)
        if self.csv is not None:
            names = [f"{name}_{form}" if form == "deployed" else name for form, name in columns]
            write_csv(
                self.csv, ("class", *(name.lower().replace(" ", "_") for name in names)), [(n, *f) for n, f in rows]
            )
