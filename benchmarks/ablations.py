"""What the papers say their networks' parts are worth, tried with narrow networks on CIFAR-10.

Run: python benchmarks/ablations.py vanillanet --train cifar10-train.zip --test cifar10-test.zip --out runs/ablations

Trains the rows of a paper's tables (`plainvision sweep` has them by name), all of a group alike: the same images,
augmentation, steps, optimizer and rate, so that rows differ in what the table changes and in nothing else. Three seeds
each; the last network of each run, which no choice depends on, is scored on all test images. Each difference that the
paper publishes is then judged by `plainvision.study.differences.RULE`, and results/ablations_GROUP.json is written.

A run that was stopped goes on where it was, and finished ones are read: start the same command again. --seeds 2 before
--seeds 3 gives a record of what is there.
"""

import itertools
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console

import plainvision as pv
from plainvision.bench import as_table, comparison, count_macs, count_parameters, measure, write_record
from plainvision.files import read_object, write_json
from plainvision.recipes.sweeps import SWEEPS
from plainvision.study.differences import RULE, Verdict, judge
from plainvision.study.grid import Point
from plainvision.study.sweep import run_sweep
from plainvision.training import Augment, Data, Machine, Recipe, evaluate
from plainvision.training.recipe import Option, for_epochs
from plainvision.training.techniques import EMA
from plainvision.training.weights_file import load_network

BATCH_SIZE = 128
# Of the official model page of arXiv:2202.02777, on a GPU.
PUBLISHED_MS = {"resnet50": 8.7, "resnet50_max": 6.8, "resnet50_hybrid": 7.3}


@dataclass(frozen=True)
class Group:
    """Rows of a paper's tables that are trained alike."""

    claim: str
    """What is tried."""
    sweeps: tuple[str, ...]
    """The tables, by the names of `plainvision.recipes.sweeps`; a run that two of them have is trained once."""
    claims: tuple[tuple[str, str], ...]
    """Which row the paper compares with which."""
    lr: float
    """Learning rate of all rows: the best of some in pilot runs of one row, which the record does not use."""
    weight_decay: float
    options: Mapping[str, Option]
    """What makes each network small."""
    defaults: Mapping[str, Option] = field(default_factory=dict)
    """Options that a table leaves at the network's own value, so that equal rows of two tables are seen to be equal."""
    optimizer: str = "lamb"
    """The papers' own, but where a pilot run learned faster by another one."""
    image_size: int = 32
    epochs: int = 8
    """Length of each run; deep training takes a third of it, as in the paper."""
    only: str = ""
    """How the values of the wanted rows begin, where a table has several networks."""


_TABLE_2 = (
    ("series activation", "neither"),
    ("deep training", "neither"),
    ("both", "neither"),
    ("both", "deep training"),
    ("both", "series activation"),
)
_VANILLANET = Group(
    claim="VanillaNet-6: what deep training, series activation and shortcuts are worth",
    sweeps=("vanillanet_table_2", "vanillanet_table_1", "vanillanet_table_3"),
    claims=(
        *_TABLE_2,
        *((f"series={n + 1}", f"series={n}") for n in range(4)),
        ("shortcut=before", "shortcut=none"),
        ("shortcut=after", "shortcut=none"),
    ),
    lr=1e-2,
    weight_decay=0.05,
    options={"width": 1 / 16},
    defaults={"linear_pairs": True, "series": 3, "shortcut": None},
    only="vanillanet_6",
)
GROUPS = {
    "vanillanet": _VANILLANET,
    "vanillanet_longer": replace(
        _VANILLANET,
        claim="VanillaNet-6 in runs three times as long: what deep training and series activation are worth",
        sweeps=("vanillanet_table_2",),
        claims=_TABLE_2,
        epochs=24,
    ),
    "patchconvnet": Group(
        claim="PatchConvNet: what its parts are worth",
        sweeps=("patchconvnet_table_5",),
        claims=tuple(
            (row, "none") for row in ("average_pooling", "linear_stem", "batch_norm", "multi_head", "per_class")
        ),
        lr=6e-3,
        weight_decay=0.01,
        options={"embed_dim": 64, "depth": 4, "layer_scale": 0.1, "drop_path_rate": 0.0},
        optimizer="adamw",
        image_size=48,
        epochs=12,
    ),
    "parameter_free": Group(
        claim="ResNet-50 with max pooling for its convolutions: accuracy and latency",
        sweeps=("parameter_free_resnets",),
        claims=(("resnet50_max", "resnet50"), ("resnet50_hybrid", "resnet50"), ("resnet50_hybrid", "resnet50_max")),
        lr=1e-2,
        weight_decay=0.01,
        options={"width": 1 / 4},
    ),
    "alexnet": Group(
        claim="AlexNet: what deep training and series activation are worth",
        sweeps=("vanillanet_table_2",),
        claims=_TABLE_2,
        lr=1e-2,
        weight_decay=0.05,
        options={"width": 1 / 8},
        image_size=64,
        only="alexnet",
    ),
}


