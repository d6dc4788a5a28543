"""Find the fastest form of a network that this machine offers and that loses no more accuracy than is allowed.

Example: plainvision tune runs/clothing --data.root clothing.zip --allow-loss 0.5 --out deployed
"""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from plainvision.commands import Table, parsed, say, show
from plainvision.commands.options.examination import ExaminationOptions
from plainvision.commands.options.network import NetworkOptions
from plainvision.commands.options.output import OutputOptions

if TYPE_CHECKING:
    from plainvision.deploy.tuned import TunedForm, Tuning


_COLUMNS = ("name", "threads", "verdict", "accuracy", "lowest_accuracy", "p50_ms", "ratio", "size_mb", "memory_mb")


@dataclass(frozen=True)
class Arguments:
    """What `plainvision tune` takes."""

    network: Annotated[NetworkOptions, tyro.conf.arg(name="")]
    """Which network, and whose weights."""
    out: Path
    """The folder to write: the fastest form, deploy.json, report.html and predict.py."""
    examination: Annotated[ExaminationOptions, tyro.conf.arg(name="")] = field(default_factory=ExaminationOptions)
    """Which images calibrate and judge."""
    batch_size: int = 1
    """Images per pass."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the forms run."""
    precisions: tuple[Literal["fp32", "tf32", "bf16", "fp16", "int8"], ...] = ()
    """What forms may compute in, by default all that the device can; below fp32 they have to pass the gate of
    --allow-loss."""
    threads: tuple[int, ...] = ()
    """Numbers of threads to try; by default one, and as many as there are cores."""
    seconds: float = 900
    """About how long it may take; forms that do not fit are not tried."""
    output: Annotated[OutputOptions, tyro.conf.arg(name="")] = field(default_factory=OutputOptions)
    """What is written beyond the folder."""


def main(words: list[str]) -> None:
    """Print each form as it is tried, the table of all, and the winner."""
    arguments = parsed(Arguments, words, "tune", __doc__)

    import plainvision as pv
    from plainvision.deploy.candidates import PRECISIONS
    from plainvision.deploy.tuning_report import figure_of_forms

    arguments.output.check()
    found = arguments.network.load()
    found.refuse_sets("the gate of tune")
    precisions = arguments.precisions or PRECISIONS[arguments.device]
    examination, classes = arguments.examination.load(found, calibrating="int8" in precisions)
    try:
        tuning = pv.deploy.tune(
            found.model,
            arguments.out,
            preprocessing=pv.deploy.Preprocessing.of(arguments.examination.prepared(found)),
            classes=classes,
            temperature=found.temperature,
            examination=examination,
            batch_size=arguments.batch_size,
            device=arguments.device,
            precisions=precisions,
            threads=arguments.threads or None,
            seconds=arguments.seconds,
            report=say,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped. The same command goes on with the forms that were written.") from None
    show(_table(tuning))
    for form in tuning.forms:
        if form.p50_ms is None:
            say(f"not tried: {form.name}: {form.note}")
    command = f"plainvision tune {shlex.join(words)}"
    rows = [form.to_dict() for form in tuning.forms if form.p50_ms is not None]
    name, points = Path(arguments.network.network).name, arguments.examination.allow_loss
    claim = f"the fastest form of {name} that loses {points:g} points at most is {tuning.winner.name}"
    drawn = figure_of_forms(tuning) if arguments.output.figure else None
    arguments.output.write(claim, {"rows": rows}, command, drawn, _COLUMNS)
    say(f"{tuning.winner.name} in {tuning.folder}; its page is {tuning.folder / 'report.html'}")


def _table(tuning: "Tuning") -> Table:
    table = Table(("form", "threads", "verdict", "top-1 %", "at least", "ms", "speed", "MB", "memory\nMB"))
    for form in tuning.forms:
        if form.p50_ms is not None:
            table.add_row(*_cells(form))
    return table


def _cells(form: "TunedForm") -> tuple[str, ...]:
    said = form.to_dict()
    kept = [(said["accuracy"], ".2f"), (said["lowest_accuracy"], ".2f"), (form.p50_ms, ".2f"), (form.ratio, ".2f")]
    numbers = [*kept, (form.size_mb, ".1f"), (form.memory_mb, ".0f")]
    cells = ["" if value is None else format(value, pattern) for value, pattern in numbers]
    return (form.name, str(form.threads), form.verdict, *cells)
