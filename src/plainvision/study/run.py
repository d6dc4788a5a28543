"""A layer study runs: which spatial operation a bottleneck needs in which stage (arXiv:2202.02777, section 3).

One network per operation and stage: a small one of bottlenecks, in which all spatial operations of the stage are that
one. Each is trained from scratch under one budget, once per seed; accuracy, parameters, multiply-adds and latency are
set side by side. The operation that the network has of itself is trained once for all stages.

With widths, the networks are of a single bottleneck, one per operation and width.

Differs  the paper studies ResNets of several depths too; here the deep network is one. The norm and the activation
         behind an operation stay whichever it is, unless ``drop_norm_act`` is asked for
"""

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from plainvision import files
from plainvision.bench import comparison, measure, median_interval
from plainvision.inspection.devices import usable_device
from plainvision.processes import TrainingInterrupted, stop_requested
from plainvision.study.settings import LayerStudy, StudyNetwork
from plainvision.training.progress import say
from plainvision.training.several_runs import between_runs, train_each
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
        if stop.is_set():
            raise TrainingInterrupted(between_runs(out))
    rows = []
    for (network, top1), measured, compared in zip(scores.items(), timed, comparison(timed), strict=True):
        low, high = median_interval(measured.times_ms) or (None, None)
        # Relative to the first, which says something when that is the network as it is.
        first = study.networks()[0]
        speed = compared if (first.stage, first.width) == (None, None) else {}
        rows.append(
            {
                "bottleneck": study.bottleneck,
                "stage": network.stage,
                "width": network.width,
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
    scores: dict[StudyNetwork, list[float]] = {network: [] for network in study.networks()}
    recipes = {recipe.name: recipe for _, recipe in study.recipes()}
    with contextlib.closing(train_each(recipes, out, resume=resume, console=console)) as runs:
        for (network, _), (name, ended) in zip(study.recipes(), runs, strict=True):
            if ended.top1 is None:
                raise ValueError(f"{name} has diverged in epoch {ended.diverged_epoch}: {ended.why}")
            scores[network].append(ended.top1)
    return scores
