"""List the networks and what they cost, from their cards.

Example: plainvision models vanillanet --json
"""

from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from plainvision.commands import Table, parsed, show


@dataclass(frozen=True)
class Arguments:
    """What `plainvision models` takes."""

    family: Annotated[str | None, tyro.conf.Positional] = None
    """List only this family."""
    json: bool = False
    """Print JSON instead of a table."""


def main(words: list[str]) -> None:
    """Print the cards of our networks."""
    arguments = parsed(Arguments, words, "models", __doc__)

    import json

    import plainvision as pv

    cards = [pv.card(name) for name in pv.list_models(arguments.family)]
    if arguments.json:
        print(json.dumps([asdict(card) for card in cards], indent=2))
        return
    table = Table(
        ("network", "params\nM", "MACs\nG", "training\nMACs G", "size", "published\ntop-1 %"),
        caption="Parameters and multiply-adds (MACs) of the form that the paper counts.",
    )
    for card in cards:
        table.add_row(
            card.name,
            f"{card.params / 1e6:.1f}",
            f"{card.macs / 1e9:.2f}",
            f"{card.training_macs / 1e9:.2f}",
            str(card.image_size),
            "" if card.top1 is None else f"{card.top1:.2f}",
        )
    show(table)
