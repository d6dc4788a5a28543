"""The page of a tuned folder: what won, and how all forms compare."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from plainvision.bench.record import host_facts
from plainvision.deploy.tuned import TunedForm, Tuning
from plainvision.figures.forms import forms_figure
from plainvision.figures.page import Page


def write_report(path: Path, tuning: Tuning, description: dict[str, Any]) -> None:
    """Write the page.

    Args:
        path: the file.
        tuning: what was found.
        description: that of the winner's folder.
    """
    winner = tuning.winner
    images = "one image" if tuning.batch_size == 1 else f"{tuning.batch_size} images"
    ratio = "" if winner.ratio is None else f", {winner.ratio:.1f} times as fast as PyTorch's eager mode"
    page = Page(
        f"{description['network']}, deployed",
        f"{winner.name} with {_threads(winner)} takes {winner.p50_ms:.2f} ms for {images}{ratio}. It is the fastest "
        "form on this machine that passes.",
    )
    page.heading("Accuracy against latency")
    page.figure(figure_of_forms(tuning), "Each form's accuracy and its bound by latency")
    page.paragraph(
        "A form in fp32 passes when its outputs are the network's, to rounding. Another one passes when the one-sided "
        "95 % bound of the accuracy that it loses is below what is allowed; the line under a form leads down to what "
        "the bound leaves."
        if tuning.accuracy is not None
        else "No labelled images were given, so that accuracy was not measured."
    )
    page.heading("Every form")
    page.table([_cells(form) for form in tuning.forms if form.p50_ms is not None], folds=True)
    page.paragraph(
        "Speed is relative to eager mode, with a 95 % interval of its median over the rounds. Memory is the growth of "
        "a fresh process that loads and runs the form, weights included."
        + (
            " On a GPU, memory is what grows there, and times include the way of images to it and of logits back."
            if description["device"] == "cuda"
            else ""
        )
    )
    notes = [form for form in tuning.forms if form.p50_ms is None]
    if notes:
        page.heading("Not tried")
        page.table([{"form": form.name, "why": form.note} for form in notes])
    page.heading("How to run it")
    page.paragraph(
        "`python predict.py photo.jpg` needs the runtime, numpy and Pillow. `plainvision.deploy.load(folder)` loads it "
        "in Python. `deploy.json` says how images are prepared."
    )
    host = host_facts()
    where = f"{host['gpu']}, beside " if description["device"] == "cuda" else ""
    page.footer(
        f"Measured in turns on {where}{host['cpu']} ({', '.join(host['vector_extensions'])}), {host['cores']} cores; "
        f"plainvision {host['plainvision']}, torch {host['torch']}."
    )
    page.write(path)


def figure_of_forms(tuning: Tuning) -> Figure:
    """Draw the forms at their latency and accuracy, above the accuracy that they have to keep."""
    gates = [form.gate for form in tuning.forms if form.gate is not None and form.gate.allowed is not None]
    least = None
    if tuning.accuracy is not None and gates:
        least = tuning.accuracy - (gates[0].allowed or 0)
    return forms_figure([form.to_dict() for form in tuning.forms], least=least, batch_size=tuning.batch_size)


def _cells(form: TunedForm) -> dict[str, str]:
    said = form.to_dict()
    interval = "" if form.ratio_low is None else f" ({form.ratio_low:.2f}–{form.ratio_high:.2f})"
    return {
        "form": form.name + (f", {form.note}" if form.note else ""),
        "threads": str(form.threads),
        "verdict": form.verdict,
        "top-1, %": _number(said["accuracy"], ".2f"),
        "at least": _number(said["lowest_accuracy"], ".2f"),
        "ms": _number(form.p50_ms, ".2f"),
        "speed": _number(form.ratio, ".2f") + interval,
        "MB": _number(form.size_mb, ".1f"),
        "memory, MB": _number(form.memory_mb, ".0f"),
    }


def _threads(form: TunedForm) -> str:
    return "one thread" if form.threads == 1 else f"{form.threads} threads"


def _number(value: float | None, pattern: str) -> str:
    return "" if value is None else format(value, pattern)
