"""Write the deployed form of a trained network, or refuse when it would answer differently.

Example: plainvision fuse runs/clothing --out clothing.safetensors
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from plainvision.commands import check_writable, parsed


@dataclass(frozen=True)
class Arguments:
    """What `plainvision fuse` takes."""

    source: Annotated[Path, tyro.conf.Positional]
    """The folder of a run, or a .safetensors file that plainvision wrote."""
    out: Path | None = None
    """The file to write; by default deployed.safetensors beside the weights."""
    weights: Literal["best", "last"] = "best"
    """Which weights of a run."""


def main(words: list[str]) -> None:
    """Fuse, and print the report."""
    arguments = parsed(Arguments, words, "fuse", __doc__)

    import plainvision as pv
    from plainvision.training.weights_file import load_network, save_network

    network, origin = load_network(arguments.source, arguments.weights)
    fused = pv.fuse(network, image_size=origin.recipe.data.image_size)
    folder = arguments.source if arguments.source.is_dir() else arguments.source.parent
    out = arguments.out or folder / "deployed.safetensors"
    check_writable(out, "--out")
    save_network(out, fused.state_dict(), replace(origin, deployed=True))
    print(fused.report)
    print(f"deployed form in {out}")
