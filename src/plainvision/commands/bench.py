"""Time networks side by side, ours, timm's and trained ones; speeds are relative to the first.

Example: plainvision bench resnet50 vanillanet_9 vanillanet_9:deployed --sizes 224 320 448 --plot growth.png
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from plainvision.commands import Table, check_writable, parsed, show

if TYPE_CHECKING:
    from torch import nn

_FORMATS = (".png", ".pdf", ".svg")
# What a record's table shows in the documentation.
_COLUMNS = (
    *("name", "image_size", "p50_ms", "images_per_second", "peak_memory_mb", "speed_ratio", "ratio_low", "ratio_high"),
)


@dataclass(frozen=True)
class Arguments:
    """What `plainvision bench` takes."""

    networks: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Names of networks, folders of runs or .safetensors files; NAME:option=value,... gives a name's options, and
    NAME:deployed is the fused form."""
    image_size: int | None = None
    """Side of the images, in pixels; 224 by default."""
    sizes: tuple[int, ...] = ()
    """Several sides instead, in pixels: shows how time and memory grow."""
    batch_size: int = 1
    """Images per pass."""
    runs: int = 30
    """Timed passes of each network."""
    device: str | None = None
    """Where to run: cpu, cuda, ...; by default a GPU where there is one."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Type of weights and images."""
    channels_last: bool = False
    """Use the channels_last memory layout."""
    compile: bool = False
    """Compile with torch.compile."""
    plot: Path | None = None
    """Draw how time and memory grow with --sizes into this .png, .pdf or .svg file."""
    json: Path | None = None
    """Write a record to this file: figures, command, machine and versions."""


def main(words: list[str]) -> None:
    """Print a row for each network."""
    arguments = parsed(Arguments, words, "bench", __doc__)
    if not arguments.networks:
        raise ValueError("no network to time. Name one or more, for instance: plainvision bench resnet18 vanillanet_5")
    sizes = _sizes(arguments)

    import shlex

    import torch

    from plainvision.bench import comparison, growth_exponents, measure, write_record
    from plainvision.figures.growth import growth_figure
    from plainvision.figures.style import save
    from plainvision.inspection.devices import usable_device

    for path, option in ((arguments.plot, "--plot"), (arguments.json, "--json")):
        if path is not None:
            check_writable(path, option)
    networks, channels = _networks(arguments.networks)
    rows = []
    for size in sizes:
        if arguments.compile:
            torch.compiler.reset()  # or the second size is compiled for any size, and slower than the first for it
        measurements = measure(
            networks,
            image_size=size,
            channels=channels,
            batch_size=arguments.batch_size,
            runs=arguments.runs,
            device=usable_device(arguments.device),
            precision=arguments.precision,
            channels_last=arguments.channels_last,
            compile=arguments.compile,
        )
        rows += comparison(measurements)
    show(_table(rows))
    figures = {"rows": rows}
    if len(sizes) > 1:
        figures["growth"] = growth_exponents(rows)
        show(_growth_table(figures["growth"]))
        print("Exponents of growth with the image's surface: 1 is in proportion to it.")
    if arguments.plot is not None:
        save(growth_figure(rows), arguments.plot)
        print(f"figure in {arguments.plot}")
    if arguments.json is not None:
        command = f"plainvision bench {shlex.join(words)}"
        write_record(arguments.json, "timed side by side", figures, command, columns=_COLUMNS)
        print(f"record in {arguments.json}")


def _sizes(arguments: Arguments) -> tuple[int, ...]:
    """Return the sides to measure at, or say what does not go together."""
    if arguments.sizes and arguments.image_size is not None:
        raise ValueError(
            f"--image-size {arguments.image_size} and --sizes {' '.join(map(str, arguments.sizes))} are two answers "
            "to one question. Give --image-size for one side, or --sizes for several."
        )
    sizes = arguments.sizes or (224 if arguments.image_size is None else arguments.image_size,)
    if len(set(sizes)) < len(sizes):
        raise ValueError(f"--sizes {' '.join(map(str, sizes))} names a side twice. Give each one once.")
    if arguments.plot is not None:
        if len(sizes) < 2:
            raise ValueError(
                "--plot draws how time and memory grow, and one image size shows no growth. Give two or more, for "
                "instance: --sizes 224 288 384"
            )
        if arguments.plot.suffix.lower() not in _FORMATS:
            raise ValueError(
                f"cannot tell from {arguments.plot} which kind of figure to draw. Give --plot a file that ends in "
                f"{', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}."
            )
    return sizes


def _networks(names: Sequence[str]) -> "tuple[dict[str, nn.Module], int]":
    """Return the networks by name, and the channels of the images that all of them take."""
    found = {name: _network(name) for name in names}
    channels = {name: channels for name, (_, channels) in found.items()}
    if len(set(channels.values())) > 1:
        raise ValueError(
            "the networks take images of different channels: "
            f"{', '.join(f'{name} {count}' for name, count in channels.items())}. Networks of one call are timed on "
            "the same images; time these in several calls."
        )
    return {name: network for name, (network, _) in found.items()}, channels[names[0]]


def _network(text: str) -> "tuple[nn.Module, int]":
    """Return a network by its words, with random weights where it has none, and the channels of its images."""
    from plainvision.commands.options.network import network_words

    words = network_words(text)
    found = words.load(random=not words.is_ours)
    return found.model, found.known.channels if found.known else int(words.options.get("in_chans", 3))


def _table(rows: list[dict]) -> Table:
    several = len({row["image_size"][0] for row in rows}) > 1
    heads = ("params\nM", "MACs\nG", "p50\nms", "p90\nms", "images\nper s", "peak\nMB", "speed", "95 %\ninterval")
    table = Table(("network", *(["side\npx"] if several else []), *heads), caption=_caption(rows[0], several))
    for row in rows:
        table.add_row(
            row["name"],
            *([str(row["image_size"][0])] if several else []),
            _figure(row["parameters"] / 1e6),
            _figure(row["macs"] / 1e9),
            _figure(row["p50_ms"]),
            _figure(row["p90_ms"]),
            _figure(row["images_per_second"]),
            "" if row["peak_memory_mb"] is None else _figure(row["peak_memory_mb"]),
            f"{row['speed_ratio']:.2f} x",
            "too few" if row["ratio_low"] is None else f"{row['ratio_low']:.2f}–{row['ratio_high']:.2f}",
        )
    return table


def _growth_table(rows: list[dict]) -> Table:
    table = Table(("network", "peak memory", "time"))
    for row in rows:
        exponents = (row["memory_exponent"], row["time_exponent"])
        table.add_row(row["name"], *("" if exponent is None else f"{exponent:.2f}" for exponent in exponents))
    return table


def _figure(value: float) -> str:
    """Return three digits or more, so that a small network does not cost 0.0."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"


def _caption(row: dict, several: bool) -> str:
    height, width = row["image_size"]
    images = f"batch of {row['batch_size']}" if several else f"{row['batch_size']} x {height} x {width}"
    threads = f"{row['threads']} thread{'' if row['threads'] == 1 else 's'}"
    return (
        f"{images} on {row['device']}, {threads}, precision {row['precision']}; timed in turns, speed relative to the "
        f"first{' at the same side' if several else ''}"
    )
