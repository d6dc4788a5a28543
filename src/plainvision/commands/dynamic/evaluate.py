"""Pass every image through every permutation of a network's options, and keep the outcomes in a folder.

The same command goes on with what is in the folder. `accelerate launch -m plainvision dynamic evaluate ...` shares the
images among processes.

Example: plainvision dynamic evaluate runs/resnet --stride A=1,2 B=1,2,3 --data.root clothing.zip --out runs/ab
"""

import math
import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from plainvision.commands import Table, parsed, say, show
from plainvision.commands.dynamic.printed import ORACLE
from plainvision.commands.dynamic.progress import EvaluationProgress
from plainvision.commands.dynamic.space import SpaceOptions
from plainvision.commands.options.data import DataOptions, PreparationOptions, data_to_read
from plainvision.commands.options.network import NetworkOptions, network_first
from plainvision.commands.options.output import Device, KeptOutputOptions
from plainvision.showing import shown
from plainvision.training.network_words import Network

if TYPE_CHECKING:
    from plainvision.dynamic.network import DynamicNetwork
    from plainvision.training.recipe import Data


@dataclass(frozen=True)
class Arguments:
    """What `plainvision dynamic evaluate` takes."""

    network: Annotated[NetworkOptions, tyro.conf.arg(name="")]
    """Which network, and whose weights."""
    out: Path
    """The folder of the outcomes."""
    options: Annotated[SpaceOptions, tyro.conf.arg(name="")] = field(default_factory=SpaceOptions)
    """What changes, and where."""
    space: Path | None = None
    """Or evaluate the permutations in this file, which `plainvision dynamic greedy --combine` wrote."""
    data: DataOptions = field(default_factory=DataOptions)
    """The images."""
    preparation: Annotated[PreparationOptions, tyro.conf.arg(name="data")] = field(default_factory=PreparationOptions)
    """How they are prepared."""
    batch_size: int = 32
    """Images per pass."""
    controls: bool = True
    """Also let the trained network look at as many other views of each image as there are permutations."""
    share: bool = True
    """Compute once what permutations share, instead of a whole pass for each."""
    scale: float = 1.0
    """Enlarge the prepared images by so much (Figure 5)."""
    context: int | None = None
    """Crop so many pixels about the centre of the resized images (Figure 7)."""
    device: Device = None
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the passes."""
    output: Annotated[KeptOutputOptions, tyro.conf.arg(name="")] = field(default_factory=KeptOutputOptions)
    """What is written beside the outcomes: Figure 2, unique_predictions.png, and scores.json."""


def main(words: list[str]) -> None:
    """Evaluate, print the scores, and write them with their figure."""
    arguments = parsed(Arguments, network_first(words), "dynamic evaluate", __doc__)
    if arguments.space is not None and (arguments.options.values() or arguments.options.attribute):
        raise ValueError("--space lists the permutations, and other options would give others. Give one of them.")
    if arguments.batch_size < 1:
        raise ValueError(f"--batch-size {arguments.batch_size} leaves no images for a pass. Give 1 or more.")

    from plainvision.dynamic.evaluation import evaluate
    from plainvision.dynamic.tables import changed, facts
    from plainvision.figures.outcomes import unique_predictions
    from plainvision.inspection.devices import usable_device
    from plainvision.processes import process_group

    processes = process_group()
    several, is_main = processes.num_processes > 1, processes.is_main_process
    if is_main:
        arguments.output.check()
    processes.wait_for_everyone()
    found = arguments.network.load()
    found.refuse_sets("dynamic")
    data = data_to_read(found, arguments.data, arguments.preparation)
    dynamic = _dynamic(arguments, found, data)
    if is_main:
        layers = ", ".join(f"{site} {layer}" for site, layer in dynamic.described_sites.items())
        left = sum(dynamic.left_out.values())
        say(
            f"{dynamic.name}: {len(dynamic.permutations)} permutations of {' and '.join(dynamic.space.attributes)} at "
            f"{layers}" + (f"; {left} left out" if left else "")
        )
    try:
        with EvaluationProgress(visible=is_main, processes=processes.num_processes) as progress:
            given = ("out", "batch_size", "controls", "share", "scale", "context", "precision")
            outcomes = evaluate(
                dynamic,
                data,
                classes=found.classes,
                device=None if several and arguments.device is None else usable_device(arguments.device),
                on_progress=progress,
                **{name: getattr(arguments, name) for name in given},
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; what is finished is in {arguments.out}. The same command goes on:\n"
            f"  plainvision dynamic evaluate {shlex.join(words)}"
        ) from None
    if not is_main:
        return
    for name in outcomes.skipped:
        print(f"skipped {shown(name)}")
    scores, table = outcomes.scores(), Table(("what", "uses the labels", "top-1 %"), words=2)
    for row in scores:
        table.add_row(row["what"], row["uses the labels"], f"{row['top-1 %']:.2f}")
    show(table)
    print(f"{len(outcomes.names)} images, {len(outcomes.permutations)} permutations. {ORACLE}")
    for reason, count in outcomes.left_out.items():
        say(f"{count} permutations are left out: {reason}")
    claim = f"every permutation of {outcomes.network} on every image, and what an oracle could make of that"
    record = {**facts(outcomes), "scores": scores}
    output = arguments.output.beside(arguments.out, "unique_predictions.png", "scores.json")
    drawn = unique_predictions({changed(outcomes): outcomes.unique_predictions()})
    output.write(claim, record, f"plainvision dynamic evaluate {shlex.join(words)}", drawn)
    say(f"outcomes in {arguments.out}. Next: plainvision dynamic bounds {shlex.quote(str(arguments.out))}")


def _dynamic(arguments: Arguments, network: Network, data: "Data") -> "DynamicNetwork":
    """Return the network with its permutations, those that can be computed for the images as it will see them."""
    from plainvision.dynamic.space import Space
    from plainvision.dynamic.space_file import read_space

    space, names = read_space(arguments.space) if arguments.space else (None, None)
    dynamic = arguments.options.network(network.model, data.image_size, network.name, space)
    if names is not None and names != tuple(dynamic.sites):
        raise ValueError(
            f"{arguments.space} is for the sites {', '.join(names)}, and {dynamic.name} has "
            f"{', '.join(dynamic.sites)}. Give the network and the --sites that it was written for."
        )
    side = data.image_size if arguments.context is None else arguments.context
    if not 0 < arguments.scale < math.inf or side < 1 or int(side * arguments.scale) < 1:
        raise ValueError(
            f"--scale {arguments.scale:g} leaves nothing of images of {side} pixels. Give a scale above zero."
        )
    side = int(side * arguments.scale)
    if side == data.image_size:
        return dynamic
    # The permutations are those of every scale; where some cannot be computed at this one, they are left out.
    again = arguments.options.network(network.model, side, network.name, Space(chosen=dynamic.permutations))
    again.left_out = dict(Counter(dynamic.left_out) + Counter(again.left_out))
    return again
