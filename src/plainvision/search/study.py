"""The layer study: which spatial operation a bottleneck needs in which stage, by training each (arXiv:2202.02777, 3).

One network per operation and stage: a small one of bottlenecks, in which all spatial operations of the stage are that
one. Each is trained from scratch under one budget, once per seed; accuracy, parameters, multiply-adds and latency are
set side by side. The operation that the network has of itself is trained once for all stages.

Differs  the paper studies networks of a single bottleneck too, and ResNets of several depths; here the network is one,
         and the norm and the activation behind an operation stay whichever it is

No torch here; it is imported when a study runs.
"""

import difflib
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from plainvision import files
from plainvision.training.recipe import Augment, Data, Machine, Recipe
from plainvision.training.techniques import SpatialOps

if TYPE_CHECKING:
    import threading

    from plainvision.training.run_folder import RunFolder

Bottleneck = Literal["resnet", "inverted"]
Op = Literal["conv", "depthwise", "max", "avg", "identity"]

OPS: tuple[Op, ...] = get_args(Op)


@dataclass(frozen=True)
class _Network:
    """A small network of bottlenecks."""

    model: str
    options: dict[str, Any]
    op: Op  # its own
    stages: tuple[str, ...]  # names of its layers


_NETWORKS: dict[Bottleneck, _Network] = {
    # ResNet-26, two bottlenecks a stage, a quarter as wide: 0.9 M parameters.
    "resnet": _Network(
        "resnet26", {"channels": [16, 32, 64, 128]}, "conv", tuple(f"layer{number}" for number in range(1, 5))
    ),
    # MobileNetV2, half as wide, with the stages of its paper's Table 2: 0.7 M parameters.
    "inverted": _Network("mobilenetv2_050", {}, "depthwise", tuple(f"blocks.{number}" for number in range(7))),
}


def _small_images() -> Data:
    return Data(image_size=64, crop_ratio=1.0)  # at 32 the last of four stages would have one place: nothing to mix


@dataclass(frozen=True)
class Variant:
    """One network of a study."""

    op: Op
    """The spatial operation."""
    stage: int | None
    """The stage that has it, from 1; None for the network as it is."""

    @property
    def name(self) -> str:
        """What it is called in names of runs."""
        return self.op if self.stage is None else f"stage{self.stage}_{self.op}"


