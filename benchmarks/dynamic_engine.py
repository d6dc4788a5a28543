"""Claim: 625 dilation permutations of ResNet-50 at 224 pixels take a third of the naive loop's time, or less.

The naive loop passes each image whole through each permutation; the engine computes once what permutations share. Both
compute the same logits. They take turns, a block of 125 permutations (one option of site A) each, so that what else the
machine does meets both; the engine computes again for each block what all 625 share. Where the time goes is told by the
time of each level, beside its multiply-adds.

    $ python benchmarks/dynamic_engine.py
    $ python benchmarks/dynamic_engine.py --batch-size 8 --rounds 2 --threads 1    # on a busy machine
    $ python benchmarks/dynamic_engine.py --device cuda --batch-size 128 --rounds 5

Writes results/dynamic_engine.json, or results/dynamic_engine_cuda.json on a GPU. Holds when the median speed ratio of
the blocks is at least 3 and the engine's peak memory at most 1.5 times the naive loop's.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from claim import conclude
from torch import Tensor

import plainvision as pv
from plainvision.bench.memory import peak_memory_mb
from plainvision.dynamic import DynamicNetwork
from plainvision.dynamic.engine import shared_passes, whole_passes
from plainvision.dynamic.levels import set_options

CLAIM = "625 dilation permutations of ResNet-50 at 224 pixels take a third of the naive loop's time, or less"
FASTER, MEMORY = 3.0, 1.5

Passes = Callable[..., Iterator[tuple[int, Tensor]]]


def run(passes: Passes, network: DynamicNetwork, numbers: range, images: Tensor) -> dict[int, Tensor]:
    """Return the logits of some permutations by their numbers."""
    permutations = [network.permutations[number] for number in numbers]
    return dict(passes(network.levels, permutations, tuple(network.sites), images))


def timed(passes: Passes, network: DynamicNetwork, numbers: range, images: Tensor) -> tuple[float, dict[int, Tensor]]:
    """Return the seconds that these permutations take, and their logits."""
    synchronize(images)
    start = time.perf_counter()
    logits = run(passes, network, numbers, images)
    synchronize(images)
    return time.perf_counter() - start, logits


def synchronize(images: Tensor) -> None:
    """Wait for a GPU."""
    if images.is_cuda:
        torch.cuda.synchronize()


def level_times(network: DynamicNetwork, images: Tensor, runs: int) -> list[dict[str, Any]]:
    """Return each level's time and multiply-adds at the trained options, and how often it is computed."""
    counts = [1]
    for site in network.levels.sites:
        counts.append(counts[-1] * len(network.options[site]))
    seconds: list[list[float]] = [[] for _ in counts]
    for _ in range(runs):
        values: dict[Any, Any] = {}
        for number in range(len(counts)):
            synchronize(images)
            start = time.perf_counter()
            network.levels.run(number, values, images)
            synchronize(images)
            seconds[number].append(time.perf_counter() - start)
    costs = network.costs(images).levels(network.default)
    return [
        {
            "level": "before A" if number == 0 else f"from {network.levels.sites[number - 1]}",
            "passes_shared": counts[number],
            "passes_naive": counts[-1],
            "ms": 1000 * statistics.median(seconds[number]),
            "macs_g": costs[number].macs / 1e9,
        }
        for number in range(len(counts))
    ]


def ratio(rows: list[dict[str, Any]], key: str) -> float:
    """Return how many times as much the naive loop needs, by one column of `level_times`."""
    return sum(row["passes_naive"] * row[key] for row in rows) / sum(row["passes_shared"] * row[key] for row in rows)


def main() -> None:
    """Measure, print tables, write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1, help="times that all permutations are passed by each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads; 1 is steadier")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    network = DynamicNetwork(pv.create_model("resnet50").eval(), space="dilation").to(arguments.device)
    images = torch.randn(arguments.batch_size, 3, 224, 224, device=arguments.device)

    blocks = []
    with torch.inference_mode():
        set_options(network.model, dict(zip(network.sites, network.default, strict=True)))
        levels = level_times(network, images, runs=7)
        for _ in range(arguments.rounds):
            for block in range(5):
                numbers = range(125 * block, 125 * (block + 1))
                naive, wanted = timed(whole_passes, network, numbers, images)
                shared, found = timed(shared_passes, network, numbers, images)
                difference = max((found[n] - wanted[n]).abs().max().item() for n in wanted)
                blocks.append(
                    {"naive_s": naive, "shared_s": shared, "speed_ratio": naive / shared, "difference": difference}
                )
                print(f"block {len(blocks)}: {naive:.1f} s, {shared:.1f} s, {naive / shared:.2f}", flush=True)
        some = range(0, 625, 26)  # every option of every site, so that each level is held and given up
        device = images.device
        memory = {
            "naive_mb": peak_memory_mb(lambda: run(whole_passes, network, range(5), images), device),
            "shared_mb": peak_memory_mb(lambda: run(shared_passes, network, some, images), device),
        }
    faster = statistics.median(block["speed_ratio"] for block in blocks)
    more = None if None in memory.values() else memory["shared_mb"] / memory["naive_mb"]  # type: ignore[operator]
    result = {
        "batch_size": arguments.batch_size,
        "rounds": arguments.rounds,
        "naive_s": sum(block["naive_s"] for block in blocks) / arguments.rounds,
        "shared_s": sum(block["shared_s"] for block in blocks) / arguments.rounds,
        "speed_ratio": faster,
        "ratio_low": min(block["speed_ratio"] for block in blocks),
        "ratio_high": max(block["speed_ratio"] for block in blocks),
        "macs_ratio": ratio(levels, "macs_g"),
        "level_times_ratio": ratio(levels, "ms"),
        **memory,
        "memory_ratio": more,
        "largest_difference": max(block["difference"] for block in blocks),
    }
    holds = None if more is None else faster >= FASTER and more <= MEMORY
    columns = (
        "batch_size",
        "speed_ratio",
        "ratio_low",
        "ratio_high",
        "macs_ratio",
        "level_times_ratio",
        "memory_ratio",
    )
    conclude(CLAIM, holds, [result], columns, device=arguments.device, levels=levels, blocks=blocks)


if __name__ == "__main__":
    main()
