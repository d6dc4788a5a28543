"""Make Tables 1, 2 and 3 of arXiv:2103.09891, every row beside the published one and with its controls.

Table 1 has all networks; Table 2, before and after fine-tuning, and Table 3, attributes combined, have the first. The
same command goes on where it was stopped. Days on one GPU with all of ImageNet; --data.validation-per-class N takes a
part of it. Files instead of published weights: --networks resnet50=NAME --checkpoint resnet50=FILE, or resnet50=RUN.

Example: plainvision dynamic tables --tables 1 3 --networks resnet=runs/resnet --data.root clothing.zip --out runs/paper
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from plainvision.commands import parsed, say
from plainvision.commands.dynamic.printed import ORACLE, show_reproduced
from plainvision.commands.dynamic.progress import EvaluationProgress
from plainvision.commands.dynamic.space import ValuesOptions
from plainvision.commands.options.data import DataOptions, PreparationOptions, TrainingDataOptions, changed_data
from plainvision.commands.options.output import Device, OutputOptions
from plainvision.training.network_words import NetworkWords, network_words
from plainvision.training.recipe import Machine

if TYPE_CHECKING:
    from plainvision.dynamic.reproduction import Evaluations

_PAPER = ("resnet50", "resnext50", "mobilenetv2", "densenet121")
_NAME = re.compile(r"\w[\w.-]*")  # of a folder too
_ATTRIBUTES = ("stride", "dilation", "size")


@dataclass(frozen=True, kw_only=True)
class FinetuningOptions:
    """How Table 2 fine-tunes; the rest is as in the paper."""

    epochs: int = 15
    """Passes over the training images."""
    batch_size: int = 256
    """Images per optimizer step; the paper does not say how many."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What `plainvision dynamic tables` takes."""

    out: Path
    """The folder: tables.json, and the evaluations and runs of each network."""
    networks: tuple[str, ...] = _PAPER
    """Of these networks; NAME=NETWORK puts a run, a weights file or another network in the place of one, or beside
    them."""
    checkpoint: tuple[str, ...] = ()
    """NAME=FILE: weights of a network instead of the published ones."""
    tables: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)
    """Which tables; Table 2 trains, and needs training images."""
    values: Annotated[ValuesOptions, tyro.conf.arg(name="")] = field(default_factory=ValuesOptions)
    """Other values than the paper's."""
    unbounded: bool = True
    """Also evaluate the strides that the bound on activations leaves out."""
    data: DataOptions = field(default_factory=DataOptions)
    """The images, to evaluate and to train on."""
    preparation: Annotated[PreparationOptions, tyro.conf.arg(name="data")] = field(default_factory=PreparationOptions)
    """How they are prepared; without words as in the paper, resized to a square."""
    training_data: Annotated[TrainingDataOptions, tyro.conf.arg(name="data")] = field(
        default_factory=TrainingDataOptions
    )
    """Those to train on."""
    batch_size: int = 32
    """Images per pass."""
    unbounded_batch_size: int = 4
    """Images per pass without the bound on activations, whose maps are large."""
    combine_limit: int = 625
    """How many permutations combined attributes have, at most."""
    controls: bool = True
    """Also let the trained network look at as many other views of each image as there are permutations."""
    device: Device = None
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the passes that evaluate."""
    finetuning: FinetuningOptions = field(default_factory=FinetuningOptions)
    """How Table 2 fine-tunes."""
    machine: Machine = field(default_factory=Machine)
    """How training uses the hardware."""
    output: Annotated[OutputOptions, tyro.conf.arg(name="")] = field(default_factory=OutputOptions)
    """Where the record goes; there is no figure."""


def main(words: list[str]) -> None:
    """Evaluate row by row, keep the record, and print the tables."""
    arguments = parsed(Arguments, words, "dynamic tables", __doc__)
    asked = _networks(arguments.networks, arguments.checkpoint)
    if not arguments.tables or len(set(arguments.tables)) < len(arguments.tables):
        raise ValueError("--tables: give one or more of 1, 2 and 3, each once.")

    from plainvision.dynamic.reproduction import table_1, table_2, table_3
    from plainvision.processes import process_group

    is_main = process_group().is_main_process
    output = replace(arguments.output, json=arguments.output.json or arguments.out / "tables.json")
    if is_main:
        output.check()
    process_group().wait_for_everyone()
    command = f"plainvision dynamic tables {shlex.join(words)}"
    try:
        made = {name: _Network(name, *asked[name], arguments) for name in asked}
        first, *_ = asked
        if 2 in arguments.tables:
            made[first].check_training()
        rows: dict[int, Iterator[dict[str, Any]]] = {
            1: (
                row
                for name, network in made.items()
                for row in table_1(name, network.evaluations(), unbounded=arguments.unbounded)
            ),
            3: table_3(first, made[first].evaluations()),
            2: table_2(first, made[first].evaluations(), made[first].finetuned),  # which takes longest
        }
        found: dict[str, list[dict[str, Any]]] = {f"table_{number}": [] for number in sorted(arguments.tables)}
        for number in (number for number in rows if number in arguments.tables):
            for row in rows[number]:
                found[f"table_{number}"].append(row)
                if is_main:
                    _keep(output, found, command)
                    say(f"Table {number}, {row['network']}, {row['changes']}: best case {row['best']:.2f} %")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; what is finished is in {arguments.out}. The same command goes on:\n  {command}"
        ) from None
    if not is_main:
        return
    for title, part in found.items():
        show_reproduced(title.replace("_", " ").capitalize(), part)
    print(
        "Top-1 in %, over K permutations; the paper's are of all 50,000 validation images of ImageNet.\n"
        f"{ORACLE}\nWorst, median, best, zooms, crops and shuffled labels are an oracle's."
    )
    say(f"record in {output.json}")


class _Network:
    """A network of the tables: its evaluations, and those after fine-tuning."""

    def __init__(self, name: str, words: NetworkWords, checkpoint: str | None, arguments: Arguments) -> None:
        self._name, self._words, self._arguments = name, words, arguments
        self._network = words.load(checkpoint, pretrained=checkpoint is None and not words.is_ours)
        self._network.refuse_sets("dynamic")
        if "root" not in arguments.data:
            raise ValueError("there are no images. Give a folder of class folders, or an archive, with --data.root.")
        own = self._network.data
        if not words.is_ours:  # as the paper prepares images for the weights of the Model Zoo
            own = replace(own, resize="squash", interpolation="bilinear")
        self._data = changed_data(own, arguments.data, arguments.preparation, arguments.training_data)
        self._folder = arguments.out / name
        self._found: Evaluations | None = None

    def evaluations(self) -> "Evaluations":
        """Return the evaluations of the network as it is."""
        if self._found is None:
            self._found = self._evaluations(self._network.model, self._folder, _ATTRIBUTES, self._name)
        return self._found

    def check_training(self) -> None:
        """Look for the images to fine-tune on before the work that comes first."""
        from plainvision.recipes.random_options import check_trainable

        check_trainable(self._words)
        recipe = self._recipe("stride")
        recipe.task.splits(recipe, 0, 1)

    def finetuned(self, attribute: str) -> "Evaluations":
        """Return the evaluations of the network after fine-tuning with random options of an attribute."""
        from rich.console import Console

        from plainvision.processes import process_group
        from plainvision.training.loop import train
        from plainvision.training.weights_file import load_network

        folder = self._folder / f"finetuned_{attribute}"
        run = folder / "run"
        train(self._recipe(attribute), run, resume=(run / "recipe.json").exists(), console=Console())
        process_group().wait_for_everyone()  # the main one still writes the weights
        model, _ = load_network(run, "last")
        return self._evaluations(model, folder, (attribute,), f"{self._name}, fine-tuned")

    def _recipe(self, attribute: str) -> Any:
        from plainvision.recipes.random_options import finetuning, starting_weights
        from plainvision.training.recipe import for_epochs
        from plainvision.training.techniques import RandomOptions

        given, values = self._arguments, self._arguments.values.values().get(attribute)
        technique = RandomOptions(
            attribute=None if values else attribute,  # type: ignore[arg-type]
            **({attribute: values} if values else {}),  # type: ignore[arg-type]
            image_size=self._data.image_size,
        )
        start = starting_weights(self._network, self._words, self._folder)
        recipe = finetuning(self._network, self._words, technique, self._data, start)
        recipe = for_epochs(recipe, given.finetuning.epochs)
        return replace(recipe, batch_size=given.finetuning.batch_size, machine=given.machine)

    def _evaluations(self, model: Any, out: Path, attributes: Sequence[str], name: str) -> "Evaluations":
        from plainvision.dynamic.reproduction import Evaluations, Settings
        from plainvision.dynamic.space import Space
        from plainvision.inspection.devices import usable_device
        from plainvision.processes import process_group

        given, processes = self._arguments, process_group()
        values: Mapping[str, Any] = given.values.values()
        spaces = {one: Space(**{one: values[one]}) if one in values else Space.paper(one) for one in attributes}

        @contextmanager
        def progress(what: str) -> Iterator[EvaluationProgress]:
            visible, count = processes.is_main_process, processes.num_processes
            if visible:
                say(f"{name}: {what}")
            with EvaluationProgress(what, visible=visible, processes=count) as shown:
                yield shown

        options = ("batch_size", "unbounded_batch_size", "combine_limit", "controls", "precision")
        several = processes.num_processes > 1 and given.device is None
        return Evaluations(
            model,
            self._data,
            out,
            spaces,
            self._network.name or name,
            progress,
            classes=self._network.classes,
            device=None if several else usable_device(given.device),
            settings=Settings(**{one: getattr(given, one) for one in options}),
        )


def _networks(texts: Sequence[str], checkpoints: Sequence[str]) -> dict[str, tuple[NetworkWords, str | None]]:
    """Return the words and the checkpoint of each network by its name.

    Raises:
        ValueError: a name that is none of the paper's stands alone, or one is given twice or not at all.
    """
    files = dict(text.partition("=")[::2] for text in checkpoints)
    if len(files) < len(checkpoints) or not all(name and file for name, file in files.items()):
        raise ValueError(f"--checkpoint {' '.join(checkpoints)}: give each network once, as NAME=FILE.")
    named: dict[str, str | None] = {}
    for text in texts:
        name, sign, network = text.partition("=")
        if name in named or bool(sign) != bool(network) or not (sign or name in _PAPER) or not _NAME.fullmatch(name):
            raise ValueError(
                f"--networks {' '.join(texts)}: give each network once, {', '.join(_PAPER)} by their names and others "
                "as NAME=NETWORK, for instance mine=runs/mine."
            )
        named[name] = network or None
    if not named:
        raise ValueError("--networks names none. Leave it out for the paper's four.")
    if unknown := [name for name in files if name not in named]:
        raise ValueError(f"--checkpoint {unknown[0]}=...: the networks are {', '.join(named)}.")

    from plainvision.dynamic.published import NETWORKS

    found = {name: network_words(network or NETWORKS[name]) for name, network in named.items()}
    for name, words in found.items():
        words.check(files.get(name), pretrained=name not in files and not words.is_ours)
    return {name: (words, files.get(name)) for name, words in found.items()}


def _keep(output: OutputOptions, found: Mapping[str, Sequence[Mapping[str, Any]]], command: str) -> None:
    """Write the record with the rows that are there."""
    from plainvision.bench import write_record

    claim = "Tables 1, 2 and 3 of arXiv:2103.09891, with the controls that the paper does not have"
    assert output.json is not None
    write_record(output.json, claim, found, command)