@dataclass(frozen=True)
class LayerStudy:
    """Everything that decides the result of a layer study. The settings are ours.

    Raises:
        ValueError: a value that cannot work.
    """

    data: Data = field(default_factory=_small_images)
    """Where the images come from."""
    bottleneck: Bottleneck = "resnet"
    """ResNet's bottleneck, in a narrow ResNet-26, or the inverted one, in MobileNetV2."""
    ops: tuple[Op, ...] = OPS
    """The operations to train with."""
    stages: tuple[int, ...] = ()
    """The stages to replace operations in, one at a time, from 1; none given means all: 4, inverted 7."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Trains each network once per seed."""
    augment: Augment = field(default_factory=lambda: Augment(scale=(0.5, 1.0)))
    """What training does to an image."""
    epochs: int = 20
    """Passes over the training images."""
    batch_size: int = 128
    """Images per step."""
    lr: float = 0.05
    """Peak learning rate of SGD with momentum; falls to zero along a cosine."""
    weight_decay: float = 5e-4
    """Weight decay."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    machine: Machine = field(default_factory=Machine)
    """How training uses the hardware. The memory layout is that of timing too."""

    def __post_init__(self) -> None:
        if self.bottleneck not in _NETWORKS:
            raise ValueError(f"bottleneck={self.bottleneck!r} must be {' or '.join(_NETWORKS)}.")
        for op in self.ops:
            if op not in OPS:
                close = difflib.get_close_matches(op, OPS, n=1)
                hint = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(OPS)}."
                raise ValueError(f"unknown spatial operation {op!r}. {hint}")
        count = len(self.network.stages)
        for stage in self.stages:
            if not 1 <= stage <= count:
                raise ValueError(
                    f"stages={self.stages}: there is no stage {stage}. The {self.bottleneck} network has {count}; give "
                    f"numbers from 1 to {count}, or none for all."
                )
        for name, values in {"ops": self.ops, "stages": self.stages, "seeds": self.seeds}.items():
            if len(set(values)) < len(values):
                raise ValueError(f"{name}={values} names something twice. Give each once.")
            if not values and name != "stages":
                raise ValueError(f"{name} is empty, and there is nothing to train. Give one or more.")
        self.recipes()  # which raises what is wrong with the rest

    @property
    def network(self) -> _Network:
        """The network whose operations are replaced."""
        return _NETWORKS[self.bottleneck]

    def variants(self) -> list[Variant]:
        """Return the networks to train: the one as it is, if its operation is among ``ops``, then stage by stage."""
        stages = self.stages or range(1, len(self.network.stages) + 1)
        own = [Variant(op, None) for op in self.ops if op == self.network.op]
        return own + [Variant(op, stage) for stage in stages for op in self.ops if op != self.network.op]

    def recipe(self, variant: Variant, seed: int) -> Recipe:
        """Return the recipe of one run."""
        techniques: tuple[SpatialOps, ...] = ()
        if variant.stage is not None:
            where = self.network.stages[variant.stage - 1]
            techniques = (SpatialOps(variant.op, where=where, image_size=self.data.image_size),)
        return Recipe(
            name=f"{self.bottleneck}_{variant.name}_seed{seed}",
            model=self.network.model,
            model_options={**self.network.options, "in_chans": self.data.channels},
            data=self.data,
            augment=self.augment,
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer="momentum",  # timm's SGD without Nesterov
            lr=self.lr,
            min_lr=0.0,
            weight_decay=self.weight_decay,
            warmup_epochs=0,
            label_smoothing=self.label_smoothing,
            techniques=techniques,
            machine=self.machine,
            seed=seed,
        )

    def recipes(self) -> list[tuple[Variant, Recipe]]:
        """Return the runs, seed by seed, so that what is there after a break can be compared."""
        return [(variant, self.recipe(variant, seed)) for seed in self.seeds for variant in self.variants()]


def run_study(
    study: LayerStudy,
    out: str | Path,
    *,
    resume: bool = False,
    device: str | None = None,
    latency_batch_size: int = 1,
    latency_runs: int = 50,
) -> list[dict[str, Any]]:
    """Train the networks of ``study`` in folders below ``out`` and return a row for each operation and stage.

    Latency is that of the networks as they were trained, with their norms; they are timed in turns.

    Args:
        study: what is trained, and how.
        out: where the folders of the runs go.
        resume: go on with what is there: finished runs are read, a run that was stopped is continued.
        device: where the networks are timed; by default a GPU where there is one.
        latency_batch_size: images per timed pass.
        latency_runs: timed passes of each network.

    Raises:
        ValueError: data and settings do not fit together, or a folder holds another run.
        OSError: a folder cannot be written.
        TrainingInterrupted: Ctrl-C or SIGTERM came; the state is saved.
    """
    import torch

    from plainvision.bench import comparison, measure, median_interval
    from plainvision.bench.circumstances import usable_device
    from plainvision.processes import stop_requested
    from plainvision.training.weights_file import load_network

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("a study runs in one process, one network after the other. Start it without a launcher.")
    place = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"), {})
    scores = _train(study, Path(out), resume)
    networks = {
        variant.name: load_network(Path(out) / study.recipe(variant, study.seeds[0]).name, "last")[0]
        for variant in study.variants()
    }
    print(f"timing {len(networks)} networks on {place}")
    with stop_requested() as stop:
        timed = measure(
            networks,
            image_size=study.data.image_size,
            channels=study.data.channels,
            batch_size=latency_batch_size,
            runs=latency_runs,
            device=place,
            channels_last=study.machine.channels_last,
        )
        _go_on(stop, Path(out))
    rows = []
    for variant, measured, compared in zip(study.variants(), timed, comparison(timed), strict=True):
        low, high = median_interval(measured.times_ms) or (None, None)
        # Relative to the first, which says something when that is the network as it is.
        speed = compared if study.variants()[0].stage is None else {}
        rows.append(
            _accuracy(study, variant, scores[variant])
            | {key: compared[key] for key in ("parameters", "macs", "p50_ms")}
            | {"p50_low_ms": low, "p50_high_ms": high}
            | {key: speed.get(key) for key in ("speed_ratio", "ratio_low", "ratio_high")}
            | {key: compared[key] for key in ("batch_size", "image_size", "device", "channels_last", "threads")}
        )
    return rows


def write_csv(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write the rows of a study as a table that spreadsheets read; what is unknown stays empty."""
    plain = [
        [" ".join(map(str, value)) if isinstance(value, list) else value for value in row.values()] for row in rows
    ]
    files.write_csv(path, list(rows[0]), plain)


