"""Write the deployed form of a trained network, or refuse when it would answer differently.

Of a network by name, which no run trained, the file holds name and options, so that every command takes it as it does
a run's; the classes have no names, and the images are wherever --data.root says.

Example: plainvision fuse runs/clothing --out clothing.safetensors
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from plainvision.commands import check_writable, parsed
from plainvision.commands.options.network import NetworkOptions
from plainvision.commands.options.output import Device


@dataclass(frozen=True)
class Arguments:
    """What `plainvision fuse` takes."""

    network: Annotated[NetworkOptions, tyro.conf.arg(name="")]
    """Which network, and whose weights."""
    out: Path | None = None
    """The file to write; by default deployed.safetensors beside the weights, or here for a network by name."""
    device: Device = None


def main(words: list[str]) -> None:
    """Fuse, and print the report."""
    arguments = parsed(Arguments, words, "fuse", __doc__)

    import plainvision as pv
    from plainvision.inspection.devices import usable_device
    from plainvision.training.weights_file import save_network

    device = usable_device(arguments.device)
    words_of = arguments.network.words
    found = arguments.network.load()
    origin = found.origin or words_of.origin(found)
    source = Path(words_of.name)
    folder = Path() if found.origin is None else source if source.is_dir() else source.parent
    out = arguments.out or folder / "deployed.safetensors"
    fused = pv.fuse(found.model.to(device), image_size=found.data.image_size)
    check_writable(out, "--out")
    save_network(out, fused.cpu().state_dict(), replace(origin, deployed=True))
    print(fused.report)
    print(f"deployed form in {out}")
