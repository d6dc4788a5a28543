"""Name the likeliest classes of photographs: of files, of folders with all that they hold, of .zip and .tar archives.

Example: plainvision predict runs/clothing hat.jpg shoe.jpg --top 2 --threshold 0.4 --csv named.csv
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import tyro

from plainvision.commands import parsed
from plainvision.commands.options.answers import AnswerOptions, Written
from plainvision.commands.options.data import PhotographOptions, changed_data
from plainvision.commands.options.network import NetworkOptions, network_first
from plainvision.commands.options.output import Device
from plainvision.showing import shown

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Images:
    """Which images; a group of its own, for words without a dash come in the order of their groups."""

    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")] = ()
    """Photographs, folders, .zip or .tar archives; - reads a list of such paths from standard input, one a line."""


@dataclass(frozen=True)
class Arguments:
    """What `plainvision predict` takes."""

    network: Annotated[NetworkOptions, tyro.conf.arg(name="")]
    """Which network, and whose weights."""
    images: Annotated[Images, tyro.conf.arg(name="")] = field(default_factory=Images)
    """Which images."""
    answers: Annotated[AnswerOptions, tyro.conf.arg(name="")] = field(default_factory=AnswerOptions)
    """What is said of each image, and where."""
    data: PhotographOptions = field(default_factory=PhotographOptions)
    """How the images are prepared; what is not given is as in training."""
    batch_size: int = 64
    """Images per pass."""
    device: Device = None


def main(words: list[str]) -> None:
    """Print or write an answer for each image, and tell on the error stream what could not be read."""
    arguments = parsed(Arguments, network_first(words), "predict", __doc__)
    images = arguments.images.paths
    if not images:
        raise ValueError(
            "give images behind the network: photographs, folders, archives, or - for a list of paths on standard "
            "input, for instance: plainvision predict runs/clothing shoe.jpg"
        )
    arguments.answers.check(images)

    from rich.console import Console
    from rich.progress import Progress, TextColumn

    import plainvision as pv
    from plainvision.inspection.devices import usable_device
    from plainvision.inspection.foreign import Foreign

    found = arguments.network.load()
    # What a runtime runs is on the CPU.
    runs_here = isinstance(found.model, Foreign) and arguments.device is None
    answers = pv.predict(
        found.model,
        _sources(images),
        classes=found.classes,
        temperature=found.temperature,
        data=changed_data(found.data, arguments.data),
        top=arguments.answers.top,
        batch_size=arguments.batch_size,
        device="cpu" if runs_here else usable_device(arguments.device),
    )
    console = Console(file=sys.stderr, markup=False, highlight=False, soft_wrap=True)
    seen = console.is_terminal and not (arguments.answers.is_piped and sys.stdout.isatty())
    bar = Progress(
        TextColumn("{task.completed} images"),
        console=console,
        disable=not seen,
        transient=True,
        redirect_stdout=False,  # what is printed there stays there
        redirect_stderr=False,
    )
    task, unread = bar.add_task("", total=None), 0

    def without_bar(print_page: Callable[[], None]) -> None:
        bar.stop()
        print_page()
        if seen:
            bar.start()

    with bar, Written(arguments.answers, found.classes or (), without_bar) as written:
        try:
            for answer in answers:
                unread += _tell(answers.skipped, console)
                written.add(answers, answer)
                bar.update(task, completed=written.images)
        finally:
            unread += _tell(answers.skipped, console)
    if unread:
        print(f"{unread} image{'' if unread == 1 else 's'} could not be read", file=sys.stderr)


def _sources(words: tuple[str, ...]) -> Iterator[str]:
    """Yield paths, those of a list in its place."""
    from plainvision.data.photographs import paths_of_lines

    for word in words:
        if word == "-":
            yield from paths_of_lines(sys.stdin.buffer)
        else:
            yield word


def _tell(skipped: list[str], console: "Console") -> int:
    """Print which images were skipped, forget them, and return how many they are."""
    for name in skipped:
        console.print(f"skipped {shown(name)}")
    told = len(skipped)
    skipped.clear()
    return told
