"""Draw the objects in photographs, and write them as COCO's results.

Example: plainvision detect predict runs/trees tree.jpg --out found --score 0.4
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
    """What `plainvision detect predict` takes."""

    network: Annotated[TrainedOptions, tyro.conf.arg(name="")]
    """Which network."""
    images: Annotated[PhotographArguments, tyro.conf.arg(name="")] = field(default_factory=PhotographArguments)
    """Which images."""
    out: Path = Path("found")
    """The folder for the drawings and for results.json."""
    score: float = 0.5
    """Leave out what is less sure than this."""
    device: Device = None


def main(words: list[str]) -> None:
    """Draw each photograph, and say what was found."""
    arguments = parsed(Arguments, words, "detect predict", __doc__)
    arguments.images.check("detect")

    from plainvision.tasks.average_precision import results_of
    from plainvision.tasks.drawing import draw_objects
    from plainvision.tasks.finding import Skipped, find_objects

    found = arguments.network.load("detect")
    drawings = Drawings(arguments.out)
    ids = range(1, len(found.classes) + 1)
    images: list[dict[str, object]] = []
    results: list[dict[str, object]] = []
    for one in find_objects(found, arguments.images.paths, least_score=arguments.score, device=arguments.device):
        if isinstance(one, Skipped):
            print(f"skipped {one.reason}", file=sys.stderr)
            continue
        number = len(images) + 1
        size = {"width": one.picture.width, "height": one.picture.height}
        images.append({"id": number, "file_name": one.name, **size})
        answer = {"boxes": one.boxes, "labels": one.labels, "scores": one.scores}
        masks = one.masks is not None
        if one.masks is not None:
            answer["masks"] = one.masks
        for result in results_of(answer, number, ids, masks=masks):
            if masks:
                counts = result["segmentation"]["counts"]
                text = counts.decode() if isinstance(counts, bytes) else counts
                result["segmentation"] = {"size": list(result["segmentation"]["size"]), "counts": text}
            results.append(result)
        drawn, place = draw_objects(one, found.classes), drawings.place(one.name, ".png")
        write_whole(place, drawn.save)
        counts_of = {name: (one.labels == i).sum().item() for i, name in enumerate(found.classes, 1)}
        say(f"{one.name}: " + (", ".join(f"{n} {name}" for name, n in counts_of.items() if n) or "nothing"))
    if not images:
        raise ValueError("no image could be read. Correct the paths, or give other images.")
    categories = [{"id": number, "name": name} for number, name in zip(ids, found.classes, strict=True)]
    write_json(arguments.out / "results.json", results)
    write_json(arguments.out / "images.json", {"images": images, "categories": categories})
    say(f"{len(results)} objects in {len(images)} images; drawings and results.json in {arguments.out}")
