"""Fine-tune a network with random options at its sites, and set its bounds before and after beside each other.

The schedule is that of arXiv:2103.09891: 15 epochs of SGD, at a rate of 0.001 and from epoch 11 on of 0.0001. Batch
size and augmentation are not in the paper.

Example: plainvision dynamic finetune --model runs/resnet --dilation 1,2,3 --data.root clothing.zip --out runs/rof
"""

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from plainvision.commands import parsed, say
from plainvision.commands.dynamic_verbs.network import NetworkOptions
from plainvision.commands.dynamic_verbs.space import SpaceOptions
from plainvision.commands.options.data import (
    DataOptions,
    PreparationOptions,
    TrainingDataOptions,
    changed_data,
    need_root,
)
from plainvision.training.recipe import Augment, Machine, Recipe
from plainvision.training.techniques import EMA, RandomOptions

if TYPE_CHECKING:
    from torch import nn

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
    figure: Path | None = None
    """Figure 2: a .png, .pdf or .svg file; by default unique_predictions.png in the folder."""
    json: Path | None = None
    """The record; by default finetune.json in the folder."""


def main(words: list[str]) -> None:
    """Train, evaluate twice, print both bounds, and write them with their figure."""
    arguments = parsed(Arguments, words, "dynamic finetune", __doc__)
    arguments.network.check()
    if arguments.network.words.is_torchvision:
        raise ValueError(
            f"{arguments.network.model}: a run has to rebuild its network by a name of ours or timm's. timm has most "
            "of torchvision's networks and their weights, for instance --model resnet50.tv_in1k --pretrained."
        )

    import torch
    from accelerate import PartialState

    from plainvision.commands.dynamic_verbs.outcomes import facts, place, write
    from plainvision.commands.dynamic_verbs.tables import show_bounds
    from plainvision.dynamic.comparisons import bounds_row
    from plainvision.figures.outcomes import unique_predictions
    from plainvision.processes import TrainingInterrupted
    from plainvision.training.loop import train
    from plainvision.training.weights_file import load_network

    # As `plainvision.training.loop` has it: the first one decides for all.
    processes = PartialState(cpu=not torch.accelerator.is_available())
    recipe = _recipe(arguments)
    out = arguments.out
    json, figure = arguments.json or out / "finetune.json", arguments.figure or out / "unique_predictions.png"
    if processes.is_main_process:
        place(json, "--json", out, "")
        place(figure, "--figure", out, "")
    processes.wait_for_everyone()
    again = shlex.join([*words, *([] if arguments.resume else ["--resume"])])
    try:
        classes = train(recipe, out / "run", resume=arguments.resume).classes
        processes.wait_for_everyone()  # the main one still writes the weights
        trained, _ = load_network(out / "run", "last")
        networks = {"before": _before(arguments.network, len(classes)), "after": trained}
        found = {name: _evaluated(arguments, recipe, name, model, classes) for name, model in networks.items()}
    except TrainingInterrupted as error:
        raise TrainingInterrupted(f"{error}\n  plainvision dynamic finetune {again}") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; what is finished is in {out}. To go on:\n  plainvision dynamic finetune {again}"
        ) from None
    if not processes.is_main_process:
        return
    rows = [{"network": name, **bounds_row(one)} for name, one in found.items()]
    show_bounds({"": rows}, "network")
    drawn = unique_predictions({name: one.unique_predictions() for name, one in found.items()})
    record = {
        "outcomes": {name: facts(one) for name, one in found.items()},
        "bounds": rows,
        "recipe": _without_places(recipe),
    }
    claim = "bounds over permutations before and after fine-tuning with random options"
    write(claim, record, f"plainvision dynamic finetune {shlex.join(words)}", json, drawn, figure)
    both = shlex.join([str(out / "before"), str(out / "after")])
    say(f"weights in {out / 'run'}. Next: plainvision dynamic greedy {both}")


