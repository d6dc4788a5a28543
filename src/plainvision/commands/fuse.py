"""Write the deployed form of a trained network, or refuse when it would answer differently.

Of a network by name, which no run trained, the file holds name and options, so that every command takes it as it does
a run's; the classes have no names, and the images are wherever --data.root says.

Example: plainvision fuse runs/clothing --out clothing.safetensors
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from plainvision.commands import check_writable, parsed
from plainvision.commands.options.network import NetworkOptions
from plainvision.commands.options.output import Device

if TYPE_CHECKING:
    from torch import nn

    from plainvision.training.weights_file import Origin


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
    from plainvision.training.image_task import ImageTask
    from plainvision.training.weights_file import save_network

    device = usable_device(arguments.device)
    model, origin, folder = _loaded(arguments.network)
    out = arguments.out or folder / "deployed.safetensors"
    # A detector takes images of any size, and its own would take long.
    size = origin.recipe.data.image_size if isinstance(origin.recipe.task, ImageTask) else None
    fused = pv.fuse(model.to(device), image_size=size)
    check_writable(out, "--out")
    save_network(out, fused.cpu().state_dict(), replace(origin, deployed=True))
    print(fused.report)
    print(f"deployed form in {out}")


def _loaded(network: NetworkOptions) -> "tuple[nn.Module, Origin, Path]":
    """Return a network of any task, what rebuilds it, and the folder of its weights, for one by name the present."""
    import plainvision.tasks.learning  # noqa: F401  # so that the tasks of all runs are known
    from plainvision.training.weights_file import load_network

    words = network.words
    source = Path(words.name)
    if words.is_ours and not (source / "deploy.json").is_file():
        words.check(network.checkpoint, network.pretrained)
        model, origin = load_network(source, network.weights)
        return model, origin, source if source.is_dir() else source.parent
    found = network.load()
    return found.model, words.origin(found), Path()
