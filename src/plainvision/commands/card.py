"""Write the model card of a trained network: data, recipe, scores with intervals, cost, limits, how to load it.

It is Markdown with the Hugging Face Hub's head. `plainvision push` puts it on the Hub with the network.

Example: plainvision card runs/clothing --data.root clothing.zip --licence apache-2.0 --out README.md
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from plainvision.commands import check_writable, parsed
from plainvision.commands.options.model_card import ModelCardOptions


@dataclass(frozen=True)
class Arguments:
    """What `plainvision card` takes."""

    run: Annotated[str, tyro.conf.Positional]
    """The folder of a run, or a .safetensors file that plainvision wrote; :deployed behind it is its fused form."""
    weights: Literal["best", "last"] = "best"
    """Which weights of a run."""
    repo: str | None = None
    """The repository on the Hub that it is for, OWNER/NAME."""
    card: Annotated[ModelCardOptions, tyro.conf.arg(name="")] = field(default_factory=ModelCardOptions)
    """What it says."""
    out: Path = Path("README.md")
    """The file to write."""


def main(words: list[str]) -> None:
    """Write the card, and say where it is."""
    arguments = parsed(Arguments, words, "card", __doc__)

    from plainvision.files import write_text
    from plainvision.hub import trained_network

    check_writable(arguments.out, "--out")
    found = trained_network(arguments.run, weights=arguments.weights)
    card = arguments.card.make(found, arguments.run, arguments.repo)
    write_text(arguments.out, str(card))
    if not card.data.get("eval_results"):
        print("no scores: give the images with --data.root")
    print(f"model card in {arguments.out}")
