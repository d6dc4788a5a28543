"""Time networks side by side, ours, timm's and trained ones; speeds are relative to the first.

Example: plainvision bench resnet50 vanillanet_9 vanillanet_9:deployed --sizes 224 320 448 --plot growth.png
"""

import shlex
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from plainvision.commands import Table, parsed, say, show, speed_cells
from plainvision.commands.options.network import NetworksOptions
from plainvision.commands.options.output import Device, OutputOptions


@dataclass(frozen=True)
class Arguments:
    """What `plainvision bench` takes."""

    networks: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Names (ours, timm's, torchvision/NAME), folders of runs, deployed folders or .safetensors files.
    NAME:option=value,... gives a name's options, :plain takes its shortcuts away, and :deployed behind any of them is
    its fused form. A name alone has random weights."""
    weights: Annotated[NetworksOptions, tyro.conf.arg(name="")] = field(default_factory=NetworksOptions)
    """Whose weights."""
    image_size: int | None = None
    """Side of the images, in pixels; 224 by default."""
    sizes: tuple[int, ...] = ()
    """Several sides instead, in pixels: shows how time and memory grow."""
    batch_size: int = 1
    """Images per pass."""
    runs: int = 30
    """Timed passes of each network."""
    device: Device = None
    precision: Literal["no", "bf16", "fp16", "amp"] = "no"
    """Type of weights and images; amp keeps float32 weights and casts for each layer."""
    channels_last: bool = False
    """Use the channels_last memory layout."""
    compile: bool = False
    """Compile with torch.compile."""
    output: Annotated[OutputOptions, tyro.conf.arg(name="")] = field(default_factory=OutputOptions)
    """What is written. The figure draws how time and memory grow with --sizes."""


def main(words: list[str]) -> None:
    """Print a row for each network."""
    words = ["--figure" if word == "--plot" else word for word in words]  # as it was called once
    arguments = parsed(Arguments, words, "bench", __doc__)
    if not arguments.networks:
        raise ValueError("no network to time. Name one or more, for instance: plainvision bench resnet18 vanillanet_5")
    sizes = arguments.sizes or (224 if arguments.image_size is None else arguments.image_size,)
    if arguments.sizes and arguments.image_size is not None:
        raise ValueError(
            f"--image-size {arguments.image_size} and --sizes {' '.join(map(str, sizes))} are two answers to one "
            "question. Give --image-size for one side, or --sizes for several."
        )
    if len(set(sizes)) < len(sizes):
        raise ValueError(f"--sizes {' '.join(map(str, sizes))} names a side twice. Give each one once.")
    if arguments.output.figure is not None and len(sizes) < 2:
        raise ValueError(
            "--figure draws how time and memory grow, and one image size shows no growth. Give two or more, for "
            "instance: --sizes 224 288 384"
        )

    import torch

    from plainvision.bench import at_size, comparison, growth_exponents, measure
    from plainvision.figures.growth import growth_figure
    from plainvision.inspection.devices import usable_device

    arguments.output.check()
    networks = arguments.weights.load(arguments.networks, random=True)
    channels = {name: network.channels for name, network in networks.items()}
    if len(set(channels.values())) > 1:
        raise ValueError(
            f"the networks take images of different channels: {', '.join(f'{n} {c}' for n, c in channels.items())}. "
            "Networks of one call are timed on the same images; time these in several calls."
        )
    rows = []
    modules = {name: network.model for name, network in networks.items()}
    for size in sizes:
        fitting = modules
        if arguments.sizes:
            fitting, refused = at_size(modules, size, next(iter(channels.values())))
            for name, why in refused.items():
                say(f"{name} does not run at {size} pixels: {why}")
            if not fitting:
                continue
        if arguments.compile:
            torch.compiler.reset()  # or the second size is compiled for any size, and slower than the first for it
        measurements = measure(
            fitting,
            image_size=size,
            channels=next(iter(channels.values())),
            batch_size=arguments.batch_size,
            runs=arguments.runs,
            device=usable_device(arguments.device),
            precision=arguments.precision,
            channels_last=arguments.channels_last,
            compile=arguments.compile,
        )
        rows += comparison(measurements)
    if not rows:
        raise ValueError("no network runs at any of these sizes. Give sizes that they were built for.")
    show(_table(rows, len(sizes) > 1))
    totals = [f"{row['name']} {_figure(row['total_memory_mb'])} MB" for row in rows if row["total_memory_mb"]]
    if totals and len(sizes) == 1:
        print(f"Peak memory with weights and images: {', '.join(totals)}.")
    if any(network.named is not None for network in networks.values()):
        print("Peak memory of a deployed folder is the growth of a fresh process, weights included.")
    figures = {"rows": rows}
    measured = Counter(row["name"] for row in rows)
    grown = [row for row in rows if measured[row["name"]] > 1]
    if grown:
        figures["growth"] = growth_exponents(grown)
        table = Table(("network", "peak memory", "time"))
        for row in figures["growth"]:
            exponents = (row["memory_exponent"], row["time_exponent"])
            table.add_row(row["name"], *("" if exponent is None else f"{exponent:.2f}" for exponent in exponents))
        show(table)
        print("Exponents of growth with the image's surface: 1 is in proportion to it.")
    drawn = growth_figure(grown) if arguments.output.figure else None
    command = f"plainvision bench {shlex.join(words)}"
    shown = ("name", "image_size", "p50_ms", "images_per_second", "peak_memory_mb", "total_memory_mb")
    columns = (*shown, "speed_ratio", "ratio_low", "ratio_high")
    arguments.output.write("timed side by side", figures, command, drawn, columns)


def _table(rows: list[dict], several: bool) -> Table:
    heads = ("params\nM", "MACs\nG", "p50\nms", "p90\nms", "images\nper s", "peak\nMB", "speed", "95 %\ninterval")
    first, (height, width) = rows[0], rows[0]["image_size"]
    images = f"batch of {first['batch_size']}" if several else f"{first['batch_size']} x {height} x {width}"
    threads = f"{first['threads']} thread{'' if first['threads'] == 1 else 's'}"
    table = Table(
        ("network", *(["side\npx"] if several else []), *heads),
        caption=f"{images} on {first['device']}, {threads}, precision {first['precision']}; timed in turns, speed "
        f"relative to the first{' at the same side' if several else ''}",
    )
    for row in rows:
        keys = ("p50_ms", "p90_ms", "images_per_second", "peak_memory_mb")
        found = (row["parameters"] / 1e6, row["macs"] / 1e9, *(row[key] for key in keys))
        sides = [str(row["image_size"][0])] if several else []
        table.add_row(row["name"], *sides, *map(_figure, found), *speed_cells(row))
    return table


def _figure(value: float | None) -> str:
    """Return three digits or more, so that a small network does not cost 0.0; nothing for what is unknown."""
    return "" if value is None else f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"
