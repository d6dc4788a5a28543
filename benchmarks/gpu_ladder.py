"""Claim: VanillaNet-6 in bf16, one image at a time by a CUDA graph, is within 5 times of what the GPU allows.

Times each network eager, by a CUDA graph of its own, compiled, and compiled in a graph; in float32, TF32 and bf16; one
image at a time and many. VanillaNets are in deployed form. The roof is a sum over convolutions and linear layers. Each
counts the longer of two times: its operations at the rate of a large matrix product, and its weights, input and output
at the bandwidth of a large copy. Both rates are measured here. Pooling, activations and norms count as free.

    $ python benchmarks/gpu_ladder.py --minutes 8

Needs a GPU. Compiling takes most of the time, so it comes last; what --minutes cuts off is missing from
results/gpu_ladder_cuda.json, which is written after each group of rows.
"""

import argparse
import copy
import time
from typing import Any

import torch
from claim import conclude
from torch import Tensor, nn

import plainvision as pv
from plainvision.bench import comparison, count_macs, measure

CLAIM = "VanillaNet-6 in bf16, one image at a time by a CUDA graph, is within 5 times of what the GPU allows"
NETWORKS = (
    "resnet50",
    "convnext_tiny",
    "vanillanet_5",
    "vanillanet_6",
    "vanillanet_9",
    "vanillanet_13",
    "patchconvnet_s60",
    "resnet50_hybrid",
    "vit_s_max",
)
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


class Replayed(nn.Module):
    """A network's pass as a CUDA graph: one launch for all kernels, on images of one shape."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.network = network  # its parameters are to be counted, and must outlive the graph
        self.images = images.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.cuda.stream(side):
            for _ in range(3):  # libraries choose their kernels before the capture
                network(self.images)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(self.graph):
            self.logits = network(self.images)

    def forward(self, x: Tensor) -> Tensor:
        self.images.copy_(x)
        self.graph.replay()
        return self.logits


class Compiled(nn.Module):
    """A network that torch.compile has compiled for inference, and as it was elsewhere: for counting its operations."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.compiled: Any = torch.compile(network.forward)

    def forward(self, x: Tensor) -> Tensor:
        return self.compiled(x) if torch.is_inference_mode_enabled() else self.network(x)


def deployed(name: str) -> nn.Module:
    """Return the network as it is deployed: a VanillaNet fused, the others with their batch norms folded."""
    model = pv.create_model(name).eval()
    pv.set_slope(model, 1)
    return pv.fuse(model, images=1) if any(isinstance(m, nn.BatchNorm2d) for m in model.modules()) else model


def set_tf32(allowed: bool) -> None:
    """Let float32 products use TF32, or not."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def roof_ms(network: nn.Module, images: Tensor, flops: float, bandwidth: float) -> float:
    """Return the least time in milliseconds that the layers of a pass can take on this GPU."""
    seconds = 0.0

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal seconds
        weight = layer.weight
        assert isinstance(weight, Tensor)
        per_output = weight[0].numel()  # multiply-adds
        operations = 2 * per_output * output.numel()
        size = (weight.numel() + inputs[0].numel() + output.numel()) * weight.element_size()
        seconds += max(operations / flops, size / bandwidth)

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    with torch.inference_mode():
        network(images)
    for hook in hooks:
        hook.remove()
    return 1000 * seconds


def best_seconds(work: Any, rounds: int = 10) -> float:
    """Return the shortest of several times of ``work`` on the GPU."""
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return min(times)


def ceilings(dtype: torch.dtype) -> tuple[float, float]:
    """Return operations a second of a large matrix product, and bytes a second of a large copy, read and written."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=dtype) for _ in range(2))
    flops = 2 * 8192**3 / best_seconds(lambda: a @ b)
    source = torch.randn(2**29, device="cuda")
    target = torch.empty_like(source)
    return flops, 2 * source.nbytes / best_seconds(lambda: target.copy_(source))


