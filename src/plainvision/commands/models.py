"""List the networks and what they cost, from their cards.

Example: plainvision models vanillanet --json
"""

from dataclasses import asdict, dataclass
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Arguments:
    """What `plainvision models` takes."""

    family: Annotated[str | None, tyro.conf.Positional] = None
    """List only this family."""
    json: bool = False
    """Print JSON instead of a table."""


def main(words: list[str]) -> None:
    """Print the cards of our networks."""
    arguments = tyro.cli(Arguments, args=words, prog="plainvision models", description=__doc__)

    import json

    from rich.console import Console
    from rich.table import Table

    import plainvision as pv

    cards = [pv.card(name) for name in pv.list_models(arguments.family)]
    if arguments.json:
        print(json.dumps([asdict(card) for card in cards], indent=2))
        return
    table = Table(caption="Parameters and multiply-adds (MACs) of the form that the paper counts.")
    for heading, justify in (
        ("network", "left"),
        ("params M", "right"),
        ("MACs G", "right"),
        ("training MACs G", "right"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_column("size", justify="right")
    table.add_column("published top-1 %", justify="right")
    for card in cards:
        table.add_row(
            card.name,
            f"{card.params / 1e6:.1f}",
            f"{card.macs / 1e9:.2f}",
            f"{card.training_macs / 1e9:.2f}",
            str(card.image_size),
            "" if card.top1 is None else f"{card.top1:.2f}",
        )
    Console().print(table)