def _without_places(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain values, without the paths of this machine."""
    plain = recipe.to_dict()
    plain["start_from"] = Path(str(recipe.start_from)).name
    for root in ("root", "validation_root"):
        plain["data"][root] = plain["data"][root] and Path(plain["data"][root]).name
    return plain


def _recipe(arguments: Arguments) -> Recipe:
    """Return the recipe of the run."""
    options, words = arguments.network, arguments.network.words
    model, model_options = words.name, dict(words.options)
    classes = model_options.pop("num_classes", None)
    if words.is_ours:
        model, model_options, own, start = _of_run(options)
    else:
        own, start = _of_name(options, arguments.out)
    if not words.is_ours:
        need_root(arguments.data)
    data = changed_data(own, arguments.data, arguments.preparation, arguments.training_data)
    values = arguments.options.values()
    return Recipe(
        name="random_option_finetuning",
        model=model,
        model_options=model_options,
        num_classes=classes,
        start_from=start,
        data=data,
        augment=arguments.augment,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        optimizer="momentum",  # timm's name of SGD; what it calls sgd is Nesterov's
        lr=arguments.lr,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="step",
        decay_epochs=arguments.decay_epochs,
        warmup_epochs=0,
        label_smoothing=0.0,
        techniques=(
            RandomOptions(
                attribute=None if values else arguments.options.attribute or "stride",
                **values,  # type: ignore[arg-type]
                sites=arguments.options.layers(),
                image_size=data.image_size,
                seed=arguments.seed,
            ),
        ),
        machine=arguments.machine,
        seed=arguments.seed,
    )


def _of_run(options: NetworkOptions) -> tuple[str, dict[str, Any], Any, str]:
    """Return name, options, data and weights of a run's network.

    Raises:
        ValueError: its recipe does more to the network than to train it.
    """
    from plainvision.training.weights_file import load_network

    _, origin = load_network(options.words.name, options.weights)
    others = [one for one in origin.recipe.techniques if not isinstance(one, EMA | RandomOptions)]
    if origin.deployed or options.words.deployed or others:
        raise ValueError(
            f"{options.model} is {f'a network with {others[0]}' if others else 'a deployed form'}, which this "
            "command does not know how to rebuild. In Python, train by its own recipe with RandomOptions beside its "
            "techniques."
        )
    path = Path(options.words.name)
    weights = path / f"{options.weights}.safetensors" if path.is_dir() else path
    return origin.recipe.model, dict(origin.recipe.model_options), origin.recipe.data, str(weights)


def _of_name(options: NetworkOptions, out: Path) -> tuple[Any, str]:
    """Return data and weights of a network by name; published weights are written into a file first."""
    from accelerate import PartialState
    from safetensors.torch import save_model

    from plainvision.models.registry import create_model
    from plainvision.training.evaluation import data_of

    if options.checkpoint is not None:
        return data_of(create_model(options.words.name, **options.words.options)), options.checkpoint
    network = options.load()
    file = out / "pretrained.safetensors"
    if PartialState().is_main_process and not file.exists():
        out.mkdir(parents=True, exist_ok=True)
        save_model(network.model, str(file))
    PartialState().wait_for_everyone()
    return network.data, str(file)


def _before(options: NetworkOptions, classes: int) -> "nn.Module":
    """Return the network as it was."""
    named = options.checkpoint is not None and "num_classes" not in options.words.options
    return (replace(options, num_classes=classes) if named else options).load().model


def _evaluated(
    arguments: Arguments, recipe: Recipe, name: str, model: "nn.Module", classes: tuple[str, ...]
) -> "Outcomes":
    """Return every permutation's outcomes, kept in the folder of that name."""
    import torch
    from accelerate import PartialState

    from plainvision.commands.dynamic_verbs.progress import EvaluationProgress
    from plainvision.dynamic.evaluation import evaluate
    from plainvision.dynamic.network import DynamicNetwork

    processes = PartialState()
    one_gpu = processes.num_processes == 1 and torch.cuda.is_available()
    network = DynamicNetwork(
        model,
        sites=arguments.options.layers(),
        space=arguments.options.space(),
        image_size=recipe.data.image_size,
        name=recipe.model,
    )
    visible, number = processes.is_main_process, processes.num_processes
    with EvaluationProgress(name, visible=visible, processes=number) as progress:
        return evaluate(
            network,
            recipe.data,
            out=arguments.out / name,
            classes=classes,
            controls=arguments.controls,
            device="cuda" if one_gpu else None,
            on_progress=progress,
        )