@dataclass(frozen=True)
class Arguments:
    """What the benchmark takes."""

    group: Annotated[
        Literal["vanillanet", "vanillanet_longer", "patchconvnet", "parameter_free", "alexnet"], tyro.conf.Positional
    ]
    """Whose tables."""
    train: Path
    """CIFAR-10's training images: a folder, .zip or .tar with `train`."""
    test: Path
    """Its test images, with `test`."""
    seeds: int = 3
    """Runs of each row."""
    only: tuple[str, ...] = ()
    """Train these rows alone; none is all."""
    images_per_class: int = 1000
    """Training images of each class; 5000 are all."""
    out: Path = Path("runs/ablations")
    """Where the runs go."""


def small(recipe: Recipe, group: Group, data: Data) -> Recipe:
    """Return a row's run as it is tried here: of its table it keeps the network, its options and the techniques.

    The average of the weights is left out: it is for runs of many more steps.
    """
    techniques = for_epochs(recipe, group.epochs).techniques
    return Recipe(
        name="ablation",
        model=recipe.model,
        model_options={**group.defaults, **recipe.model_options, **group.options},
        data=data,
        augment=Augment(scale=(0.5, 1.0)),
        epochs=group.epochs,
        batch_size=BATCH_SIZE,
        optimizer=group.optimizer,
        lr=group.lr,
        weight_decay=group.weight_decay,
        warmup_epochs=1,
        techniques=tuple(one for one in techniques if not isinstance(one, EMA)),
        machine=Machine(threads=1, channels_last=True, log_steps=50),
    )


def rows_of(group: Group, data: Data) -> dict[str, tuple[Recipe, float]]:
    """Return the run of each row, made small, and its published top-1, by the row's values."""
    found = {}
    for sweep in group.sweeps:
        for point in SWEEPS[sweep].points():
            values = [str(value) for value in point.values.values()]
            if not values[0].startswith(group.only) and "network" in point.values:
                continue
            name, value = list(point.values.items())[-1]
            label = f"{name.rpartition('.')[2]}={value}" if "." in name else str(value)
            assert isinstance(point.published, float), label
            found[label] = small(point.recipe, group, data), point.published
    return found


def score(folder: Path, data: Data) -> float:
    """Return the top-1 of a run's last network on all test images; it is kept in the run's folder."""
    kept = folder / "test.json"
    if not kept.exists():
        network, origin = load_network(folder, "last")
        found = evaluate(network, replace(data, validation_per_class=None), classes=origin.classes, batch_size=250)
        write_json(kept, {"top1": found.top1, "images": found.images})
    return float(read_object(kept)["top1"])


def train_all(rows: Mapping[str, tuple[Recipe, float]], arguments: Arguments) -> dict[str, list[float]]:
    """Train what is not trained yet, and return the test top-1 of each run by row; diverged runs have none."""
    points: dict[str, Point] = {}
    shared = {}
    for label, (recipe, _) in rows.items():
        first = next((name for name, point in points.items() if point.recipe == recipe), label)
        shared[label] = first
        points.setdefault(first, Point(recipe, {"row": first}))
    out = arguments.out / arguments.group
    trained = run_sweep(list(points.values()), out, seeds=arguments.seeds, resume=out.exists(), console=Console())
    scores = {
        name: [score(out / points[name].named(seed), points[name].recipe.data) for seed in row["seeds"]]
        for name, row in zip(points, trained, strict=True)
    }
    return {label: scores[first] for label, first in shared.items()}


