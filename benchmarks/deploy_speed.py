"""Claim: the fastest deployed form of a network is at least 1.5 times as fast as PyTorch's eager mode.

Each network is written in every form that this machine offers. All of them, and the network in eager mode, are timed in
turns. The same forms answer further questions: ResNet-50 hybrid against timm's ResNet-50, each in its fastest form;
PatchConvNet-S60 in batches against its straightforward form; and how near VanillaNet comes to the roof, the best rate
of matrix products that a runtime reaches here.

    $ python benchmarks/deploy_speed.py --threads 2
    $ python benchmarks/deploy_speed.py --threads 2 --only vanillanet_6

Weights are random: precisions below fp32 are timed, and whether they keep a network's accuracy is `plainvision tune`'s
to say. Writes results/deploy_speed.json.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from claim import at_least, conclude
from patchconvnet import Straightforward
from torch import nn

import plainvision as pv
from plainvision.bench import count_macs
from plainvision.bench.measurement import median_interval
from plainvision.bench.race import race, ratios
from plainvision.deploy import Preprocessing, load
from plainvision.deploy.candidates import candidates
from plainvision.deploy.source import Source
from plainvision.deploy.writing import write_form

CLAIM = "the fastest fp32 form of each network is at least 1.5 times as fast as eager mode at batch 1"
NETWORKS = ("vanillanet_6", "resnet50_hybrid", "patchconvnet_s60")
SHOWN = ("question", "fastest", "than", "batch_size", "p50_ms", "speed_ratio", "ratio_low", "ratio_high", "wanted")
EAGER = "eager"
ROUNDS = 12


def main() -> None:
    """Write the forms, race them, write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="*", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--seconds", type=float, default=90, help="the most that each race takes")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows: list[dict[str, Any]] = []
    timed: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.only:
            works = _works(name, Path(folder) / name, 1, given.threads)
            if name == "resnet50_hybrid":
                rival = _works("resnet50", Path(folder) / "rival", 1, given.threads)
                works |= {f"resnet50 {form}": work for form, work in rival.items()}
            if name == "vanillanet_6":
                works |= _products(given.threads)
            times = race(works, may_win=set(works), rounds=ROUNDS, seconds=given.seconds, drop=False)
            own = {form: spent for form, spent in times.items() if not form.startswith(("resnet50 ", "product "))}
            rows += [
                _row(f"{name} against eager", own, precision, EAGER, 1, wanted)
                for precision, wanted in (("fp32", 1.5), ("bf16", None))
                if _of(own, precision)
            ]
            timed += [{"network": name, "form": form, "p50_ms": _median(spent)} for form, spent in times.items()]
            if name == "resnet50_hybrid":
                best = min(
                    (form for form in times if form.startswith("resnet50 ") and " fp32" in form),
                    key=lambda form: _median(times[form]),
                )
                rows.append(_row("resnet50_hybrid against timm's resnet50, both tuned", times, "fp32", best, 1, 1.4))
            if name == "vanillanet_6":
                rows.append(_roof(times))
            if name == "patchconvnet_s60":
                works = _works(name, Path(folder) / "batch", 16, given.threads, straightforward=True)
                times = race(works, may_win=set(works), rounds=ROUNDS, seconds=2 * given.seconds, drop=False)
                rows += [
                    _row(f"{name} against its straightforward form", times, precision, "straightforward", 16, wanted)
                    for precision, wanted in (("fp32", 1.5), ("bf16", 2.5))
                    if _of(times, precision)
                ]
    holds = at_least([row for row in rows if row["than"] == EAGER and " fp32" in row["fastest"]], 1.5)
    conclude(CLAIM, holds, rows, SHOWN, device="cpu", forms=timed)


def _works(
    name: str, folder: Path, batch_size: int, threads: int, straightforward: bool = False
) -> dict[str, Callable[[], object]]:
    """Return each form of a network as something to time, by its name."""
    torch.manual_seed(0)
    model = (timm.create_model(name) if name == "resnet50" else pv.create_model(name)).eval()
    pv.set_slope(model, 1)
    source = Source.of(model, Preprocessing(image_size=224))
    images = torch.randn(batch_size, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    works: dict[str, Callable[[], object]] = {EAGER: partial(_eager, source.deployed, images)}
    if straightforward:
        works["straightforward"] = partial(_eager, Straightforward(model).eval(), images)  # type: ignore[arg-type]
    for candidate in candidates(("fp32", "bf16")):
        print(f"{name}: {candidate.form} {candidate.missing or ''}", flush=True)
        if candidate.missing is None:
            place = folder / candidate.slug
            write_form(source, candidate.form, place)
            works[str(candidate.form)] = partial(load(place, threads=threads).run, images.numpy())
    return works


def _products(threads: int) -> dict[str, Callable[[], object]]:
    """Return products of square matrices in each runtime: 2 * 2048**3 operations."""
    import onnxruntime
    from onnx import TensorProto, helper

    a, b = (torch.randn(2048, 2048) for _ in range(2))
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT, shape=[2048, 2048])
    weight = helper.make_tensor("b", TensorProto.FLOAT, [2048, 2048], b.numpy().tobytes(), raw=True)
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "product", [value("a")], [value("c")], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {
        "product torch": partial(torch.mm, a, b),
        "product onnxruntime": partial(session.run, None, {"a": a.numpy()}),
    }


def _roof(times: dict[str, list[float]]) -> dict[str, Any]:
    """Return the share of the best rate of matrix products that VanillaNet's fastest fp32 form reaches."""
    model = pv.create_model("vanillanet_6")
    pv.set_slope(model, 1)
    operations = 2 * count_macs(pv.fuse(model), (224, 224))
    product = min((form for form in times if form.startswith("product ")), key=lambda form: _median(times[form]))
    own = {form: spent for form, spent in times.items() if not form.startswith("product ")}
    best = min(_of(own, "fp32"), key=lambda form: _median(times[form]))
    scale = operations / (2 * 2048**3)
    shares = [scale * share for share in ratios(times, best, product)]
    return _told("vanillanet_6's share of the roof", best, product, 1, _median(times[best]), shares, 0.85)


def _row(
    question: str, times: dict[str, list[float]], precision: str, than: str, batch_size: int, wanted: float | None
) -> dict[str, Any]:
    best = min(_of(times, precision), key=lambda form: _median(times[form]))
    return _told(question, best, than, batch_size, _median(times[best]), ratios(times, best, than), wanted)


def _of(times: dict[str, list[float]], precision: str) -> list[str]:
    return [form for form in times if f" {precision}" in form and not form.startswith("resnet50 ")]


def _told(
    question: str, best: str, than: str, batch_size: int, p50: float, rounds: list[float], wanted: float | None
) -> dict[str, Any]:
    low, high = median_interval(rounds) or (None, None)
    return {
        "question": question,
        "fastest": best,
        "than": than,
        "batch_size": batch_size,
        "p50_ms": p50,
        "speed_ratio": statistics.median(rounds),
        "ratio_low": low,
        "ratio_high": high,
        "wanted": wanted,
    }


def _median(spent: list[float]) -> float:
    return float(np.median(spent))


def _eager(network: nn.Module, images: torch.Tensor) -> None:
    with torch.inference_mode():
        network(images)


if __name__ == "__main__":
    main()
