"""Where to compute, and where results go: options of every verb that computes, draws or keeps a record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from plainvision.commands import check_writable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Device = Annotated[
    str | None, tyro.conf.arg(help="Where to compute: cpu, cuda, mps, ...; by default a GPU where there is one.")
]


@dataclass(frozen=True)
class FigureOptions:
    """Where the figure goes."""

    figure: Path | None = None
    """Draw it into this file, a .png, .pdf or .svg; by default nowhere."""

    def check(self) -> None:
        """Check that what is given can be written, before the work, whose result would otherwise be lost.

        Raises:
            ValueError, OSError: a figure's file has a suffix of another kind, or a file cannot be written.
        """
        if self.figure is not None:
            from plainvision.figures.style import check_format

            check_format(self.figure)
            check_writable(self.figure, "--figure")


@dataclass(frozen=True)
class OutputOptions(FigureOptions):
    """Where figure and record go."""

    json: Path | None = None
    """Write the record, with its command, machine and versions, into this file; by default nowhere."""

    def check(self) -> None:
        super().check()
        if self.json is not None:
            check_writable(self.json, "--json")

    def write(
        self,
        claim: str,
        record: Mapping[str, Any],
        command: str,
        figure: "Figure | None",
        columns: Sequence[str] | None = None,
    ) -> None:
        """Write the record, and the figure where there is one, into their files, where there are some, and say so."""
        from plainvision.bench import write_record
        from plainvision.figures.style import save

        said = []
        if self.json is not None:
            write_record(self.json, claim, record, command, columns=columns)
            said.append(f"record in {self.json}")
        if self.figure is not None and figure is not None:
            save(figure, self.figure)
            said.append(f"figure in {self.figure}")
        if said:
            print(", ".join(said))


@dataclass(frozen=True)
class KeptFigureOptions(FigureOptions):
    """Where the figure goes, which is drawn in any case."""

    figure: Path | None = None
    """Where to draw it, a .png, .pdf or .svg file; by default beside the results."""


@dataclass(frozen=True)
class KeptOutputOptions(OutputOptions):
    """Where figure and record go, which are written in any case."""

    figure: Path | None = None
    """Where to draw it, a .png, .pdf or .svg file; by default beside the results."""
    json: Path | None = None
    """Where to write the record, with its command, machine and versions; by default beside the results."""

    def beside(self, results: Path, figure: str, json: str) -> OutputOptions:
        """Return both files, checked; those that are not given are called so, in the folder of ``results``."""
        folder = results.parent if results.is_file() else results
        found = OutputOptions(self.figure or folder / figure, self.json or folder / json)
        found.check()
        return found
