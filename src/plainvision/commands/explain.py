"""Show where networks look: their attention maps or Grad-CAM over images, as a figure.

Of one network, a row per image and a map per class; of several, a row per network.

Example: plainvision explain shoe.jpg hat.jpg --model runs/clothing --out maps.pdf
         plainvision explain --model runs/clothing --data.root clothing.zip --wrong 4 --out wrong.png
"""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from plainvision.commands import check_writable, parsed, say
from plainvision.commands.options.data import DataOptions, PreparationOptions, changed_data, data_to_read
from plainvision.commands.options.network import NetworksOptions
from plainvision.commands.options.output import Device

if TYPE_CHECKING:
    from plainvision.explain.explanation import Explanation
    from plainvision.training.chosen_images import ChosenImage
    from plainvision.training.network_words import Network


@dataclass(frozen=True)
class Arguments:
    """What `plainvision explain` takes."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files of images."""
    wrong: int = 0
    """Of the images of --data.root, explain so many that the first network gets wrong, those of the largest loss."""
    correct: int = 0
    """And so many that it gets right, those of the least loss."""
    model: tuple[str, ...] = ()
    """One network or more: folders of runs, .safetensors files that plainvision wrote, or names (ours, timm's,
    torchvision/NAME) with their options: NAME:option=value,..."""
    networks: Annotated[NetworksOptions, tyro.conf.arg(name="")] = field(default_factory=NetworksOptions)
    """Whose weights."""
    method: Literal["attention", "gradcam"] | None = None
    """Which maps; by default attention where the network has it, else Grad-CAM."""
    top: int = 3
    """Explain this many of the likeliest classes."""
    classes: tuple[str, ...] = ()
    """Explain these classes instead, by name or number."""
    source: Annotated[DataOptions, tyro.conf.arg(name="data")] = field(default_factory=DataOptions)
    """The images that --wrong and --correct choose from."""
    data: PreparationOptions = field(default_factory=PreparationOptions)
    """How the images are prepared."""
    layer: str | None = None
    """The layer that Grad-CAM looks at; by default the last one that still has places."""
    smooth: bool = False
    """Blend neighbouring patches instead of drawing squares."""
    deletion: bool = True
    """Tell how the confidence falls as patches are covered, by the map and at random: some 60 more passes an image."""
    cover: Literal["mean", "blur"] = "mean"
    """What covers a patch: the image's mean colour, or the blurred image."""
    keep: Path | None = None
    """Keep what is finished in this folder: the same command, after a stop, goes on with the images left."""
    out: Path = Path("maps.png")
    """The figure: a .png, .pdf or .svg file."""
    device: Device = None


def main(words: list[str]) -> None:
    """Print what each network answers, and write the figure."""
    arguments = parsed(Arguments, words, "explain", __doc__)
    chooses = arguments.wrong != 0 or arguments.correct != 0
    if (not arguments.images and not chooses) or not arguments.model:
        raise ValueError(
            "give images and networks, for instance: plainvision explain shoe.jpg --model runs/clothing --out maps.png"
        )
    if chooses and arguments.images:
        raise ValueError(
            f"--wrong and --correct choose images of --data.root, and {arguments.images[0]} is one already. Leave the "
            "files out, or these options."
        )

    from plainvision.explain.explanation import class_index, class_names
    from plainvision.explain.keeping import KeptExplanations
    from plainvision.explain.pictures import as_seen, check_files, read_picture
    from plainvision.figures.maps import class_maps, compare
    from plainvision.figures.style import check_format, save
    from plainvision.inspection.devices import usable_device

    check_format(arguments.out)
    check_writable(arguments.out, "--out")
    check_files(arguments.images)
    device = usable_device(arguments.device)
    explained: dict[str, list[Explanation]] = {}
    networks = arguments.networks.load(arguments.model)
    chosen = _chosen(arguments, next(iter(networks.values())), device) if chooses else []
    titles = [_title(one.prediction.name) for one in chosen] or [path.name for path in arguments.images]
    for label, network in networks.items():
        data = changed_data(network.data, arguments.data)
        # What timm and we call num_classes; without it there are no logits to explain either.
        names = network.classes or class_names(getattr(network.model, "num_classes", 0))
        asked = [class_index(word, names) for word in arguments.classes] or None
        model = network.model.to(device)
        keeper = KeptExplanations(arguments.keep, model)
        explained[label] = []
        read = [partial(as_seen, one.picture) for one in chosen]
        read = read or [partial(read_picture, path) for path in arguments.images]
        for place, name in enumerate(arguments.images or [one.prediction.name for one in chosen]):
            image, picture = read[place](data)
            how: dict[str, Any] = {"top": arguments.top, "classes": asked, "names": names}
            how |= {"method": arguments.method, "layer": arguments.layer}
            how |= {"temperature": network.temperature, "threshold": network.threshold}
            covered = None if not arguments.deletion else arguments.cover
            several = len(arguments.model) > 1  # of several networks one map is drawn
            explain = partial(_explained, model, image.to(device), picture, how, covered, several)
            one = keeper(image, {**how, "cover": covered, "several": several}, explain)
            say(f"{name}  {label}, {one.method}: {one}")
            if place < len(chosen):
                said = chosen[place].prediction
                say(f"  its class is {said.label}; {next(iter(networks))} says {said.predicted}")
            if one.doubt:
                say(f"  {one.doubt}")
            for explained_class, each in zip(one.classes, one.deletions, strict=False):
                say(f"  {explained_class}: {each}")
            explained[label].append(one)
    if len(explained) == 1:
        ((label, explanations),) = explained.items()
        figure = class_maps(explanations, titles=titles, label=label, smooth=arguments.smooth)
    else:
        figure = compare(explained, titles=titles, smooth=arguments.smooth)
    save(figure, arguments.out)
    print(f"figure in {arguments.out}")


def _explained(
    model: Any, image: Any, picture: Any, how: dict[str, Any], cover: Literal["mean", "blur"] | None, several: bool
) -> "Explanation":
    """Return the explanation of an image, with how far to trust its maps unless nothing is to be covered."""
    from plainvision.explain.deletion import deletion
    from plainvision.explain.explanation import explain_image

    one = explain_image(model, image, picture, **how)
    if cover is None:
        return one
    maps = one.maps[:1] if several else one.maps
    confidences = {name: how[name] for name in ("temperature", "threshold")}
    found = deletion(model, image, maps, one.indices[: len(maps)], cover=cover, **confidences)
    return replace(one, deletions=found)


def _title(name: str) -> str:
    """Return the last folder of an image's name, which is its class, with its file."""
    return "/".join(name.rsplit("/", 2)[-2:])


def _chosen(arguments: Arguments, network: "Network", device: Any) -> "list[ChosenImage]":
    from plainvision.training.chosen_images import chosen_images

    network.refuse_sets("the choice by --wrong and --correct")
    found = chosen_images(
        network.model,
        data_to_read(network, arguments.source, arguments.data),
        classes=network.classes,
        wrong=arguments.wrong,
        correct=arguments.correct,
        device=device,
        temperature=network.temperature,
        keep=arguments.keep,
    )
    if not found:
        raise ValueError(
            "the network gets none of the images wrong, so that --wrong finds nothing. Ask for --correct ones, or give "
            "other images with --data.validation-split."
        )
    return found
