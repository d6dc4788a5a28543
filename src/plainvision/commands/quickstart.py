"""Train a narrow VanillaNet on embedded digits, fuse it, verify it, time it, and explain all of it in one page.

Example: plainvision quickstart --out runs/quickstart
"""

from dataclasses import dataclass
from pathlib import Path

from plainvision.commands import parsed


@dataclass(frozen=True)
class Arguments:
    """What `plainvision quickstart` takes."""

    out: Path = Path("runs/quickstart")
    """Where the run and the report go."""


def main(words: list[str]) -> None:
    """Run it, and say where the report is."""
    arguments = parsed(Arguments, words, "quickstart", __doc__)

    from rich.console import Console

    from plainvision.processes import TrainingInterrupted
    from plainvision.quickstart import quickstart

    try:
        found = quickstart(arguments.out, console=Console())
    except TrainingInterrupted:
        # Training would advise --resume, which a quickstart needs not be told.
        again = "everything so far is saved; run the same command again to continue"
        raise TrainingInterrupted(f"stopped: {again}.") from None
    print(f"trained in {found.seconds:.0f} s: {found.training_form.top1:.2f} % of the test images are named rightly")
    print(f"fused: {found.fusion}")
    print(f"the deployed form scores {found.deployed_form.top1:.2f} %")
    print(f"Open {found.page} in a browser.")
