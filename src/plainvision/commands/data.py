"""Look at images before training: how many of each class, which cannot be read, which are there twice.

Example: plainvision data clothing.zip --validation-split test --out data.html
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from plainvision.commands import Table, check_writable, parsed, say, show

# So many classes and names are printed; the page has more.
_CLASSES, _NAMES = 40, 10


@dataclass(frozen=True)
class Arguments:
    """What `plainvision data` takes."""

    root: Annotated[str, tyro.conf.Positional]
    """A folder of class folders, a .zip or .tar of one, `hfds/NAME`, or `digits` (embedded)."""
    validation_root: str | None = None
    """Where the validation split is, when it is not under the root."""
    train_split: str = "train"
    """Name of the training split."""
    validation_split: str = "validation"
    """Name of the validation split."""
    validation_share: float | None = None
    """Without a validation split: survey the one that training would draw with this share of each class."""
    split_seed: int = 0
    """Decides which images that share draws."""
    labels: str | None = None
    """A .csv with the columns image,label or image,label,split, for images in no class folders."""
    image_size: int = 224
    """Mean and std are of images of this side, in pixels."""
    max_pixels: int = 89_478_485
    """An image of more pixels counts as one that cannot be read."""
    out: Path = Path("data.html")
    """The page: tables, pictures of each class, and what is there twice."""


def main(words: list[str]) -> None:
    """Print what there is, and write the page."""
    arguments = parsed(Arguments, words, "data", __doc__)
    check_writable(arguments.out, "--out")
    from rich.console import Console
    from rich.progress import Progress

    from plainvision.data.settings import Data
    from plainvision.data.survey import survey_images
    from plainvision.figures.survey import class_rows, copies_lines, findings, survey_page, survey_rows

    data = Data(
        root=arguments.root,
        validation_root=arguments.validation_root,
        train_split=arguments.train_split,
        validation_split=arguments.validation_split,
        validation_share=arguments.validation_share,
        split_seed=arguments.split_seed,
        labels=arguments.labels,
        image_size=arguments.image_size,
        max_pixels=arguments.max_pixels,
    )
    console = Console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading")
        survey = survey_images(data, lambda done, total: bar.update(task, completed=done, total=total))
    show(Table.of(survey_rows(survey)))
    show(Table.of(class_rows(survey)[:_CLASSES]))
    classes = len(survey.splits[0].per_class)
    if classes > _CLASSES:
        say(f"and {classes - _CLASSES} more classes")
    names = [name for one in survey.splits for name in one.unreadable]
    _list([f"cannot read {name}" for name in names], sum(one.unreadable_count for one in survey.splits))
    _list([f"equal: {line}" for line in copies_lines(survey.copies)], survey.copies_count)
    for finding in findings(survey):
        say(finding)
    survey_page(survey, arguments.root).write(arguments.out)
    say(f"page in {arguments.out}")


def _list(lines: list[str], count: int) -> None:
    """Print the first of some lines, and how many more there are."""
    for line in lines[:_NAMES]:
        say(line)
    if count > _NAMES:
        say(f"and {count - _NAMES} more")
