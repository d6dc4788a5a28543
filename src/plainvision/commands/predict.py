"""Name the likeliest classes of photographs: of files, of folders with all that they hold, of .zip and .tar archives.

Example: plainvision predict runs/clothing hat.jpg shoe.jpg --top 2 --threshold 0.4 --csv named.csv
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from plainvision.commands import parsed
from plainvision.commands.options.answers import AnswerOptions, Written
from plainvision.commands.options.data import PhotographOptions, changed_data
from plainvision.commands.options.network import NetworkOptions, network_first
from plainvision.commands.options.output import Device


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

    import plainvision as pv
    from plainvision.commands.options.image_count import ImageCount
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
        threshold=arguments.answers.threshold_of(found.threshold),
        data=changed_data(found.data, arguments.data),
        top=arguments.answers.top,
        batch_size=arguments.batch_size,
        device="cpu" if runs_here else usable_device(arguments.device),
    )
    hidden = arguments.answers.is_piped and sys.stdout.isatty()
    with (
        ImageCount(hidden=hidden) as count,
        Written(arguments.answers, found.classes or (), count.aside, sets=found.threshold is not None) as written,
    ):
        try:
            for answer in answers:
                count.tell(answers.skipped)
                written.add(answers, answer)
                count.show(written.images)
        finally:
            count.tell(answers.skipped)


def _sources(words: tuple[str, ...]) -> Iterator[str]:
    """Yield paths, those of a list in its place."""
    from plainvision.data.photographs import paths_of_lines

    for word in words:
        if word == "-":
            yield from paths_of_lines(sys.stdin.buffer)
        else:
            yield word
