"""Draw accuracy against cost for several networks, and say which of them no other one beats in both.

Each number says where it comes from: a record of `bench --json` or `evaluate --json`, a run's folder, or a paper, by
the network's name. Numbers that are not comparable are refused.

Example: plainvision frontier vanillanet_5 vanillanet_9 resnet50_max pit_s_max --x macs --figure frontier.png
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from plainvision.commands import Table, parsed, say, show
from plainvision.commands.options.output import OutputOptions

if TYPE_CHECKING:
    from plainvision.study.facts import Fact
    from plainvision.study.frontier import FrontierPoint


@dataclass(frozen=True)
class Arguments:
    """What `plainvision frontier` takes."""

    sources: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Records, folders of runs (with :deployed their fused form), and names of networks, for their published
    figures."""
    x: Literal["macs", "params", "latency", "memory", "depth"] = "macs"
    """The cost: multiply-adds, parameters, median latency, peak memory with weights and images, or layers in a row that
    mix channels."""
    y: Literal["top1"] = "top1"
    """The accuracy."""
    mix: bool = False
    """Draw also numbers of different images, image sizes, devices or batch sizes together; the figure says so."""
    output: Annotated[OutputOptions, tyro.conf.arg(name="")] = field(default_factory=OutputOptions)
    """What is written."""


# What the axis says, what the table says, and how many of the number make one of the unit.
_AXES = {
    "macs": ("multiply-adds of an image (G)", "MACs\nG", 1e9),
    "params": ("parameters (M)", "params\nM", 1e6),
    "latency": ("median time of a pass (ms)", "latency\nms", 1),
    "memory": ("peak memory of a pass (MB)", "memory\nMB", 1),
    "depth": ("depth: layers in a row that mix channels", "depth", 1),
}


def main(words: list[str]) -> None:
    """Print a row for each network, and draw them."""
    arguments = parsed(Arguments, words, "frontier", __doc__)
    if not arguments.sources:
        raise ValueError(
            "no network. Name records, runs or networks, for instance: plainvision frontier vanillanet_5 vanillanet_6"
        )

    from plainvision.figures.frontier import Labelled, frontier_figure
    from plainvision.study.facts import read_facts
    from plainvision.study.frontier import frontier, mixed

    arguments.output.check()
    cost = arguments.x
    points = frontier([one for source in arguments.sources for one in read_facts(source)], cost)
    differ = mixed(points, cost)
    if differ and not arguments.mix:
        told = "\n".join(f"  {one}" for one in differ)
        raise ValueError(
            f"these numbers are not comparable:\n{told}\nGive networks that were measured alike, or --mix to draw them "
            "together all the same; the figure will say so."
        )
    axis, head, unit = _AXES[cost]
    _tell(points, head, unit)
    note = f"Not comparable: {'; '.join(differ)}." if differ else f"{_alike(points)}."
    say(note)
    drawn = None
    if arguments.output.figure is not None:
        labelled = [
            Labelled(one.name, one.cost.value / unit, one.top1.value, one.family or "own", one.published, one.on_front)
            for one in points
        ]
        drawn = frontier_figure(labelled, axis, "top-1 (%)", note)
    rows = [
        {"network": one.name, cost: one.cost.value, "top1": one.top1.value, "on_front": one.on_front}
        | {f"{cost}_source": one.cost.source, "top1_source": one.top1.source}
        | {f"{cost}_circumstances": _said(one.cost), "top1_circumstances": _said(one.top1)}
        for one in points
    ]
    claim = f"top-1 against {cost}, and which networks no other one beats in both"
    columns = ("network", cost, "top1", "on_front")
    record = {"rows": rows, "not_comparable": differ}
    arguments.output.write(claim, record, f"plainvision frontier {shlex.join(words)}", drawn, columns)


def _tell(points: "Sequence[FrontierPoint]", head: str, unit: float) -> None:
    """Print a row for each network; where its numbers come from stands below by a letter."""
    letters: dict[str, str] = {}
    table = Table(("network", "front", head, "from", "top-1\n%", "from"))
    for one in points:
        marks = [letters.setdefault(fact.source, _letter(len(letters))) for fact in (one.cost, one.top1)]
        cells = (f"{one.cost.value / unit:.4g}", marks[0], f"{one.top1.value:.2f}", marks[1])
        table.add_row(one.name, "yes" if one.on_front else "", *cells)
    show(table)
    for source, letter in letters.items():
        say(f"{letter}: {source}")


def _letter(place: int) -> str:
    return chr(97 + place) if place < 26 else f"{_letter(place // 26 - 1)}{_letter(place % 26)}"


def _alike(points: "Sequence[FrontierPoint]") -> str:
    """Return in words what all numbers have in common."""
    first = points[0]
    return f"Top-1: {_said(first.top1)}" + (f"; cost: {_said(first.cost)}" if first.cost.circumstances else "")


def _said(fact: "Fact") -> str:
    return ", ".join(f"{name} {value}" for name, value in fact.circumstances.items())
