"""Time networks side by side, ours, timm's and trained ones; speeds are relative to the first.

Example: plainvision bench resnet50 vanillanet_9 vanillanet_9:deployed --batch-size 1
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from plainvision.commands import check_writable, show

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Arguments:
    """What `plainvision bench` takes."""

    networks: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Names of networks, folders of runs or .safetensors files; NAME:deployed is the fused form."""
    image_size: int = 224
    """Side of the images, in pixels."""
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
    json: Path | None = None
    """Write a record to this file: figures, command, machine and versions."""


def main(words: list[str]) -> None:
    """Print a row for each network."""
    arguments = tyro.cli(Arguments, args=words, prog="plainvision bench", description=__doc__)
    if not arguments.networks:
        raise ValueError("no network to time. Name one or more, for instance: plainvision bench resnet18 vanillanet_5")

    import shlex

    import torch
    from rich import box
    from rich.table import Table

    from plainvision.bench import comparison, measure, write_record

    if arguments.json is not None:
        check_writable(arguments.json, "--json")
    networks = {name: _network(name) for name in arguments.networks}
    rows = comparison(
        measure(
            networks,
            image_size=arguments.image_size,
            channels=getattr(next(iter(networks.values())), "in_chans", 3),
            batch_size=arguments.batch_size,
            runs=arguments.runs,
            device=arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"),
            precision=arguments.precision,
            channels_last=arguments.channels_last,
            compile=arguments.compile,
        )
    )
    # Narrow enough for 80 columns; a long name is folded, never cut.
    table = Table(caption=_caption(rows[0]), box=box.SIMPLE_HEAD, padding=0)
    table.add_column("network", overflow="fold")
    for head in ("params\nM", "MACs\nG", "p50\nms", "p90\nms", "images\nper s", "peak\nMB", "speed", "95 %\ninterval"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["name"],
            _figure(row["parameters"] / 1e6),
            _figure(row["macs"] / 1e9),
            _figure(row["p50_ms"]),
            _figure(row["p90_ms"]),
            _figure(row["images_per_second"]),
            "" if row["peak_memory_mb"] is None else _figure(row["peak_memory_mb"]),
            f"{row['speed_ratio']:.2f} x",
            f"{row['ratio_low']:.2f}–{row['ratio_high']:.2f}",
        )
    show(table)
    if arguments.json is not None:
        command = f"plainvision bench {shlex.join(words)}"
        write_record(arguments.json, "timed side by side", {"rows": rows}, command)
        print(f"record in {arguments.json}")


def _network(name: str) -> "nn.Module":
    """Return a network by name, or the one in a run's folder or a file."""
    import plainvision as pv
    from plainvision.training.run_folder import load_network

    if Path(name).exists() or name.endswith(".safetensors"):
        return load_network(name)[0]
    base, _, form = name.partition(":")
    if form == "deployed":
        model = pv.create_model(base)
        pv.set_slope(model, 1)
        return pv.fuse(model, images=1)
    return pv.create_model(name)


def _figure(value: float) -> str:
    """Return three digits or more, so that a small network does not cost 0.0."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"


def _caption(row: dict) -> str:
    height, width = row["image_size"]
    threads = f"{row['threads']} thread{'' if row['threads'] == 1 else 's'}"
    return (
        f"{row['batch_size']} x {height} x {width} on {row['device']}, {threads}, "
        f"precision {row['precision']}; timed in turns, speed relative to the first"
    )
