"""The weights that a run starts from."""

from torch import nn

from plainvision.data.settings import RECORDED
from plainvision.models.loading import load_backbone, load_checkpoint
from plainvision.training.recipe import Recipe


def load_start(model: nn.Module, recipe: Recipe) -> None:
    """Load the weights that ``recipe`` starts from, if any, into its network: without a new classifier, all of them.

    Raises:
        FileNotFoundError, ValueError: there are no such weights, or they are not those of this network.
    """
    source = recipe.start_from
    if source is None:
        return
    if source.startswith(RECORDED):
        raise ValueError(
            f"the recipe's file records that its run started from {source.removeprefix(RECORDED)!r}, and a file opens "
            "nothing by itself. Give the weights with --start-from, or train from new ones with --start-from None"
            f"{' --no-new-classifier' if recipe.new_classifier else ''}."
        )
    load = load_backbone if recipe.new_classifier else load_checkpoint
    load(model, source)
