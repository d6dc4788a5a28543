"""Get a network from the Hugging Face Hub as a weights file, which every command takes.

It is one that `plainvision push` put there, or one of timm's. What lies there is read as data: its configuration within
bounds, its weights from safetensors alone.

Example: plainvision pull me/clothing --out clothing.safetensors
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from plainvision.commands import check_writable, parsed, say


@dataclass(frozen=True)
class Arguments:
    """What `plainvision pull` takes."""

    repo: Annotated[str, tyro.conf.Positional]
    """The repository on the Hub, OWNER/NAME or OWNER/NAME@REVISION."""
    out: Path | None = None
    """The file to write; by default NAME.safetensors."""
    revision: str | None = None
    """A branch, a tag or a commit; by default the main branch."""


def main(words: list[str]) -> None:
    """Pull, and say what it is."""
    arguments = parsed(Arguments, words, "pull", __doc__)

    from plainvision.hub import pull

    name = arguments.repo.partition("@")[0].rpartition("/")[2]
    out = arguments.out or Path(f"{name}.safetensors")
    check_writable(out, "--out")
    origin = pull(arguments.repo, out, revision=arguments.revision)
    form = ", in deployed form" if origin.deployed else ""
    say(f"{origin.recipe.model}{form}, {len(origin.classes)} classes, in {out}")
    say(f"Next: plainvision predict {out} PHOTO.jpg")
