"""Claim: a training step of VanillaNet-6 is at least 1.5 times as fast once its linear pairs are merged.

That is what the technique `FuseAfterAnneal` gains in every epoch after the annealing. Both compute the same
function: the slope is 1.

    $ python benchmarks/fuse_after_anneal.py
    $ python benchmarks/fuse_after_anneal.py --runs 20 --threads 1    # on a busy machine
    $ python benchmarks/fuse_after_anneal.py --device cuda --batch-size 128 --precision bf16 --runs 50

Writes results/fuse_after_anneal.json, or results/fuse_after_anneal_cuda.json on a GPU. Holds when the 95 %
interval of the median speed ratio lies above 1.5, and does not when it lies below.
"""

import argparse

import torch
from claim import at_least, conclude

import plainvision as pv
from plainvision.bench import comparison, measure_training_step
from plainvision.surgery.fusing import merge_pairs

CLAIM = "a training step of VanillaNet-6 is at least 1.5 times as fast once its linear pairs are merged"
CLAIMED = 1.5


def main() -> None:
    """Measure, print a table, write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--batch-size", type=int, default=8, help="images per step")
    parser.add_argument("--precision", choices=("no", "bf16", "fp16"), default="no", help="mixed precision")
    parser.add_argument("--runs", type=int, default=12, help="timed steps of each network")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads; 1 is steadier")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    before = pv.create_model("vanillanet_6")
    pv.set_slope(before, 1)
    measured = measure_training_step(
        {"linear pairs": before, "merged pairs": merge_pairs(before)},
        batch_size=arguments.batch_size,
        runs=arguments.runs,
        device=arguments.device,
        precision=arguments.precision,
    )
    rows = comparison(measured)
    columns = (
        "name",
        "parameters",
        "runs",
        "p50_ms",
        "p90_ms",
        "peak_memory_mb",
        "speed_ratio",
        "ratio_low",
        "ratio_high",
    )
    conclude(CLAIM, at_least(rows[1:], CLAIMED), rows, columns, device=arguments.device)


if __name__ == "__main__":
    main()