def summed_up(rows: Mapping[str, tuple[Recipe, float]], scores: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Return a row of figures for each row of the tables."""
    found = []
    for label, (recipe, published) in rows.items():
        network = pv.create_model(recipe.model, num_classes=10, **recipe.model_options)
        for technique in recipe.techniques:
            network = technique.build(network)
        top1 = scores[label]
        found.append(
            {
                "row": label,
                "published": published,
                "top1_mean": statistics.fmean(top1) if top1 else None,
                "top1_std": statistics.stdev(top1) if len(top1) > 1 else None,
                "n": len(top1),
                "parameters": count_parameters(network),
                "macs": count_macs(network, recipe.data.image_size),
                "top1": list(top1),
            }
        )
    return found


def judged(rows: Sequence[Mapping[str, Any]], claims: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return each claim with its published and its measured difference and the verdict, of rows that have runs."""
    known = {row["row"]: row for row in rows if row["n"]}
    found = []
    for label, base in claims:
        if label in known and base in known:
            published = round(known[label]["published"] - known[base]["published"], 2)
            difference = asdict(judge(known[label]["top1"], known[base]["top1"], published))
            measured = {"measured": difference.pop("mean"), **difference}
            found.append({"row": label, "against": base, "published": published, **measured})
    return found


def latencies(rows: Mapping[str, tuple[Recipe, float]]) -> list[dict[str, Any]]:
    """Return how fast the fused networks are, in turns in one run, against the first of them, and what that shows."""
    found = []
    torch.set_num_threads(1)
    for batch_size in (1, 64):
        forms = {}
        for label, (recipe, _) in rows.items():
            network = pv.create_model(recipe.model, num_classes=10, **recipe.model_options).eval()
            forms[label] = pv.fuse(network, images=2)
        size = next(iter(rows.values()))[0].data.image_size
        found += comparison(measure(forms, batch_size=batch_size, image_size=size, runs=60, device="cpu"))
    base = found[0]["name"]
    columns = ("name", "batch_size", "image_size", "threads", "p50_ms", "speed_ratio", "ratio_low", "ratio_high")
    return [
        {column: row[column] for column in columns}
        | {
            "published_ratio": PUBLISHED_MS[base] / PUBLISHED_MS[row["name"]],
            "verdict": None if row["name"] == base else _faster(row["ratio_low"], row["ratio_high"]),
        }
        for row in found
    ]


def _faster(low: float, high: float) -> Verdict:
    """Return whether a network is shown to be faster: the 95 % interval of its median ratio lies above 1."""
    return "shown" if low > 1 else "refuted" if high < 1 else "not shown"


def main() -> None:
    """Train, score, judge, and write the record."""
    arguments = tyro.cli(Arguments, description=__doc__)
    group = GROUPS[arguments.group]
    data = Data(
        root=str(arguments.train),
        validation_root=str(arguments.test),
        validation_split="test",
        image_size=group.image_size,
        crop_ratio=1.0,
        train_per_class=arguments.images_per_class,
        validation_per_class=50,  # of an epoch, to be seen to learn; the score is that of all
        workers=0,
    )
    every = rows_of(group, data)
    if unknown := {*arguments.only, *itertools.chain(*group.claims)} - every.keys():
        raise SystemExit(f"no rows called {', '.join(sorted(unknown))}. There are {', '.join(every)}.")
    rows = {label: row for label, row in every.items() if label in (arguments.only or every)}
    figures = summed_up(rows, train_all(rows, arguments))
    settings = {
        "training_images": 10 * arguments.images_per_class,
        "image_size": group.image_size,
        "epochs": group.epochs,
        "batch_size": BATCH_SIZE,
        "optimizer": group.optimizer,
        "lr": group.lr,
        "options": ", ".join(f"{name} {value:g}" for name, value in group.options.items()),
    }
    record: dict[str, Any] = {"rows": figures, "claims": judged(figures, group.claims), "settings": [settings]}
    if arguments.group == "parameter_free":
        record["latency"] = latencies(rows)
    columns = ("row", "published", "top1_mean", "top1_std", "n", "parameters", "macs")
    print(as_table([{column: row[column] for column in columns} for row in figures]))
    print(as_table(record["claims"]))
    command = f"python benchmarks/ablations.py {shlex.join(sys.argv[1:])}"
    path = Path(__file__).parents[1] / "results" / f"ablations_{arguments.group}.json"
    write_record(path, f"{group.claim}, by narrow networks on CIFAR-10. {RULE}", record, command, columns=columns)


if __name__ == "__main__":
    main()
