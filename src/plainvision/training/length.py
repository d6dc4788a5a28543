"""A recipe for a run of another length."""

from dataclasses import replace

from plainvision.training.recipe import Recipe


def for_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """Return ``recipe`` for ``epochs``: what is counted in epochs keeps its part of the run, rounded.

    What ended before the run did still does.

    Raises:
        ValueError: ``epochs`` is below 1.
    """

    def share(part: int) -> int:
        scaled = round(part * epochs / recipe.epochs)
        return min(scaled, epochs - 1) if part < recipe.epochs else max(scaled, 1)

    return replace(
        recipe,
        epochs=epochs,
        warmup_epochs=share(recipe.warmup_epochs),
        decay_epochs=max(1, share(recipe.decay_epochs)) if recipe.schedule == "step" else recipe.decay_epochs,
        techniques=tuple(technique.scaled(share) for technique in recipe.techniques),
    )
