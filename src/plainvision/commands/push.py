"""Put a trained network on the Hugging Face Hub, with its model card, where plainvision and timm load it.

The weights are one safetensors file. Its header and the card tell the recipe; of paths on this machine they tell the
last part alone. Log in with `hf auth login`, or set HF_TOKEN.

Example: plainvision push runs/clothing me/clothing --data.root clothing.zip --licence apache-2.0 --private
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from plainvision.commands import parsed, say
from plainvision.commands.options.model_card import ModelCardOptions


@dataclass(frozen=True)
class Arguments:
    """What `plainvision push` takes."""

    run: Annotated[str, tyro.conf.Positional]
    """The folder of a run, or a .safetensors file that plainvision wrote; :deployed behind it is its fused form."""
    repo: Annotated[str, tyro.conf.Positional]
    """The repository on the Hub, OWNER/NAME; it is made where there is none, and a README.md in it stays."""
    weights: Literal["best", "last"] = "best"
    """Which weights of a run."""
    private: bool = False
    """Make a new repository one that only you see."""
    revision: str | None = None
    """The branch to push to; by default the main one."""
    folder: Path | None = None
    """Write the files into this new folder instead, and push nothing."""
    card: Annotated[ModelCardOptions, tyro.conf.arg(name="")] = field(default_factory=ModelCardOptions)
    """What its card says."""


def main(words: list[str]) -> None:
    """Push, and say where it is."""
    arguments = parsed(Arguments, words, "push", __doc__)

    from plainvision.hub import push, trained_network
    from plainvision.hub.pushing import write_folder

    found = trained_network(arguments.run, weights=arguments.weights)
    card = arguments.card.make(found, arguments.run, arguments.repo)
    if "timm" not in card.data.get("tags"):
        say("timm has no options that rebuild this network: plainvision alone will load it, as its card says")
    if arguments.folder is not None:
        write_folder(found, arguments.folder, card=card)
        say(f"files in {arguments.folder}; nothing is pushed")
        return
    place = push(found, arguments.repo, card=card, private=arguments.private, revision=arguments.revision)
    say(f"pushed to {place}")
