"""What measuring a network found, and speeds relative to the first network, compared within rounds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy


@dataclass(frozen=True)
class Measurement:
    """Cost of one network under given circumstances."""

    name: str
    """The network's name."""
    parameters: int
    """Learned values."""
    macs: int
    """Multiply-adds of the forward pass of one image."""
    batch_size: int
    """Images per pass."""
    image_size: tuple[int, int]
    """Height and width in pixels."""
    device: str
    """Where it ran: cpu, cuda:0, ..."""
    precision: str
    """no, bf16 or fp16."""
    channels_last: bool
    """Whether activations had the channels_last memory layout."""
    compiled: bool
    """Whether torch.compile compiled the network."""
    threads: int
    """PyTorch's CPU threads."""
    times_ms: tuple[float, ...]
    """Milliseconds of each pass, one per round."""
    peak_memory_mb: float | None
    """Peak memory of a pass, above what was in use, in MB (1e6 bytes); None where unknown."""
    held_mb: float = 0.0
    """What is in use before a pass: weights, buffers and images, in MB."""

    @property
    def total_memory_mb(self) -> float | None:
        """Peak memory with weights and images, in MB, as papers report it; None where unknown."""
        return None if self.peak_memory_mb is None else self.peak_memory_mb + self.held_mb

    @property
    def runs(self) -> int:
        """How many passes were timed."""
        return len(self.times_ms)

    @property
    def p50_ms(self) -> float:
        """Median time of a pass in milliseconds."""
        return statistics.median(self.times_ms)

    @property
    def p90_ms(self) -> float:
        """90th percentile of the time of a pass in milliseconds."""
        return float(numpy.quantile(self.times_ms, 0.9))

    @property
    def images_per_second(self) -> float:
        """Images of a batch over the median time of a pass."""
        return 1000 * self.batch_size / self.p50_ms

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values for a record or a table; the single times are summed up."""
        plain = asdict(self)
        del plain["times_ms"]
        return plain | {
            "image_size": list(self.image_size),
            "runs": self.runs,
            "p50_ms": self.p50_ms,
            "p90_ms": self.p90_ms,
            "images_per_second": self.images_per_second,
            "total_memory_mb": self.total_memory_mb,
        }


def ratios_per_round(measurements: Sequence[Measurement]) -> list[tuple[float, ...]]:
    """Return, per network, its speed relative to the first network's in each round: 2.0 is twice as fast.

    Raises:
        ValueError: no measurements, or not of one call: their rounds do not match.
    """
    if len({measurement.runs for measurement in measurements}) != 1:
        raise ValueError(
            f"cannot compare round by round: the measurements have {[m.runs for m in measurements]} rounds. "
            "Give measurements of one call of `measure`."
        )
    first = measurements[0].times_ms
    return [tuple(a / b for a, b in zip(first, m.times_ms, strict=True)) for m in measurements]


def comparison(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Return a row per network for a record or a table: its figures, its speed relative to the first.

    ``speed_ratio`` is the median over rounds, ``ratio_low`` and ``ratio_high`` its `median_interval`; None where the
    rounds are too few for one.

    Raises:
        ValueError: no measurements, or not of one call.
    """
    rows = []
    for measurement, rounds in zip(measurements, ratios_per_round(measurements), strict=True):
        low, high = median_interval(rounds) or (None, None)
        ratio = {"speed_ratio": statistics.median(rounds), "ratio_low": low, "ratio_high": high}
        rows.append(measurement.to_dict() | ratio)
    return rows


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return an interval that holds the true median with 95 % confidence, whatever the distribution.

    None below six values: not even the lowest and the highest are that sure.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("there is no median of no values. Give at least one.")
    ordered, count = sorted(values), len(values)
    # How many values lie below the median is Binomial(count, 1/2): drop values from both ends while the two
    # tails together stay under 5 %.
    drop, tail = 0, 0
    while 2 * (tail + math.comb(count, drop)) <= 0.05 * 2**count:
        tail += math.comb(count, drop)
        drop += 1
    return (ordered[drop - 1], ordered[count - drop]) if drop else None
