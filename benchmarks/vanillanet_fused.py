"""Claim: a fused VanillaNet-6 is no slower than the same layers written plainly in torch.

Both get the same weights and must give the same answer before they are timed. The plain network is timed
twice, under two names, so that the table shows what the measurement itself cannot tell apart.

    $ python benchmarks/vanillanet_fused.py
    $ python benchmarks/vanillanet_fused.py --threads 1    # on a busy machine
    $ python benchmarks/vanillanet_fused.py --device cuda --runs 300

Writes results/vanillanet_fused.json, or results/vanillanet_fused_cuda.json on a GPU. Holds when the 95 %
interval of the median speed ratio lies above 0.98 at each batch size, and does not when one lies below.
"""

import argparse
import copy
from typing import Any

import torch
from claim import at_least, conclude
from torch import nn

import plainvision as pv
from plainvision.bench import comparison, count_macs, measure

CLAIM = "a fused VanillaNet-6 is no slower than the same layers written plainly in torch"
# Two per cent: what two copies of one network differ by on a busy machine.
NO_SLOWER = 0.98


def plain_vanillanet_6() -> nn.Sequential:
    """Return VanillaNet-6 in deployed form as one would write it by hand: (B, 3, H, W) -> (B, 1000)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 512, 4, stride=4), *activation(512)]
    channels = 512
    for width, pooled in ((1024, True), (2048, True), (4096, True), (4096, False)):
        layers += [nn.Conv2d(channels, width, 1), *([nn.MaxPool2d(2)] if pooled else []), *activation(width)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 1000, 1), nn.Flatten())


def activation(channels: int) -> list[nn.Module]:
    """Return the series activation in deployed form: (B, C, H, W) -> (B, C, H, W)."""
    return [nn.ReLU(), nn.Conv2d(channels, channels, 7, padding=3, groups=channels)]


def same_weights(plain: nn.Module, fused: nn.Module) -> None:
    """Copy the convolutions of ``fused`` into ``plain``, and make sure that both are then the same network.

    Raises:
        AssertionError: they give different answers, or cost different arithmetic.
    """
    ours = [module for module in fused.modules() if isinstance(module, nn.Conv2d)]
    theirs = [module for module in plain.modules() if isinstance(module, nn.Conv2d)]
    for source, target in zip(ours, theirs, strict=True):
        target.load_state_dict(source.state_dict())
    images = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(plain.eval()(images), fused(images))
    assert count_macs(plain) == count_macs(fused)


def main() -> None:
    """Measure, print a table, write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--runs", type=int, default=40, help="rounds at batch 1; half of it at batch 16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads; 1 is steadier")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    trained = pv.create_model("vanillanet_6")
    pv.set_slope(trained, 1)
    fused = pv.fuse(trained)
    plain = plain_vanillanet_6()
    same_weights(plain, fused)
    networks = {
        "plain torch": plain,
        "plain torch again": copy.deepcopy(plain),
        "fused by plainvision": fused,
    }

    rows: list[dict[str, Any]] = []
    for batch_size, runs in ((1, arguments.runs), (16, max(12, arguments.runs // 2))):
        rows += comparison(measure(networks, batch_size=batch_size, runs=runs, device=arguments.device))
    judged = [row for row in rows if row["name"] == "fused by plainvision"]

    columns = (
        "name",
        "batch_size",
        "runs",
        "p50_ms",
        "p90_ms",
        "peak_memory_mb",
        "speed_ratio",
        "ratio_low",
        "ratio_high",
    )
    conclude(CLAIM, at_least(judged, NO_SLOWER), rows, columns, device=arguments.device)


if __name__ == "__main__":
    main()
