"""Draw the classes over photographs, and write their maps: a PNG whose pixels are the numbers of classes, from 0.

Example: plainvision segment predict runs/fields field.jpg --out areas
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from plainvision.commands import parsed, say
from plainvision.commands.options.drawings import Drawings
from plainvision.commands.options.output import Device
from plainvision.commands.options.task import PhotographArguments, TrainedOptions
from plainvision.files import write_json, write_whole


@dataclass(frozen=True)
class Arguments:
    """What `plainvision segment predict` takes."""

    network: Annotated[TrainedOptions, tyro.conf.arg(name="")]
    """Which network."""
    images: Annotated[PhotographArguments, tyro.conf.arg(name="")] = field(default_factory=PhotographArguments)
    """Which images."""
    out: Path = Path("areas")
    """The folder for the drawings, the maps and classes.json."""
    scales: tuple[float, ...] = (1.0,)
    """Answer the image at each of these sizes, and take the mean."""
    flip: bool = False
    """Answer the mirrored image too."""
    device: Device = None


def main(words: list[str]) -> None:
    """Draw each photograph, and say which classes it has."""
    arguments = parsed(Arguments, words, "segment predict", __doc__)
    arguments.images.check("segment")

    from PIL import Image

    from plainvision.tasks.drawing import draw_areas
    from plainvision.tasks.finding import Skipped, find_areas

    found = arguments.network.load("segment")
    drawings, maps, count = Drawings(arguments.out), Drawings(arguments.out / "maps"), 0
    answers = find_areas(
        found, arguments.images.paths, scales=arguments.scales, flip=arguments.flip, device=arguments.device
    )
    for one in answers:
        if isinstance(one, Skipped):
            print(f"skipped {one.reason}", file=sys.stderr)
            continue
        count += 1
        write_whole(drawings.place(one.name, ".png"), draw_areas(one, found.classes).save)
        write_whole(maps.place(one.name, ".png"), Image.fromarray(one.labels).save)
        shares = [(100 * (one.labels == i).mean(), name) for i, name in enumerate(found.classes)]
        named = ", ".join(f"{name} {share:.1f} %" for share, name in sorted(shares, reverse=True)[:5] if share)
        say(f"{one.name}: {named}")
    if not count:
        raise ValueError("no image could be read. Correct the paths, or give other images.")
    write_json(arguments.out / "classes.json", {"classes": list(found.classes)})
    say(f"{count} images; drawings in {arguments.out}, maps in {arguments.out / 'maps'}")
