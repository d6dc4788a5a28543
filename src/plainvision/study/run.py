"""A layer study runs: which spatial operation a bottleneck needs in which stage (arXiv:2202.02777, section 3).

One network per operation and stage: a small one of bottlenecks, in which all spatial operations of the stage are that
one. Each is trained from scratch under one budget, once per seed; accuracy, parameters, multiply-adds and latency are
set side by side. The operation that the network has of itself is trained once for all stages.

Differs  the paper studies networks of a single bottleneck too, and ResNets of several depths; here the network is one,
         and the norm and the activation behind an operation stay whichever it is
"""

import os
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from plainvision import files
from plainvision.bench import comparison, measure, median_interval
from plainvision.inspection.devices import usable_device
from plainvision.processes import TrainingInterrupted, stop_requested
from plainvision.study.settings import LayerStudy, StudyNetwork
from plainvision.training import loop
from plainvision.training.checks import check_splits
from plainvision.training.progress import say
from plainvision.training.resumable import read_metrics
from plainvision.training.run_folder import RunFolder
from plainvision.training.weights_file import load_network


def run_study(
    study: LayerStudy,
    out: str | Path,
    *,
    resume: bool = False,
    device: str | None = None,
    latency_batch_size: int = 1,
    latency_runs: int = 50,
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Train the networks of ``study`` in folders below ``out`` and return a row for each operation and stage.

    Latency is that of the networks as they were trained, with their norms; they are timed in turns.

    Args:
        study: the study.
        out: where the folders of the runs go.
        resume: go on with what is there: finished runs are read, a run that was stopped is continued.
        device: where the networks are timed; by default a GPU where there is one.
        latency_batch_size: images per timed pass.
        latency_runs: timed passes of each network.
        console: where to show progress; None is nowhere.

    Raises:
        ValueError: data and settings do not fit together, or a folder holds another run.
        OSError: a folder cannot be written.
        TrainingInterrupted: Ctrl-C or SIGTERM came; the state is saved.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("a study runs in one process, one network after the other. Start it without a launcher.")
    out, place = Path(out), usable_device(device)
    scores = _train(study, out, resume, console)
    runs = {network.name: out / study.recipe(network, study.seeds[0]).name for network in scores}
    networks = {name: load_network(run, "last")[0] for name, run in runs.items()}
    say(console, f"timing {len(networks)} networks on {place}")
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
        _go_on(stop, out)
    rows = []
    for (network, top1), measured, compared in zip(scores.items(), timed, comparison(timed), strict=True):
        low, high = median_interval(measured.times_ms) or (None, None)
        # Relative to the first, which says something when that is the network as it is.
        speed = compared if study.networks()[0].stage is None else {}
        rows.append(
            {
                "bottleneck": study.bottleneck,
                "stage": network.stage,
                "op": network.op,
                "top1_mean": statistics.fmean(top1),
                "top1_std": statistics.stdev(top1) if len(top1) > 1 else None,
                "top1": top1,
                "seeds": list(study.seeds),
                "epochs": study.epochs,
            }
            | {key: compared[key] for key in ("parameters", "macs", "p50_ms")}
            | {"p50_low_ms": low, "p50_high_ms": high}
            | {key: speed.get(key) for key in ("speed_ratio", "ratio_low", "ratio_high")}
            | {key: compared[key] for key in ("batch_size", "image_size", "device", "channels_last", "threads")}
        )
    return rows


def write_csv(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write the rows of a study as a table that spreadsheets read; what is unknown stays empty."""
    plain = ([" ".join(map(str, one)) if isinstance(one, list) else one for one in row.values()] for row in rows)
    files.write_csv(path, list(rows[0]), plain)


def _train(study: LayerStudy, out: Path, resume: bool, console: Console | None) -> dict[StudyNetwork, list[float]]:
    """Train what is not trained yet, and return each network's top-1 by seed."""
    # All folders are looked at first: what is wrong with the last should not be said after hours.
    known = {}
    for _, recipe in study.recipes():
        begun = resume and (out / recipe.name / "recipe.json").exists()
        run = RunFolder(out / recipe.name, recipe, resume=begun)
        known[recipe.name] = _finished(run) if begun else None
    done = sum(score is not None for score in known.values())
    say(console, f"{len(known)} runs, epochs each: {study.epochs}; finished already: {done}")
    scores: dict[StudyNetwork, list[float]] = {network: [] for network in study.networks()}
    spent: list[float] = []
    check_splits(study.recipes()[0][1])
    out.mkdir(parents=True, exist_ok=True)
    with files.locked(out), stop_requested() as stop:
        for number, (network, recipe) in enumerate(study.recipes(), start=1):
            folder, score = out / recipe.name, known[recipe.name]
            if score is None:
                ahead = len(known) - done - len(spent)
                remaining = f"; about {_duration(statistics.fmean(spent) * ahead)} left" if spent else ""
                say(console, f"run {number} of {len(known)}: {recipe.name}{remaining}")
                start = time.perf_counter()
                score = loop.train(recipe, folder, resume=(folder / "recipe.json").exists(), console=console).last.top1
                spent.append(time.perf_counter() - start)
                _go_on(stop, out)
            else:
                files.remove_unfinished(folder)
            scores[network].append(score)
    return scores


def _go_on(stop: threading.Event, out: Path) -> None:
    if stop.is_set():
        raise TrainingInterrupted(
            f"stopped with no run going; those that are finished are saved in {out}. Run the same command with "
            "--resume to continue."
        )


def _finished(folder: RunFolder) -> float | None:
    """Return the top-1 after the last epoch of a run, None where it is not finished."""
    epochs = [line for line in read_metrics(folder.path) if "top1" in line]
    if not epochs or epochs[-1]["epoch"] < folder.recipe.epochs - 1:
        return None
    # The weights are written between the line and the state.
    state = folder.load_state()
    return epochs[-1]["top1"] if state is not None and state["step"] == epochs[-1]["step"] else None


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