def timed(forms: dict[str, nn.Module], batch_size: int) -> list[dict[str, Any]]:
    """Return a row per form, timed in turns."""
    many = 200 if batch_size == 1 else 20
    return comparison(measure(forms, batch_size=batch_size, runs=many, warmup=5, seconds=4))


def summed_up(rows: list[dict[str, Any]], many: int) -> list[dict[str, Any]]:
    """Return a row per network: one image in bf16, eager and by a graph, and images a second of the larger batch."""
    found = {(row["network"], row["form"], row["precision"], row["batch_size"]): row for row in reversed(rows)}

    def figure(name: str, form: str, precision: str, batch: int, key: str) -> float | None:
        row = found.get((name, form, precision, batch))
        return None if row is None else row[key]

    return [
        {
            "network": name,
            "eager_ms": figure(name, "eager", "bf16", 1, "p50_ms"),
            "graph_ms": figure(name, "graph", "bf16", 1, "p50_ms"),
            "times_of_roof": figure(name, "graph", "bf16", 1, "times_of_roof"),
            "tf32_images_per_s": figure(name, "graph", "tf32", many, "images_per_second"),
            "bf16_images_per_s": figure(name, "graph", "bf16", many, "images_per_second"),
        }
        for name in NETWORKS
    ]


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="begin no further measurement after so many minutes")
    parser.add_argument("--batch-size", type=int, default=256, help="the larger batch")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    torch.manual_seed(0)
    models = {name: deployed(name) for name in NETWORKS}
    macs = {name: count_macs(model) for name, model in models.items()}
    rows: list[dict[str, Any]] = []
    limits: list[dict[str, Any]] = []
    plan = [(precision, batch, False) for precision in PRECISIONS for batch in (1, arguments.batch_size)]
    plan += [("bf16", batch, True) for batch in (1, arguments.batch_size)]
    for precision, batch, compiled in plan:
        set_tf32(precision == "tf32")
        dtype = PRECISIONS[precision]
        flops, bandwidth = ceilings(dtype)
        if not compiled and batch == 1:
            limits.append({"precision": precision, "tflops": flops / 1e12, "gb_per_second": bandwidth / 1e9})
        for name, model in models.items():
            if time.monotonic() > end:
                break
            network = copy.deepcopy(model).to("cuda", dtype)
            images = torch.rand(batch, 3, 224, 224, device="cuda").to(dtype)
            roof = roof_ms(network, images, flops, bandwidth)
            forms: dict[str, nn.Module] = {"eager": network, "graph": Replayed(network, images)}
            if compiled:
                torch.compiler.reset()
                fast = Compiled(network)
                forms = {"eager": network, "compiled": fast, "compiled, graph": Replayed(fast, images)}
            for row in timed(forms, batch):
                facts = {"network": name, "form": row["name"], "precision": precision, "batch_size": batch}
                figures = {key: row[key] for key in ("p50_ms", "p90_ms", "images_per_second", "peak_memory_mb")}
                speed = {key: row[key] for key in ("speed_ratio", "ratio_low", "ratio_high")}
                parameters = sum(p.numel() for p in model.parameters())
                cost = {"parameters": parameters, "macs": macs[name]}
                rows.append(facts | figures | speed | cost | {"roof_ms": roof, "times_of_roof": row["p50_ms"] / roof})
            del network, forms
            torch.cuda.empty_cache()
        summary = summed_up(rows, arguments.batch_size)
        wanted = [
            row["times_of_roof"]
            for row in rows
            if row["network"] == "vanillanet_6" and "graph" in row["form"]
            if (row["precision"], row["batch_size"]) == ("bf16", 1)
        ]
        columns = ("network", "eager_ms", "graph_ms", "times_of_roof", "tf32_images_per_s", "bf16_images_per_s")
        holds = min(wanted) <= 5 if wanted else None
        conclude(CLAIM, holds, summary, columns, device="cuda", measured=rows, ceilings=limits)


if __name__ == "__main__":
    main()
