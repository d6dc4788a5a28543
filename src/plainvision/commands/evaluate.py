"""Score a trained network on the validation split of its data, or of other data.

Example: plainvision evaluate runs/clothing --data.root clothing.zip --data.validation-split test --fuse --csv test.csv
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from plainvision.commands import Table, check_writable, parsed, say, show
from plainvision.commands.options.data import DataOptions, PreparationOptions, changed_data, need_root
from plainvision.commands.options.network import network_words
from plainvision.showing import shown

if TYPE_CHECKING:
    from plainvision.training.recipe import Data


@dataclass(frozen=True)
class Arguments:
    """What `plainvision evaluate` takes."""

    source: Annotated[str | None, tyro.conf.Positional] = None
    """The folder of a run, or a .safetensors file that plainvision wrote."""
    model: str | None = None
    """Instead of a source: the name of a network, with its options as NAME:option=value,..., whose weights
    --checkpoint gives."""
    checkpoint: str | None = None
    """Path or URL of weights for --model, ours or the official ones."""
    weights: Literal["best", "last"] = "best"
    """Which weights of a run."""
    data: DataOptions = field(default_factory=DataOptions)
    """The data to score on; what is not given is as in training."""
    preparation: Annotated[PreparationOptions, tyro.conf.arg(name="data")] = field(default_factory=PreparationOptions)
    """How they are prepared."""
    fuse: bool = False
    """Fuse the network, and compare both forms."""
    csv: Path | None = None
    """Write every prediction to this file. An image's name is a path in the folder, or the archive, of the last
    column."""
    batch_size: int = 64
    """Images per pass."""
    device: str | None = None
    """Where to compute: cpu, cuda, ...; by default a GPU where there is one."""


def main(words: list[str]) -> None:
    """Print top-1 and top-5, and top-1 per class."""
    arguments = parsed(Arguments, words, "evaluate", __doc__)
    if (arguments.source is None) == (arguments.model is None):
        raise ValueError("give either the folder of a run, or --model with --checkpoint, to say what to evaluate.")
    if (arguments.checkpoint is None) != (arguments.model is None):
        raise ValueError("--model and --checkpoint belong together: the name of a network, and its weights.")
    words_of = network_words(arguments.source or arguments.model or "")

    import plainvision as pv
    from plainvision.data.batches import EvaluationBatches
    from plainvision.files import write_csv
    from plainvision.inspection.devices import usable_device

    device = usable_device(arguments.device)
    if arguments.csv is not None:
        check_writable(arguments.csv, "--csv")
    found = words_of.load(arguments.checkpoint, weights=arguments.weights)
    if not words_of.is_ours:
        need_root(arguments.data)
    network, classes = found.model, found.classes
    data = changed_data(found.data, arguments.data, arguments.preparation)
    forms = {"as it is": network}
    if arguments.fuse:
        forms["deployed"] = pv.fuse(network, image_size=data.image_size)
    batches = EvaluationBatches(data, batch_size=arguments.batch_size, classes=classes)
    results = {
        form: pv.training.evaluate(model, batches, classes=batches.classes, device=device)
        for form, model in forms.items()
    }

    table = Table(("", *results))
    table.add_row("top-1 %", *(f"{result.top1:.2f}" for result in results.values()))
    table.add_row("top-5 %", *(f"{result.top5:.2f}" for result in results.values()))
    table.add_row("loss", *(f"{result.loss:.4f}" for result in results.values()), end_section=True)
    for name in next(iter(results.values())).per_class:
        table.add_row(name, *(f"{result.per_class[name]:.2f}" for result in results.values()))
    show(table)
    first = next(iter(results.values()))
    say(f"{first.images} images of {data.validation_root or data.root}")
    for name in first.skipped:
        print(f"skipped {shown(name)}")
    if arguments.fuse:
        same = sum(a.predicted == b.predicted for a, b in zip(*(r.predictions for r in results.values()), strict=True))
        print(f"both forms name the same class for {same} of {first.images} images")
    if arguments.csv is not None:
        place = _place(data)
        rows = [
            [p.name, p.label, p.predicted, f"{p.confidence:.6f}", form, place]
            for form, result in results.items()
            for p in result.predictions
        ]
        write_csv(arguments.csv, ["image", "label", "predicted", "confidence", "form", "found_in"], rows)
        print(f"predictions in {arguments.csv}")


def _place(data: "Data") -> str:
    """Return where the images' names begin: an absolute folder or archive, or the root where it is no file."""
    root = data.validation_root or data.root
    path = Path(root).expanduser()
    if not path.exists():
        return root
    return str(path.resolve().parent if path.is_dir() else path.resolve())
