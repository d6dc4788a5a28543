"""How long networks take and how much memory they need, timed in turns: a machine's drift hits all alike.

Times are wall-clock times of one pass, the device waited for on both sides: what someone who waits for the
answer sees, the cost of launching kernels included. On a machine that is shared or warms up, compare networks
of one call only: there every round times each of them, and `ratios` compares within rounds.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plainvision.bench.circumstances import (
    DTYPES,
    Circumstances,
    Precision,
    device_for,
    floating_dtype,
    networks_by_name,
)
from plainvision.bench.memory import peak_memory_mb
from plainvision.inspection.counting import checked_image_size, count_macs, count_parameters
from plainvision.inspection.eval_mode import eval_mode


@dataclass(frozen=True)
class Measurement:
    """What one network cost, under which circumstances."""

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
    """The most that one pass held beyond what was held before it, in MB (1e6 bytes); None where unknown."""

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
        """The time in milliseconds that nine passes of ten stay within."""
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
        }


def measure(
    models: nn.Module | Mapping[str, nn.Module],
    *,
    image_size: tuple[int, int] | int = 224,
    channels: int = 3,
    batch_size: int = 1,
    runs: int = 30,
    warmup: int = 5,
    device: torch.device | str | None = None,
    precision: Precision = "no",
    channels_last: bool = False,
    compile: bool = False,
    seconds: float | None = None,
) -> list[Measurement]:
    """Time inference on (batch_size, channels, H, W) and return one `Measurement` per network, in order.

    Every round times each network once, and each round begins with the next one. A network therefore finds
    the processor's caches as another left them. Peak memory holds activations, scratch space and the output;
    weights and the images are there before and do not count. The networks are left as they are.

    Args:
        models: one network, or networks by name.
        image_size: H and W in pixels; one number means a square.
        channels: channels of an image.
        batch_size: images per pass.
        runs: timed rounds.
        warmup: rounds before them that do not count.
        device: where to run, on copies where the networks are elsewhere; None runs where they are.
        precision: `bf16` and `fp16` run a copy with weights and images in that type, as in deployment.
        channels_last: run a copy in the channels_last memory layout.
        compile: compile with torch.compile first; the time that takes is not measured.
        seconds: stop, for all networks, after the round in which the slowest has used up this much time; the
            warm-up likewise.

    Raises:
        ValueError: no networks, a size below 1, a device that is not there, or a network that cannot run so.
    """
    networks = networks_by_name(models)
    setup = Circumstances(
        image_size=checked_image_size(image_size, channels),
        channels=channels,
        batch_size=batch_size,
        runs=runs,
        warmup=warmup,
        device=device_for(networks, device),
        precision=precision,
        channels_last=channels_last,
        compile=compile,
        seconds=seconds,
    )
    placed = {name: setup.place(network) for name, network in networks.items()}
    with ExitStack() as modes:
        for network in placed.values():
            modes.enter_context(eval_mode(network))
        return _measure(setup, placed, _inference)


def measure_training_step(
    models: nn.Module | Mapping[str, nn.Module],
    *,
    image_size: tuple[int, int] | int = 224,
    channels: int = 3,
    batch_size: int = 32,
    num_classes: int = 1000,
    runs: int = 10,
    warmup: int = 2,
    device: torch.device | str | None = None,
    precision: Precision = "no",
    channels_last: bool = False,
    compile: bool = False,
    seconds: float | None = None,
) -> list[Measurement]:
    """Time a training step and return one `Measurement` per network: forward, cross-entropy, backward, SGD.

    It runs on copies and times in turns, as `measure` does. ``macs`` are those of the forward pass. Peak
    memory holds what the backward pass needs, scratch space and the gradients; not weights and images.

    Args:
        models: one network, or networks by name; each returns (batch_size, num_classes).
        image_size: H and W in pixels; one number means a square.
        channels: channels of an image.
        batch_size: images per step.
        num_classes: the width of the networks' answers.
        runs: timed rounds.
        warmup: rounds before them that do not count.
        device: where to run; None runs where the networks are.
        precision: `bf16` and `fp16` are mixed precision: autocast, and for `fp16` a scaled loss.
        channels_last: use the channels_last memory layout.
        compile: compile with torch.compile first; the time that takes is not measured.
        seconds: stop, for all networks, after the round in which the slowest has used up this much time; the
            warm-up likewise.

    Raises:
        ValueError: what `measure` refuses, a network that does not return (batch_size, num_classes), or a
            frozen one.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} is nothing to learn. Give the width of the networks' answer.")
    networks = networks_by_name(models)
    for name, network in networks.items():
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise ValueError(
                f"{name} has no parameter that requires a gradient: there is no step to time. Unfreeze some."
            )
    setup = Circumstances(
        image_size=checked_image_size(image_size, channels),
        channels=channels,
        batch_size=batch_size,
        runs=runs,
        warmup=warmup,
        device=device_for(networks, device),
        precision=precision,
        channels_last=channels_last,
        compile=compile,
        seconds=seconds,
    )
    placed = {name: setup.copy_of(network, dtype=None).train() for name, network in networks.items()}
    labels = torch.randint(num_classes, (batch_size,), generator=torch.Generator().manual_seed(0))

    def training(setup: Circumstances, network: nn.Module, images: Tensor) -> Callable[[], object]:
        return _training(setup, network, images, labels.to(setup.device), num_classes)

    return _measure(setup, placed, training)


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


