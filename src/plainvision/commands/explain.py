"""Show where networks look: their attention maps or Grad-CAM over images, as a figure.

Of one network, a row per image and a map per class; of several, a row per network.

Example: plainvision explain shoe.jpg hat.jpg --model runs/clothing --out maps.pdf
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from plainvision.commands import check_writable, parsed, say
from plainvision.commands.options.data import PreparationOptions, changed_data
from plainvision.commands.options.network import NetworksOptions
from plainvision.commands.options.output import Device

if TYPE_CHECKING:
    from plainvision.explain.explanation import Explanation


@dataclass(frozen=True)
class Arguments:
    """What `plainvision explain` takes."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files of images."""
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
    out: Path = Path("maps.png")
    """The figure: a .png, .pdf or .svg file."""
    device: Device = None


def main(words: list[str]) -> None:
    """Print what each network answers, and write the figure."""
    arguments = parsed(Arguments, words, "explain", __doc__)
    if not arguments.images or not arguments.model:
        raise ValueError(
            "give images and networks, for instance: plainvision explain shoe.jpg --model runs/clothing --out maps.png"
        )

    from plainvision.explain.deletion import deletion
    from plainvision.explain.explanation import class_index, class_names, explain_image
    from plainvision.explain.pictures import check_files, read_picture
    from plainvision.figures.maps import class_maps, compare
    from plainvision.figures.style import check_format, save
    from plainvision.inspection.devices import usable_device

    check_format(arguments.out)
    check_writable(arguments.out, "--out")
    check_files(arguments.images)
    device = usable_device(arguments.device)
    explained: dict[str, list[Explanation]] = {}
    for label, network in arguments.networks.load(arguments.model).items():
        data = changed_data(network.data, arguments.data)
        # What timm and we call num_classes; without it there are no logits to explain either.
        names = network.classes or class_names(getattr(network.model, "num_classes", 0))
        chosen = [class_index(word, names) for word in arguments.classes] or None
        model = network.model.to(device)
        explained[label] = []
        for path in arguments.images:
            image, picture = read_picture(path, data)
            one = explain_image(
                model,
                image.to(device),
                picture,
                names=names,
                top=arguments.top,
                classes=chosen,
                method=arguments.method,
                layer=arguments.layer,
                temperature=network.temperature,
            )
            say(f"{path}  {label}, {one.method}: {one}")
            if one.doubt:
                say(f"  {one.doubt}")
            if arguments.deletion:
                maps = one.maps[:1] if len(arguments.model) > 1 else one.maps  # of several networks one map is drawn
                own = one.indices[: len(maps)]
                how: dict[str, Any] = {"cover": arguments.cover, "temperature": network.temperature}
                found = deletion(model, image.to(device), maps, own, **how)
                one = replace(one, deletions=found)
                for name, each in zip(one.classes, found, strict=False):
                    say(f"  {name}: {each}")
            explained[label].append(one)
    titles = [path.name for path in arguments.images]
    if len(explained) == 1:
        ((label, explanations),) = explained.items()
        figure = class_maps(explanations, titles=titles, label=label, smooth=arguments.smooth)
    else:
        figure = compare(explained, titles=titles, smooth=arguments.smooth)
    save(figure, arguments.out)
    print(f"figure in {arguments.out}")
