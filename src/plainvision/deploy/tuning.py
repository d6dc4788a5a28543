"""Find the fastest form of a network that this machine offers and that its gate lets pass."""

import contextlib
import copy
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from plainvision.bench.measurement import median_interval
from plainvision.bench.race import race, ratios
from plainvision.bench.record import host_facts
from plainvision.deploy.candidates import PRECISIONS, Candidate, candidates
from plainvision.deploy.examination import Examination
from plainvision.deploy.exporting import check_free, replace_folder
from plainvision.deploy.folder import load
from plainvision.deploy.gate import Gate
from plainvision.deploy.preprocessing import Preprocessing
from plainvision.deploy.process_memory import process_growth_mb
from plainvision.deploy.running import Precision
from plainvision.deploy.source import Source
from plainvision.deploy.tuned import TunedForm, Tuning
from plainvision.deploy.tuning_report import write_report
from plainvision.deploy.writing import DESCRIPTION, write_form
from plainvision.files import read_object, write_json
from plainvision.inspection.devices import usable_device

EAGER = "eager"
# Of the time, so much for writing and judging forms; the rest is for measuring.
_FOR_WRITING = 0.7
_LEAST_SECONDS = 10.0


def tune(
    model: nn.Module,
    folder: str | Path,
    *,
    preprocessing: Preprocessing,
    classes: Sequence[str] = (),
    temperature: float = 1.0,
    examination: Examination | None = None,
    batch_size: int = 1,
    device: str = "cpu",
    precisions: Sequence[Precision] | None = None,
    threads: Sequence[int] | None = None,
    seconds: float = 900,
    report: Callable[[str], None] = lambda line: None,
) -> Tuning:
    """Write the fastest form of ``model`` that passes its gate into ``folder``, and return how all forms compare.

    Forms in fp32 pass when their outputs are the network's; others when ``examination`` lets them. They are timed in
    turns. What is written stays in ``.FOLDER.tuning`` beside the folder until the end: the same call goes on there.

    Args:
        model: images (B, C, H, W) -> logits (B, K); it stays as it is.
        folder: a new folder, or a deployed one.
        preprocessing: how an image becomes what the network takes.
        temperature: divides the logits where the folder is asked for confidences, see `plainvision.load`.
        classes: names of the K classes, in the order of the logits.
        examination: images that calibrate int8, and others that judge; without it only fp32 may win.
        batch_size: images per timed pass.
        device: where the forms run, "cpu" or "cuda"; times include the way of images to a GPU and of logits back.
        precisions: what forms may compute in; None is all of `PRECISIONS` for the device.
        threads: numbers of threads to try; None is one, and torch's; on a GPU torch's alone.
        seconds: about how long it may take; forms that do not fit are not tried, once there is one that passes.
        report: called with a line as the work goes on.

    Raises:
        ValueError: no form could be written, or an argument cannot be.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    check_free(folder)
    if device not in PRECISIONS:
        raise ValueError(f"device={device!r} is no kind of device that forms are written for: {', '.join(PRECISIONS)}.")
    usable_device(device)
    precisions = PRECISIONS[device] if precisions is None else tuple(precisions)
    if batch_size < 1 or seconds <= 0 or not precisions:
        raise ValueError(f"batch_size={batch_size}, seconds={seconds} and precisions={precisions} leave nothing to do.")
    cores = torch.get_num_threads()
    counts = tuple(threads) if threads else tuple(sorted({1, cores})) if device == "cpu" else (cores,)
    started = time.monotonic()
    source = Source.of(model, preprocessing, classes, examination, temperature)
    labelled = examination is not None and examination.calibration_labels is not None
    tried = candidates(precisions, device=device, labelled=labelled)
    work = folder.with_name(f".{folder.name}.tuning")
    _resume(work, source, batch_size, device)
    found: list[TunedForm] = []
    for one in tried:
        in_time = time.monotonic() - started < _FOR_WRITING * seconds
        # However slow the machine is, there is one form in the end.
        in_time = in_time or not any(form.verdict == "passes" for form in found)
        found.append(_written(source, one, work, batch_size, in_time, report))
    if not any(form.verdict == "passes" for form in found):
        told = "; ".join(f"{form.name}: {_why(form)}" for form in found)
        raise ValueError(f"no form passes: {told.rstrip('.')}. Allow a larger loss, or let fp32 be tried.")
    left = max(_LEAST_SECONDS, seconds - (time.monotonic() - started))
    report(f"timing {sum(form.verdict != 'not tried' for form in found)} forms for {left:.0f} s at most")
    forms = _timed(source, tried, found, work, batch_size, counts, left, device)
    winner = min(
        (form for form in forms if form.verdict == "passes" and form.name != EAGER), key=lambda f: f.p50_ms or 0
    )
    report(f"{winner.name} with {winner.threads} threads is the fastest that passes")
    tuning = Tuning(
        folder,
        winner,
        tuple(sorted(forms, key=lambda form: (form.p50_ms is None, form.p50_ms or 0))),
        batch_size,
        _accuracy(found),
    )
    _deliver(tuning, next(one for one in tried if str(one.form) == winner.name), work)
    return tuning


def _why(form: TunedForm) -> str:
    return form.note if form.verdict == "not tried" else f"{form.verdict}, {form.gate}"


def _resume(work: Path, source: Source, batch_size: int, device: str) -> None:
    """Keep what an earlier call wrote for the same network and images on this kind of machine; else begin anew."""
    host = host_facts()
    examination = source.examination
    mark = {
        "network": source.fingerprint(),
        "preprocessing": vars(source.preprocessing) | {},
        "classes": list(source.classes),
        "temperature": source.temperature,
        "allow_loss": examination and examination.allow_loss,
        "images": examination and getattr(examination.judged, "fingerprint", None),
        "calibration": examination and len(examination.calibration),
        "batch_size": batch_size,
        "device": device,
        "host": {key: host[key] for key in ("cpu", "vector_extensions", "gpu", "torch", "plainvision")},
    }
    mark = json.loads(json.dumps(mark))
    path = work / "tuning.json"
    with contextlib.suppress(OSError, ValueError):
        if read_object(path) == mark:
            return
    if work.exists() and not path.exists() and any(work.iterdir()):
        raise ValueError(f"{work} is there and no call of `tune` wrote it. Remove it, or give another folder.")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    write_json(path, mark)


def _written(
    source: Source,
    candidate: Candidate,
    work: Path,
    batch_size: int,
    in_time: bool,
    report: Callable[[str], None],
) -> TunedForm:
    """Return a candidate as it was written and judged, not yet timed."""
    name, place = str(candidate.form), work / candidate.slug
    failed = place.with_name(f"{candidate.slug}.json")
    row = TunedForm(name, 0, "not tried")
    if candidate.missing:
        return replace(row, note=candidate.missing)
    if failed.exists():
        return replace(row, note=str(read_object(failed)["error"]))
    if not place.exists():
        if not in_time:
            return replace(row, note="there was no time left: give more seconds")
        report(f"writing and judging {name}")
        half = place.with_name(f"{candidate.slug}.half")
        shutil.rmtree(half, ignore_errors=True)
        try:
            write_form(source, candidate.form, half)
        except OSError:
            raise
        except ValueError as error:
            shutil.rmtree(half, ignore_errors=True)
            write_json(failed, {"error": str(error)})
            return replace(row, note=str(error))
        said = read_object(half / DESCRIPTION)
        write_json(half / DESCRIPTION, said | {"tuned": {"memory_mb": process_growth_mb(half, batch_size)}})
        half.rename(place)
    said = read_object(place / DESCRIPTION)
    gate = None
    if said["gate"] is not None:
        counts = {key: said["gate"][key] for key in ("images", "lost", "gained", "right")}
        gate = Gate(**counts, allowed=said["gate"]["allowed_points"])
    exact = candidate.form.precision == "fp32"  # its outputs were compared with the network's
    verdict = "passes" if exact else "cannot tell" if gate is None else gate.verdict
    note = "" if exact or gate is not None else "no images to judge it by"
    scheme = said["scheme"] if candidate.form.scheme is None else None
    return replace(
        row,
        verdict=verdict,
        gate=gate,
        size_mb=said["proof"]["size_mb"],
        memory_mb=said["tuned"]["memory_mb"],
        note=note or scheme or "",
    )


def _timed(
    source: Source,
    tried: Sequence[Candidate],
    found: Sequence[TunedForm],
    work: Path,
    batch_size: int,
    counts: Sequence[int],
    seconds: float,
    device: str,
) -> list[TunedForm]:
    """Return the forms with each number of threads, timed in turns; those that were not tried stay as they are."""
    side, channels = source.preprocessing.image_size, source.preprocessing.channels
    images = torch.randn(batch_size, channels, side, side, generator=torch.Generator().manual_seed(0))
    forms = {(EAGER, count): TunedForm(EAGER, count, "passes") for count in counts}
    works: dict[str, Callable[[], object]] = {
        f"{EAGER} {count}": _eager(copy.deepcopy(source.deployed).to(device), images, count) for count in counts
    }
    for candidate, form in zip(tried, found, strict=True):
        if form.verdict == "not tried":
            continue
        for count in counts:
            deployed = load(work / candidate.slug, threads=count)
            forms[form.name, count] = replace(form, threads=count)
            works[f"{form.name} {count}"] = partial(deployed.run, images.numpy())
    by_key = {f"{name} {count}": form for (name, count), form in forms.items()}
    may_win = {key for key, form in by_key.items() if form.verdict == "passes" and form.name != EAGER}
    eager = {key for key, form in by_key.items() if form.name == EAGER}
    times = race(works, may_win=may_win, bases=eager, seconds=seconds)
    base = min(eager, key=lambda key: (-len(times[key]), float(np.median(times[key]))))
    timed = []
    for key, form in by_key.items():
        rounds = ratios(times, key, base)
        low, high = median_interval(rounds) or (None, None)
        timed.append(
            replace(
                form,
                times_ms=tuple(times[key]),
                ratio=float(np.median(rounds)),
                ratio_low=low,
                ratio_high=high,
            )
        )
    return timed + [form for form in found if form.verdict == "not tried"]


def _eager(network: nn.Module, images: torch.Tensor, threads: int) -> Callable[[], object]:
    device = next(network.parameters()).device

    def run() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                network(images.to(device)).cpu()
        finally:
            torch.set_num_threads(before)

    return run


def _accuracy(found: Sequence[TunedForm]) -> float | None:
    gate = next((form.gate for form in found if form.gate is not None), None)
    return None if gate is None or gate.right is None else 100 * gate.right / gate.images


def _deliver(tuning: Tuning, candidate: Candidate, work: Path) -> None:
    """Put the winner's folder, with its report, in its place."""
    made = work / "made"
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(work / candidate.slug, made)
    said = read_object(made / DESCRIPTION)
    winner = tuning.winner
    tuned = {"threads": winner.threads, "batch_size": tuning.batch_size, "p50_ms": winner.p50_ms, "ratio": winner.ratio}
    write_json(made / DESCRIPTION, said | {"tuned": said["tuned"] | tuned})
    write_json(made / "tuning.json", {"forms": [form.to_dict() for form in tuning.forms], "host": host_facts()})
    write_report(made / "report.html", tuning, said)
    replace_folder(tuning.folder, made)
    shutil.rmtree(work, ignore_errors=True)
