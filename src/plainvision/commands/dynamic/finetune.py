"""Fine-tune a network with random options at its sites, and set its bounds before and after beside each other.

The schedule is that of arXiv:2103.09891: 15 epochs of SGD, at a rate of 0.001 and from epoch 11 on of 0.0001. Batch
size and augmentation are not in the paper.

Example: plainvision dynamic finetune runs/resnet --dilation 1,2,3 --data.root clothing.zip --out runs/rof
"""

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from plainvision.commands import parsed, resumable, say
from plainvision.commands.dynamic.printed import show_bounds
from plainvision.commands.dynamic.progress import EvaluationProgress
from plainvision.commands.dynamic.space import SpaceOptions
from plainvision.commands.options.data import DataOptions, PreparationOptions, TrainingDataOptions, data_to_read
from plainvision.commands.options.network import NetworkOptions, network_first
from plainvision.commands.options.output import KeptOutputOptions
from plainvision.training.network_words import Network
from plainvision.training.recipe import Augment, Machine, Recipe
from plainvision.training.techniques import RandomOptions

if TYPE_CHECKING:
    from plainvision.dynamic.outcomes import Outcomes


@dataclass(frozen=True)
class Arguments:
    """What `plainvision dynamic finetune` takes."""

    network: Annotated[NetworkOptions, tyro.conf.arg(name="")]
    """Which network, and whose weights."""
    out: Path
    """The folder: the run in run/, the outcomes in before/ and after/."""
    options: Annotated[SpaceOptions, tyro.conf.arg(name="")] = field(default_factory=SpaceOptions)
    """What changes, and where."""
    data: DataOptions = field(default_factory=DataOptions)
    """The images, to train on and to evaluate."""
    preparation: Annotated[PreparationOptions, tyro.conf.arg(name="data")] = field(default_factory=PreparationOptions)
    """How they are prepared."""
    training_data: Annotated[TrainingDataOptions, tyro.conf.arg(name="data")] = field(
        default_factory=TrainingDataOptions
    )
    """Those to train on."""
    augment: Augment = field(default_factory=Augment)
    """What training does to an image."""
    epochs: int = 15
    """Passes over the training images."""
    batch_size: int = 256
    """Images per optimizer step, over all processes together; each step draws one permutation."""
    lr: float = 1e-3
    """Learning rate at the beginning."""
    decay_epochs: int = 10
    """After so many epochs the rate is a tenth."""
    machine: Machine = field(default_factory=Machine)
    """How training uses the hardware."""
    seed: int = 0
    """Decides order, augmentation and permutations."""
    controls: bool = True
    """Also let the networks look at as many other views of each image as there are permutations."""
    resume: bool = False
    """Go on with what is in the folder."""
    output: Annotated[KeptOutputOptions, tyro.conf.arg(name="")] = field(default_factory=KeptOutputOptions)
    """What is written in the folder: Figure 2, unique_predictions.png, and finetune.json."""


def main(words: list[str]) -> None:
    """Train, evaluate twice, print both bounds, and write them with their figure."""
    arguments = parsed(Arguments, network_first(words), "dynamic finetune", __doc__)

    from rich.console import Console

    from plainvision.dynamic.evaluation import evaluate
    from plainvision.dynamic.tables import bounds_row, facts
    from plainvision.figures.outcomes import unique_predictions
    from plainvision.inspection.devices import default_device
    from plainvision.processes import process_group
    from plainvision.training.loop import train
    from plainvision.training.weights_file import load_network

    processes = process_group()
    network, recipe = _begin(arguments)
    out = arguments.out
    if processes.is_main_process:
        output = arguments.output.beside(out, "unique_predictions.png", "finetune.json")
    processes.wait_for_everyone()
    with resumable("dynamic finetune", words, f"stopped; what is finished is in {out}. To go on:"):
        classes = train(recipe, out / "run", resume=arguments.resume, console=Console()).classes
        processes.wait_for_everyone()  # the main one still writes the weights
        trained, _ = load_network(out / "run", "last")
        checkpoint, asked = arguments.network.checkpoint, arguments.network.words
        if checkpoint is not None:  # whose classes are known by now
            network = replace(asked, options={"num_classes": len(classes), **asked.options}).load(checkpoint)
        found: dict[str, Outcomes] = {}
        for name, model in (("before", network.model), ("after", trained)):
            dynamic = arguments.options.network(model, recipe.data.image_size, recipe.model)
            with EvaluationProgress(
                name, visible=processes.is_main_process, processes=processes.num_processes
            ) as progress:
                found[name] = evaluate(
                    dynamic,
                    recipe.data,
                    out=out / name,
                    classes=classes,
                    controls=arguments.controls,
                    device=default_device() if processes.num_processes == 1 else None,
                    on_progress=progress,
                )
    if not processes.is_main_process:
        return
    rows = [{"network": name, **bounds_row(one)} for name, one in found.items()]
    show_bounds({"": rows}, "network")
    drawn = unique_predictions({name: one.unique_predictions() for name, one in found.items()})
    plain = recipe.to_dict()
    plain["start_from"] = Path(str(recipe.start_from)).name  # without the folders of this machine
    for root in ("root", "validation_root"):
        plain["data"][root] = plain["data"][root] and Path(plain["data"][root]).name
    record = {"outcomes": {name: facts(one) for name, one in found.items()}, "bounds": rows, "recipe": plain}
    claim = "bounds over permutations before and after fine-tuning with random options"
    output.write(claim, record, f"plainvision dynamic finetune {shlex.join(words)}", drawn)
    both = shlex.join([str(out / "before"), str(out / "after")])
    say(f"weights in {out / 'run'}. Next: plainvision dynamic greedy {both}")


def _begin(arguments: Arguments) -> tuple[Network, Recipe]:
    """Return the network, with its weights unless a checkpoint gives them, and the recipe of the run."""
    from plainvision.recipes.random_options import check_trainable, finetuning, starting_weights

    options, words, changes = arguments.network, arguments.network.words, arguments.options
    check_trainable(words)
    words.check(options.checkpoint, options.pretrained)
    if options.checkpoint is not None:  # their classes may be those of the data, which are not known yet
        network, start = words.load(random=True), options.checkpoint
    else:
        network = options.load()
        network.refuse_sets("dynamic")
        start = starting_weights(network, words, arguments.out, options.weights)
    data = data_to_read(network, arguments.data, arguments.preparation, arguments.training_data)
    values = changes.values()
    technique = RandomOptions(
        attribute=None if values else changes.attribute or "stride",
        **values,  # type: ignore[arg-type]
        sites=changes.layers(),
        image_size=data.image_size,
        seed=arguments.seed,
    )
    given = ("augment", "epochs", "batch_size", "lr", "decay_epochs", "machine", "seed")
    recipe = finetuning(network, words, technique, data, start)
    return network, replace(recipe, **{name: getattr(arguments, name) for name in given})