def ratios(measurements: Sequence[Measurement]) -> list[float]:
    """Return, per network, the median over rounds of its speed relative to the first, which has 1.0.

    Raises:
        ValueError: no measurements, or not of one call.
    """
    return [statistics.median(rounds) for rounds in ratios_per_round(measurements)]


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


def _measure(
    setup: Circumstances,
    networks: dict[str, nn.Module],
    prepare: Callable[[Circumstances, nn.Module, Tensor], Callable[[], object]],
) -> list[Measurement]:
    macs: dict[str, int] = {}
    works: dict[str, Callable[[], object]] = {}
    spoilt: dict[str, tuple[Tensor, Tensor]] = {}
    for name, network in networks.items():
        images = setup.images(floating_dtype(network))
        _try(setup, name, prepare(setup, network, images))
        fresh = setup.images(images.dtype)
        if not torch.equal(images, fresh):
            spoilt[name] = (images, fresh)
            images.copy_(fresh)
        macs[name] = count_macs(network, setup.image_size, setup.channels)
        timed = cast(nn.Module, torch.compile(network)) if setup.compile else network
        works[name] = prepare(setup, timed, images)
        _try(setup, name, works[name])
    _rounds(setup, works, spoilt, setup.warmup)
    times = _rounds(setup, works, spoilt, setup.runs)
    return [
        Measurement(
            name=name,
            parameters=count_parameters(network),
            macs=macs[name],
            batch_size=setup.batch_size,
            image_size=setup.image_size,
            device=str(setup.device),
            precision=setup.precision,
            channels_last=setup.channels_last,
            compiled=setup.compile,
            threads=torch.get_num_threads(),
            times_ms=tuple(times[name]),
            peak_memory_mb=peak_memory_mb(works[name], setup.device),
        )
        for name, network in networks.items()
    ]


def _rounds(
    setup: Circumstances,
    works: dict[str, Callable[[], object]],
    spoilt: dict[str, tuple[Tensor, Tensor]],
    rounds: int,
) -> dict[str, list[float]]:
    """Return each work's milliseconds per round.

    Works that write into their images, those of ``spoilt``, get the same values again before each pass, untimed.
    """
    names = list(works)
    times: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds):
        turn = index % len(names)
        for name in names[turn:] + names[:turn]:
            if name in spoilt:
                images, fresh = spoilt[name]
                images.copy_(fresh)
            setup.synchronize()
            start = time.perf_counter()
            works[name]()
            setup.synchronize()
            times[name].append(1000 * (time.perf_counter() - start))
        if setup.seconds is not None and max(map(sum, times.values())) >= 1000 * setup.seconds:
            break
    return times


def _inference(setup: Circumstances, network: nn.Module, images: Tensor) -> Callable[[], object]:
    def work() -> None:
        with torch.inference_mode():
            network(images)

    return work


def _training(
    setup: Circumstances, network: nn.Module, images: Tensor, labels: Tensor, num_classes: int
) -> Callable[[], object]:
    # A learning rate of 0 costs the same arithmetic, and untrained weights cannot run away and overflow.
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    device, dtype = setup.device.type, DTYPES.get(setup.precision)
    scaler = torch.amp.GradScaler(device, enabled=setup.precision == "fp16")

    def work() -> None:
        with torch.autocast(device, dtype, enabled=dtype is not None):
            logits = network(images)
            if logits.shape != (setup.batch_size, num_classes):
                raise ValueError(
                    f"it returns {tuple(logits.shape)} where num_classes={num_classes} asks for "
                    f"{(setup.batch_size, num_classes)}"
                )
            loss = F.cross_entropy(logits, labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()  # here, not first: so that memory before a step holds no gradients

    return work


def _try(setup: Circumstances, name: str, work: Callable[[], object]) -> None:
    """Run ``work`` once and say whose fault it is when it fails."""
    height, width = setup.image_size
    given = f"{name} cannot run on {setup.batch_size}x{setup.channels}x{height}x{width} on {setup.device}"
    try:
        work()
    except torch.OutOfMemoryError as error:
        raise ValueError(f"{given}: the memory does not suffice. Give a smaller batch_size or image_size.") from error
    except Exception as error:
        raise ValueError(
            f"{given} with precision={setup.precision!r}: {str(error).rstrip('.')}. Give the sizes and "
            "the precision that the network was built for."
        ) from error
