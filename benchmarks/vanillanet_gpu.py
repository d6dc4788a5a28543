"""Claim: VanillaNet-6 in bf16, one image at a time, can be brought within 5 times of what the GPU allows.

Times ways to run the deployed network, each by a CUDA graph: as it is and compiled, in both memory layouts, and with
each depthwise convolution of the series activations written as a sum of shifted, weighted images, which the compiler
fuses with the ReLU and the pooling around it. Beside the times it records where the time of each way goes: its kernels
by their share.

    $ python benchmarks/vanillanet_gpu.py

Needs a GPU, writes results/vanillanet_gpu_cuda.json after each way; compiling takes some minutes.
"""

import argparse
import copy
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from claim import conclude
from gpu_ladder import Compiled, Replayed, ceilings, deployed, roof_ms, set_tf32, timed
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.profiler import ProfilerActivity, profile

CLAIM = "VanillaNet-6 in bf16, one image at a time, can be brought within 5 times of what the GPU allows"
_KERNELS = 6


class Shifted(nn.Module):
    """A depthwise convolution of stride 1 as a sum of shifted images, which a compiler fuses with its neighbours."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.conv.weight, self.conv.bias
        rows, columns = weight.shape[2:]
        height, width = x.shape[2:]
        padded = pad(x, (columns // 2, columns // 2, rows // 2, rows // 2))
        total = torch.zeros((), device=x.device, dtype=torch.float32)
        for i in range(rows):
            for j in range(columns):
                part = padded[:, :, i : i + height, j : j + width].float()
                total = total + part * weight[None, :, 0, i, j, None, None].float()
        return (total if bias is None else total + bias[None, :, None, None].float()).to(x.dtype)


def shifted(network: nn.Module) -> nn.Module:
    """Return a copy of the network whose depthwise convolutions are `Shifted`."""
    made = copy.deepcopy(network)
    for parent in list(made.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and child.groups == child.in_channels == child.out_channels:
                assert child.stride == (1, 1)
                assert child.dilation == (1, 1)
                setattr(parent, name, Shifted(child))
    return made


def kernels(work: Callable[[], object]) -> list[dict[str, Any]]:
    """Return the kernels that take most of a pass, with their microseconds and launches in a pass."""
    passes = 20
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        for _ in range(passes):
            work()
        torch.cuda.synchronize()
    found = [event for event in profiler.key_averages() if event.self_device_time_total > 0]
    found.sort(key=lambda event: -event.self_device_time_total)
    return [
        {
            "kernel": event.key[:90],
            "us": round(event.self_device_time_total / passes, 1),
            "launches": round(event.count / passes, 1),
        }
        for event in found[:_KERNELS]
    ]


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="vanillanet_6")
    parser.add_argument("--minutes", type=float, default=5, help="begin no further way after so many minutes")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    torch.manual_seed(0)
    set_tf32(False)
    exact = deployed(arguments.network).cuda()
    plain = copy.deepcopy(exact).bfloat16()
    flops, bandwidth = ceilings(torch.bfloat16)
    images = torch.rand(1, 3, 224, 224, device="cuda")
    with torch.inference_mode():
        truth = exact(images)
    images = images.bfloat16()
    roof = roof_ms(plain, images, flops, bandwidth)
    # Name, network, whether its activations are channels_last, and whether it is compiled.
    ways: list[tuple[str, nn.Module, bool, bool]] = [
        ("as it is", plain, False, False),
        ("channels last", plain, True, False),
        ("compiled", plain, False, True),
        ("compiled, shifts", shifted(plain), False, True),
        ("compiled, shifts, channels last", shifted(plain), True, True),
    ]
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for name, way, last, compiled in ways:
        if time.monotonic() > end:
            break
        layout = torch.channels_last if last else torch.contiguous_format
        network = copy.deepcopy(way).to(memory_format=layout)
        given = images.contiguous(memory_format=layout)
        started = time.monotonic()
        if compiled:
            torch.compiler.reset()
            network = Compiled(network)
        try:
            replayed = Replayed(network, given)
        except Exception as error:  # compilers raise nearly anything
            failed.append({"way": name, "error": str(error)[:200]})
            continue
        compiling = time.monotonic() - started
        with torch.inference_mode():
            off = float((replayed(given).float() - truth).abs().max() / truth.abs().max())
        (row,) = timed({name: replayed}, 1)
        with torch.inference_mode():
            took = kernels(partial(replayed, given))
        rows.append(
            {
                "way": name,
                "p50_ms": row["p50_ms"],
                "times_of_roof": row["p50_ms"] / roof,
                "largest_relative_error": off,
                "compiling_s": round(compiling, 1),
                "kernels": took,
            }
        )
        print(rows[-1], flush=True)
        best = min(row["times_of_roof"] for row in rows)
        roofs = [
            {"network": arguments.network, "roof_ms": roof, "tflops": flops / 1e12, "gb_per_second": bandwidth / 1e9}
        ]
        columns = ("way", "p50_ms", "times_of_roof", "largest_relative_error", "compiling_s")
        conclude(CLAIM, best <= 5, rows, columns, device="cuda", roof=roofs, failed=failed)
        del replayed, network
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
