"""Train each spatial operation in each stage of a network of bottlenecks, and weigh accuracy against latency.

With --widths 16 32 64 the networks are of a single bottleneck instead, with so many channels.

Example: plainvision study --bottleneck inverted --ops depthwise max --stages 3 4 --epochs 10 --out runs/study
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from plainvision.commands import Table, parsed, resumable, show, speed_cells
from plainvision.commands.options.output import Device, KeptOutputOptions
from plainvision.study.settings import LayerStudy


@dataclass(frozen=True)
class Arguments:
    """What `plainvision study` takes."""

    out: Path
    """The study's folder: table, record and figure, and below it the runs."""
    study: Annotated[LayerStudy, tyro.conf.arg(name="")] = field(default_factory=LayerStudy)
    """The study, field by field."""
    resume: bool = False
    """Go on with what is in that folder: finished runs are read, a run that was stopped is continued."""
    device: Device = None
    """Where the networks are timed."""
    latency_batch_size: int = 1
    """Images per timed pass. On a GPU small networks are worth comparing with many."""
    latency_runs: int = 50
    """Timed passes of each network."""
    output: Annotated[KeptOutputOptions, tyro.conf.arg(name="")] = field(default_factory=KeptOutputOptions)
    """What is written beside the table. The figure draws accuracy against latency."""


def main(words: list[str]) -> None:
    """Train, time, print the table, and write it with its record and its figure."""
    arguments = parsed(Arguments, words, "study", __doc__)

    from rich.console import Console

    from plainvision.figures.study import draw_study
    from plainvision.study.run import run_study, write_csv

    out = arguments.out
    arguments.output.check()
    with resumable("study", words):
        rows = run_study(
            arguments.study,
            out,
            resume=arguments.resume,
            device=arguments.device,
            latency_batch_size=arguments.latency_batch_size,
            latency_runs=arguments.latency_runs,
            console=Console(),
        )
    show(_table(rows))
    write_csv(rows, out / "study.csv")
    print(f"table in {out / 'study.csv'}")
    part = "width" if arguments.study.widths else "stage"
    where = f"each stage of a network of {arguments.study.bottleneck} bottlenecks"
    if part == "width":
        where = f"networks of a single {arguments.study.bottleneck} bottleneck"
    claim = f"each spatial operation in {where}, trained alike"
    columns = (part, "op", "top1_mean", "top1_std", "macs", "p50_ms", "speed_ratio", "ratio_low", "ratio_high")
    output = arguments.output.beside(out, "study.png", "study.json")
    output.write(claim, {"rows": rows}, f"plainvision study {shlex.join(words)}", draw_study(rows), columns)


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    first = rows[0]
    height, width = first["image_size"]
    seeds = len(first["seeds"])
    part, kind, relative = "stage", f"{first['bottleneck']} bottleneck", ", speed relative to the network as it is"
    if first["width"] is not None:
        part, kind, relative = "width", f"a single {kind}", ""
    table = Table(
        (part, "op", "top-1\n%", "params\nM", "MACs\nM", "p50\nms", "speed", "95 %\ninterval"),
        words=2,
        caption=f"{kind}, epochs {first['epochs']}, seeds {seeds}; {first['batch_size']} x "
        f"{height} x {width} on {first['device']}, timed in turns{relative}",
    )
    last = first[part]
    for row in rows:
        if row[part] != last:
            table.add_section()
            last = row[part]
        spread = "" if row["top1_std"] is None else f" ± {row['top1_std']:.2f}"
        table.add_row(
            "as it is" if last is None else str(last),
            row["op"],
            f"{row['top1_mean']:.2f}{spread}",
            f"{row['parameters'] / 1e6:.3f}",
            f"{row['macs'] / 1e6:.2f}",
            f"{row['p50_ms']:.3g}",
            *speed_cells(row),
        )
    return table
