"""What `tune` finds: forms of a network, and the one that won."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plainvision.bench.measurement import median_interval
from plainvision.deploy.gate import Gate


@dataclass(frozen=True)
class TunedForm:
    """A form of a network with a number of threads: what it costs, and whether it may take the network's place."""

    name: str
    """Format, precision, scheme, layout."""
    threads: int
    verdict: str
    """passes, fails, cannot tell; "not tried" where ``note`` says why."""
    gate: Gate | None = None
    """How its classes compare with the network's."""
    times_ms: tuple[float, ...] = ()
    """Milliseconds of each timed pass of a batch."""
    ratio: float | None = None
    """How many times as fast as the network in eager mode: the median over rounds."""
    ratio_low: float | None = None
    ratio_high: float | None = None
    """A 95 % interval of the ratio's median."""
    size_mb: float | None = None
    """Size of the model's files, in MB (1e6 bytes)."""
    memory_mb: float | None = None
    """Growth of a fresh process that loads and runs it, weights included, in MB."""
    note: str = ""
    """What else there is to say."""

    @property
    def p50_ms(self) -> float | None:
        """Median time of a batch in milliseconds."""
        return float(np.median(self.times_ms)) if self.times_ms else None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values for a record or a table."""
        plain = {name: value for name, value in vars(self).items() if name not in ("gate", "times_ms")}
        interval = median_interval(self.times_ms) if self.times_ms else None
        return plain | {
            "runs": len(self.times_ms),
            "p50_ms": self.p50_ms,
            "p50_low_ms": interval and interval[0],
            "p50_high_ms": interval and interval[1],
            "accuracy": None if self.gate is None else self.gate.accuracy,
            "lowest_accuracy": None if self.gate is None else self.gate.lowest_accuracy,
            "gate": None if self.gate is None else str(self.gate),
        }


@dataclass(frozen=True)
class Tuning:
    """What `tune` found."""

    folder: Path
    """The deployed folder of the winner."""
    winner: TunedForm
    """The fastest form that passes."""
    forms: tuple[TunedForm, ...]
    """All forms, the fastest first; those that were not tried last."""
    batch_size: int
    """Images per pass."""
    accuracy: float | None
    """Top-1 of the network on the images that judge, in per cent; None without labels."""
