"""A learning rate for a recipe: tried, drawn and shown in place of a training run."""

from pathlib import Path

from plainvision.commands import Table, check_writable, say, show
from plainvision.training.recipe import Recipe

# More steps where so few show no fall, and no further ones.
_STEPS = (100, 300)
_ROWS = 12


def find_learning_rate(recipe: Recipe, file: Path) -> None:
    """Run the range test of a recipe, show what it saw, and draw it into ``file``."""
    check_writable(file, "--out")

    from plainvision.figures.learning_rates import learning_rate_figure
    from plainvision.figures.style import save
    from plainvision.training.learning_rates import range_test

    for steps in _STEPS:
        say(f"recipe {recipe.name}: up to {steps} steps of {recipe.batch_size} images, rates from 1e-5 to 10")
        test = range_test(recipe, steps=steps)
        if test.suggested is not None:
            break
    marks = {test.steepest: "falls fastest", test.lowest: "is lowest"} if test.suggested else {}
    some = range(0, len(test.rates), max(1, len(test.rates) // _ROWS))
    table = Table(("the loss", "learning rate", "loss"), caption="the loss is the average of neighbouring steps")
    for rate, loss in zip(test.rates, test.smoothed, strict=True):
        if rate in marks or test.rates.index(rate) in some:
            table.add_row(marks.get(rate, ""), f"{rate:.1e}", f"{loss:.3f}")
    show(table)
    drawn = learning_rate_figure(test.rates, test.losses, test.smoothed, suggested=test.suggested, own=recipe.lr)
    save(drawn, file)
    say(f"{test.reason[0].upper()}{test.reason[1:]}")
    say(f"figure in {file}")
    if test.suggested is not None:
        say(f"suggested: --lr {test.suggested:.1e} (the recipe has {recipe.lr:g}), for batch_size={recipe.batch_size}")
