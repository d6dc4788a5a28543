"""Tell how much the frozen features of a network know of other classes: by a linear classifier, and by neighbours.

Features are computed once for a network, its images and their preparation, and kept on disk. The images are prepared as
the network's own were, without augmentation.

Example: plainvision probe tf_efficientnet_lite0 --checkpoint lite0.safetensors --data.root clothing.zip
"""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from plainvision.commands import Table, check_writable, parsed, say, show
from plainvision.commands.options.data import DataOptions, PreparationOptions, TrainingDataOptions, data_to_read
from plainvision.commands.options.network import NetworkOptions
from plainvision.commands.options.output import Device, OutputOptions
from plainvision.showing import shown

if TYPE_CHECKING:
    from plainvision.tasks.probing import Probe


@dataclass(frozen=True)
class Arguments:
    """What `plainvision probe` takes."""

    network: Annotated[NetworkOptions, tyro.conf.arg(name="")]
    """Which network, and whose weights."""
    data: DataOptions = field(default_factory=DataOptions)
    """The images: the training split trains, the validation split chooses C and the number of neighbours."""
    training: Annotated[TrainingDataOptions, tyro.conf.arg(name="data")] = field(default_factory=TrainingDataOptions)
    """How many of them train."""
    preparation: Annotated[PreparationOptions, tyro.conf.arg(name="data")] = field(default_factory=PreparationOptions)
    """How they are prepared."""
    test_split: str | None = None
    """The split that is scored; by default the one called test, and where there is none the validation split. Then
    cross-validation on the training split chooses."""
    save: Path | None = None
    """Write the network with the linear probe as its classifier to this .safetensors file."""
    json: Path | None = None
    """Where to write the record, with its command, machine and versions."""
    batch_size: int = 64
    """Images per pass."""
    cache: Path | None = None
    """The folder that keeps features; by default one beside the weights that torch downloads."""
    no_cache: bool = False
    """Read and keep no features."""
    device: Device = None


def main(words: list[str]) -> None:
    """Print both accuracies with their intervals, and write what was asked for."""
    arguments = parsed(Arguments, words, "probe", __doc__)

    import plainvision as pv
    from plainvision.inspection.devices import usable_device
    from plainvision.tasks.features import default_cache
    from plainvision.tasks.probed import probed_network
    from plainvision.training.weights_file import save_network

    device = usable_device(arguments.device)
    output = OutputOptions(json=arguments.json)
    output.check()
    if arguments.save is not None:
        check_writable(arguments.save, "--save")
    found = arguments.network.load()
    origin = None
    if arguments.save is not None:  # what cannot be saved says so before the work
        origin = found.origin or arguments.network.words.origin(found)
    data = data_to_read(found, arguments.data, arguments.training, arguments.preparation)
    cache = None if arguments.no_cache else arguments.cache or default_cache()
    result = pv.tasks.probe(
        found.model,
        data,
        test_split=arguments.test_split,
        batch_size=arguments.batch_size,
        device=device,
        cache=cache,
    )
    show(_table(result))
    for name in result.skipped:
        print(f"skipped {shown(name)}")
    say(
        f"{result.images} images of the split {result.split} of {data.root}; {result.training_images} trained, "
        f"{result.features} features{' from the cache' if result.cached else ''}; chosen by {result.chosen_on}"
    )
    if arguments.save is not None and origin is not None:
        network, described = probed_network(found.model, origin, data, result)
        save_network(arguments.save, network.state_dict(), described)
        print(f"network with the linear probe in {arguments.save}")
    name = Path(arguments.network.network).name
    claim = f"frozen features of {name} at {data.image_size} pixels, probed on {Path(data.root).name}"
    output.write(claim, {"rows": _rows(result)}, f"plainvision probe {shlex.join(words)}", None)


def _rows(result: "Probe") -> list[dict[str, Any]]:
    heads = {"linear": result.linear, "neighbours": result.neighbours}
    return [
        {
            "classifier": name,
            "setting": f"C {one.setting:g}" if name == "linear" else f"k {one.setting:g}",
            "chosen_by_top1": one.chosen_top1,
            "top1": one.top1,
            "top1_low": one.interval[0],
            "top1_high": one.interval[1],
            "split": result.split,
            "images": result.images,
            "training_images": result.training_images,
            "features": result.features,
        }
        for name, one in heads.items()
    ]


def _table(result: "Probe") -> Table:
    table = Table(
        ("classifier", "setting", f"top-1 %\n{result.split}", "95 %\ninterval", "top-1 %\nchosen by"), words=2
    )
    for row in _rows(result):
        numbers = (
            f"{row['top1']:.2f}",
            f"{row['top1_low']:.1f}–{row['top1_high']:.1f}",
            f"{row['chosen_by_top1']:.2f}",
        )
        table.add_row(row["classifier"], row["setting"], *numbers)
    return table
