"""Claim: once compiled, R50-hybrid is at least 1.3 and R50-max at least 1.5 times as fast as ResNet-50, on a CPU.

Three networks in one run: timm's resnet50, and ours with max pooling in the place of the 3x3 convolutions. Batch 1 and
224 pixels, in eager mode, compiled by torch, and by ONNX Runtime where onnx, onnxscript and onnxruntime are installed;
then a training step, and where the time of one bottleneck goes. resnet50 is also timed in the channels_last layout,
which ours bring along.

    $ python benchmarks/parameter_free.py --threads 1
    $ python benchmarks/parameter_free.py --device cuda --batch-size 64 --training-batch-size 128 --runs 50

Writes results/parameter_free.json, or results/parameter_free_cuda.json on a GPU. Holds when the 95 % interval of the
median speed ratio of the compiled networks lies above these numbers.
"""

import argparse
import importlib.util
from typing import Any

import numpy
import torch
from claim import at_least, conclude
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import plainvision as pv
from plainvision.bench import Measurement, as_table, comparison, measure, measure_training_step
from plainvision.surgery.fusing import fold

CLAIM = "once compiled, R50-hybrid is at least 1.3 and R50-max at least 1.5 times as fast as ResNet-50"
FASTER = {"resnet50_hybrid": 1.3, "resnet50_max": 1.5}


class OnnxRuntime(nn.Module):
    """A network run by ONNX Runtime, on the threads that torch has: images (B, 3, H, W) -> logits (B, K)."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        super().__init__()
        import onnxruntime

        program = torch.onnx.export(model, (images,), dynamo=True, verbose=False)
        assert program is not None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        written = program.model_proto.SerializeToString()
        self.session = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(numpy.asarray(self.session.run(None, {self.input: x.numpy()})[0]))


def networks() -> dict[str, nn.Module]:
    """Return the three networks in eval mode, and what batch norms they have folded, as they would be deployed."""
    torch.manual_seed(0)
    return {name: pv.fuse(pv.create_model(name).eval(), images=2) for name in ("resnet50", *FASTER)}


def shares() -> list[dict[str, Any]]:
    """Return how one bottleneck of R50-max shares its time among its ops, in each memory layout, on the CPU.

    It is the second of the first stage, with its batch norms folded: (1, 256, 56, 56).
    """
    model = pv.create_model("resnet50_max").eval()
    block = fold(nn.Sequential(model.get_submodule("stages.0.1")))
    words = {"convolutions": "conv", "max_pooling": "max_pool", "activations": "clamp", "addition": "add"}
    rows = []
    for name, layout in (("channels_last", torch.channels_last), ("contiguous", torch.contiguous_format)):
        features = torch.rand(1, 256, 56, 56).contiguous(memory_format=layout)
        with torch.inference_mode():
            for _ in range(5):
                block(features)
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                for _ in range(50):
                    block(features)
        times = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
        total = sum(times.values())
        row: dict[str, Any] = {"layout": name, "total_ms": total / 50 / 1000}
        for group, word in words.items():
            row[f"{group}_share"] = sum(time for key, time in times.items() if word in key) / total
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print tables, write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--training-batch-size", type=int, default=8)
    parser.add_argument("--runs", type=int, default=20, help="rounds of inference; a quarter of it of training steps")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads; 1 is steadier")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    rows: list[dict[str, Any]] = []
    setup = {"batch_size": arguments.batch_size, "runs": arguments.runs, "device": arguments.device}
    forms = networks()
    rows += labelled("eager", measure(forms, **setup))
    rows += labelled("eager, all channels_last", measure(forms, channels_last=True, **setup))
    rows += labelled("compiled", measure(forms, compile=True, **setup))
    if arguments.device == "cpu" and all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))):
        images = torch.rand(arguments.batch_size, 3, 224, 224)
        sessions = {name: OnnxRuntime(model, images) for name, model in forms.items()}
        costs = {row["name"]: {key: row[key] for key in ("parameters", "macs")} for row in rows}
        measured = labelled("ONNX Runtime", measure(sessions, **setup))
        # Its arena keeps what it once took, so that the growth of the process says nothing.
        rows += [{**row, **costs[row["name"]], "peak_memory_mb": None} for row in measured]
    rows += labelled(
        "training step",
        measure_training_step(
            {name: pv.create_model(name) for name in forms},
            batch_size=arguments.training_batch_size,
            runs=max(5, arguments.runs // 4),
            device=arguments.device,
        ),
    )
    judged = [(row, FASTER[row["name"]]) for row in rows if row["form"] == "compiled" and row["name"] in FASTER]
    verdicts = [at_least([row], ratio) for row, ratio in judged]
    holds = False if False in verdicts else None if None in verdicts else True

    where = shares()
    print(as_table(where), end="\n\n")
    columns = ("form", "name", "batch_size", "p50_ms", "peak_memory_mb", "speed_ratio", "ratio_low", "ratio_high")
    conclude(CLAIM, holds, rows, columns, device=arguments.device, bottleneck=where)


def labelled(form: str, measured: list[Measurement]) -> list[dict[str, Any]]:
    """Return a row for each measurement, compared with the first, which says in which form it ran."""
    return [{"form": form, **row} for row in comparison(measured)]


if __name__ == "__main__":
    main()
