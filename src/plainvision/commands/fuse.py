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
from plainvision.training.network_words import NO_RUN, Network, NetworkWords

if TYPE_CHECKING:
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
    from plainvision.training.weights_file import save_network

    device = usable_device(arguments.device)
    words_of = arguments.network.words
    found = arguments.network.load()
    origin = found.origin or _origin(found, words_of)
    source = Path(words_of.name)
    folder = Path() if found.origin is None else source if source.is_dir() else source.parent
    out = arguments.out or folder / "deployed.safetensors"
    fused = pv.fuse(found.model.to(device), image_size=found.data.image_size)
    check_writable(out, "--out")
    save_network(out, fused.cpu().state_dict(), replace(origin, deployed=True))
    print(fused.report)
    print(f"deployed form in {out}")


def _origin(found: Network, words: NetworkWords) -> "Origin":
    """Return what rebuilds a network by name.

    Raises:
        ValueError: a file can't, because the name is torchvision's, leads elsewhere, or an option is no plain value.
    """
    from plainvision.explain.explanation import class_names
    from plainvision.models.described import check_description
    from plainvision.training.recipe import Recipe
    from plainvision.training.weights_file import Origin

    if words.is_torchvision:
        raise ValueError(
            f"{words.name}: a file has to rebuild its network by a name of ours or timm's. timm has most of "
            "torchvision's networks and their weights, for instance resnet50.tv_in1k --pretrained."
        )
    own = {key: value for key, value in words.options.items() if key != "num_classes"}
    check_description(words.name, own)
    return Origin(
        Recipe(NO_RUN, words.name, own, data=found.data), class_names(int(getattr(found.model, "num_classes", 0))), 0
    )
