"""A run's folder: its recipe, metrics, weights and full state.

    recipe.json          what was asked for
    metrics.jsonl        one line per look at the loss and one per epoch
    best.safetensors     the best network so far by validation top-1, the average where the recipe keeps one; once
                         deep training has ended, the best that fuses
    last.safetensors     the newest
    state.pt             everything that a restart needs
    tensorboard/         where TensorBoard is installed

Weights carry the recipe in their header, so that a file alone says which network it belongs to.
"""

from pathlib import Path

from torch import Tensor

from plainvision.training.recipe import Recipe
from plainvision.training.resumable import ResumableFolder
from plainvision.training.weights_file import Origin, save_network

WEIGHTS = ("best", "last")


class RunFolder(ResumableFolder):
    """The files of one run; in a distributed run, only the main process writes.

    Raises:
        ValueError: the folder holds another recipe's run, this one's without ``resume``, or nothing to resume.
    """

    file = "recipe.json"
    noun = "run"
    other = "a run of another recipe, {}"
    advice = "the recipe and the overrides of that run"
    free = ("machine.", "data.workers")  # how the run uses the hardware

    def __init__(self, path: str | Path, recipe: Recipe, *, resume: bool) -> None:
        self.recipe = recipe
        self.this = f"a run of the recipe {recipe.name!r}"
        super().__init__(path, recipe.to_dict(), resume=resume)

    def save_weights(self, kind: str, weights: dict[str, Tensor], classes: tuple[str, ...], epoch: int) -> None:
        """Write the weights of the network as it is in ``epoch``; ``kind`` is "best" or "last"."""
        save_network(self.path / f"{kind}.safetensors", weights, Origin(self.recipe, classes, epoch))
