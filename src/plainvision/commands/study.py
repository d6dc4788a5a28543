"""Train each spatial operation in each stage of a network of bottlenecks, and weigh accuracy against latency.

Example: plainvision study --bottleneck inverted --ops depthwise max --stages 3 4 --epochs 10 --out runs/study
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from plainvision.commands import Table, check_writable, parsed, say, show
from plainvision.search.study import LayerStudy


@dataclass(frozen=True)
class Arguments:
    """What `plainvision study` takes."""

    out: Path
    """The study's folder: table, record and figure, and below it the runs."""
    study: Annotated[LayerStudy, tyro.conf.arg(name="")] = field(default_factory=LayerStudy)
    """The study, field by field."""
    resume: bool = False
    """Go on with what is in that folder: finished runs are read, a run that was stopped is continued."""
    device: str | None = None
    """Where the networks are timed: cpu, cuda, ...; by default a GPU where there is one."""
    latency_batch_size: int = 1
    """Images per timed pass. On a GPU small networks are worth comparing with many."""
    latency_runs: int = 50
    """Timed passes of each network."""
    figure: Path | None = None
    """Where accuracy is drawn against latency, a .png, .pdf or .svg file; by default study.png in the folder."""


def main(words: list[str]) -> None:
    """Train, time, print the table, and write it with its record and its figure."""
    arguments = parsed(Arguments, words, "study", __doc__)

    from plainvision.bench import write_record
    from plainvision.figures.study import draw_study
    from plainvision.figures.style import check_format, save
    from plainvision.processes import TrainingInterrupted
    from plainvision.search.study import run_study, write_csv

    out = arguments.out
    figure = arguments.figure or out / "study.png"
    check_format(figure)
    if arguments.figure is not None:
        check_writable(figure, "--figure")
    try:
        rows = run_study(
            arguments.study,
            out,
            resume=arguments.resume,
            device=arguments.device,
            latency_batch_size=arguments.latency_batch_size,
            latency_runs=arguments.latency_runs,
            report=say,
        )
    except TrainingInterrupted as error:
        again = shlex.join([*words, *([] if arguments.resume else ["--resume"])])
        raise TrainingInterrupted(f"{error}\n  plainvision study {again}") from None
    show(_table(rows))
    write_csv(rows, out / "study.csv")
    claim = (
        f"each spatial operation in each stage of a network of {arguments.study.bottleneck} bottlenecks, trained alike"
    )
    columns = ("stage", "op", "top1_mean", "top1_std", "macs", "p50_ms", "speed_ratio", "ratio_low", "ratio_high")
    write_record(out / "study.json", claim, {"rows": rows}, f"plainvision study {shlex.join(words)}", columns=columns)
    save(draw_study(rows), figure)
    print(f"table in {out / 'study.csv'}, record in {out / 'study.json'}, figure in {figure}")


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    first = rows[0]
    height, width = first["image_size"]
    seeds = len(first["seeds"])
    table = Table(
        ("stage", "op", "top-1\n%", "params\nM", "MACs\nM", "p50\nms", "speed", "95 %\ninterval"),
        words=2,
        caption=f"{first['bottleneck']} bottleneck, epochs {first['epochs']}, seeds {seeds}; {first['batch_size']} x "
        f"{height} x {width} on {first['device']}, timed in turns, speed relative to the network as it is",
    )
    stage = first["stage"]
    for row in rows:
        if row["stage"] != stage:
            table.add_section()
            stage = row["stage"]
        spread = "" if row["top1_std"] is None else f" ± {row['top1_std']:.2f}"
        table.add_row(
            "as it is" if stage is None else str(stage),
            row["op"],
            f"{row['top1_mean']:.2f}{spread}",
            f"{row['parameters'] / 1e6:.3f}",
            f"{row['macs'] / 1e6:.2f}",
            f"{row['p50_ms']:.3g}",
            *(
                ("", "")
                if row["speed_ratio"] is None
                else (
                    f"{row['speed_ratio']:.2f} x",
                    "too few" if row["ratio_low"] is None else f"{row['ratio_low']:.2f}–{row['ratio_high']:.2f}",
                )
            ),
        )
    return table