def _train(study: LayerStudy, out: Path, resume: bool) -> dict[Variant, list[float]]:
    """Train what is not trained yet, and return each network's top-1 by seed."""
    from plainvision.processes import stop_requested
    from plainvision.training.checks import check_splits
    from plainvision.training.loop import train
    from plainvision.training.run_folder import RunFolder

    # All folders are looked at first: what is wrong with the last should not be said after hours.
    known = {}
    for _, recipe in study.recipes():
        folder = out / recipe.name
        begun = resume and (folder / "recipe.json").exists()
        known[recipe.name] = _finished(RunFolder(folder, recipe, resume=begun)) if begun else None
        if not begun:
            RunFolder(folder, recipe, resume=False)
    left = [recipe.name for _, recipe in study.recipes() if known[recipe.name] is None]
    print(f"{len(known)} runs, epochs each: {study.epochs}; finished already: {len(known) - len(left)}")
    scores: dict[Variant, list[float]] = {variant: [] for variant in study.variants()}
    spent: list[float] = []
    check_splits(study.recipes()[0][1])
    out.mkdir(parents=True, exist_ok=True)
    with files.locked(out), stop_requested() as stop:
        for number, (variant, recipe) in enumerate(study.recipes(), start=1):
            score = known[recipe.name]
            if score is None:
                begun, start = (out / recipe.name / "recipe.json").exists(), time.perf_counter()
                ahead = len(left) - len(spent)
                remaining = f"; about {_duration(statistics.fmean(spent) * ahead)} left" if spent else ""
                print(f"run {number} of {len(known)}: {recipe.name}{remaining}", flush=True)
                score = train(recipe, out / recipe.name, resume=begun).last.top1
                spent.append(time.perf_counter() - start)
                _go_on(stop, out)
            else:
                files.remove_unfinished(out / recipe.name)
            scores[variant].append(score)
    return scores


def _go_on(stop: "threading.Event", out: Path) -> None:
    from plainvision.processes import TrainingInterrupted

    if stop.is_set():
        raise TrainingInterrupted(
            f"stopped with no run going; those that are finished are saved in {out}. Run the same command with "
            "--resume to continue."
        )


def _finished(folder: "RunFolder") -> float | None:
    """Return the top-1 after the last epoch of a run, None where it is not finished."""
    from plainvision.training.resumable import read_metrics

    epochs = [line for line in read_metrics(folder.path) if "top1" in line]
    if not epochs or epochs[-1]["epoch"] < folder.recipe.epochs - 1:
        return None
    # The weights are written between the line and the state.
    state = folder.load_state()
    return epochs[-1]["top1"] if state is not None and state["step"] == epochs[-1]["step"] else None


def _accuracy(study: LayerStudy, variant: Variant, top1: list[float]) -> dict[str, Any]:
    return {
        "bottleneck": study.bottleneck,
        "stage": variant.stage,
        "op": variant.op,
        "top1_mean": statistics.fmean(top1),
        "top1_std": statistics.stdev(top1) if len(top1) > 1 else None,
        "top1": top1,
        "seeds": list(study.seeds),
        "epochs": study.epochs,
    }


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
