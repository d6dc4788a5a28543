"""`--batch-size auto`: the recipe's batch in as few passes as fit into the GPU."""

from plainvision.commands import say
from plainvision.training.recipe import Recipe

_OPTION = ("--batch-size", "--batch_size")


def without_auto(words: list[str]) -> tuple[list[str], bool]:
    """Return the words without ``--batch-size auto``, and whether it was among them."""
    left: list[str] = []
    for word in words:
        if word == "auto" and left and left[-1] in _OPTION:
            left.pop()
        elif word not in [f"{option}=auto" for option in _OPTION]:
            left.append(word)
    return left, len(left) < len(words)


def fitted(recipe: Recipe) -> Recipe:
    """Return the recipe in as few passes as fit, and say in how many."""
    from plainvision.training.passes import fitting_passes

    found = fitting_passes(recipe)
    passes = found.machine.accumulate
    say(
        f"batch_size=auto: a step of {recipe.batch_size} images fits in "
        + ("one pass" if passes == 1 else f"{passes} passes of {recipe.batch_size // passes} (machine.accumulate)")
    )
    return found
