"""What the verbs of `plainvision detect` and `plainvision segment` share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from plainvision.tasks.loaded import LoadedTask


@dataclass(frozen=True)
class TrainedOptions:
    """A trained network."""

    network: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK")]
    """A run's folder, or a weights file; :deployed behind it is its fused form. Or a deployed folder."""
    weights: str = "best"
    """Which weights of a run: best or last."""

    def load(self, command: str) -> "LoadedTask":
        """Return the network; one of another task is a `ValueError`."""
        from plainvision.tasks.loaded import load

        if self.weights not in ("best", "last"):
            raise ValueError(f"--weights {self.weights}: a run has its best weights and its last. Give best or last.")
        found = load(self.network, weights="last" if self.weights == "last" else "best")
        if found.task.command != command:
            raise ValueError(
                f"{self.network} was trained to {found.task.command}, and this is plainvision {command}. Use "
                f"`plainvision {found.task.command}`."
            )
        return found


@dataclass(frozen=True)
class PhotographArguments:
    """Which images; a group of its own, for words without a dash come in the order of their groups."""

    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")] = ()
    """Photographs, folders, .zip or .tar archives."""

    def check(self, command: str) -> None:
        """Raise a `ValueError` where there is none."""
        if not self.paths:
            raise ValueError(
                "give images behind the network: photographs, folders or archives, for instance: plainvision "
                f"{command} predict runs/a photo.jpg"
            )
