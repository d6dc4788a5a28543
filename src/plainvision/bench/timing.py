"""Time and peak memory of networks, measured in turns, so that a machine's drift hits all of them alike.

A time is the wall-clock time of one pass between two synchronisations of the device: the latency that a caller sees,
kernel launches included. On a machine that is shared or warms up, compare networks of one call only: each round times
all of them, and `comparison` compares within rounds.
"""

import functools
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plainvision.bench.circumstances import (
    Circumstances,
    Precision,
    device_for,
    floating_dtype,
    networks_by_name,
)
from plainvision.bench.measurement import Measurement
from plainvision.bench.memory import peak_memory_mb
from plainvision.inspection.counting import checked_image_size, count_macs, count_parameters
from plainvision.inspection.eval_mode import eval_mode
from plainvision.inspection.foreign import Foreign


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

    Every round times each network once, and each round begins with the next one, so that a network finds the
    processor's caches as another left them. Peak memory covers activations, scratch space and the output, but neither
    weights nor images; of a deployed folder it is the growth of a fresh process, weights included. The networks are
    left as they are.

    Args:
        models: one network, or networks by name.
        image_size: H and W in pixels; one number means a square.
        channels: channels of an image.
        batch_size: images per pass.
        runs: timed rounds.
        warmup: untimed rounds before them.
        device: where to run, on copies where the networks are elsewhere; None runs where they are.
        precision: `bf16` and `fp16` run a copy with weights and images in that type, as in deployment; `amp` keeps
            float32 weights and casts per layer, to fp16, on CPUs to bf16, as papers measure that say "mixed precision".
        channels_last: run a copy in the channels_last memory layout.
        compile: compile with torch.compile first, untimed.
        seconds: stop, for all networks, after the round in which the slowest has used up this much time; the
            warm-up likewise.

    Raises:
        ValueError: no networks, a size below 1, a device that is not there, or a network that cannot run so.
    """
    networks = networks_by_name(models)
    size, place = checked_image_size(image_size, channels), device_for(networks, device)
    setup = Circumstances(size, channels, batch_size, runs, warmup, place, precision, channels_last, compile, seconds)
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

    It times copies, in turns, and takes the arguments of `measure`, and ``num_classes``, the number of logits.
    ``precision`` is mixed in any case: autocast, and for fp16 a scaled loss. ``macs`` are those of the forward pass.
    Peak memory covers activations, scratch space and gradients, but neither weights nor images.

    Raises:
        ValueError: what `measure` refuses, a network that does not return (batch_size, num_classes), or a frozen one.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} is nothing to learn. Give the width of the networks' answer.")
    networks = networks_by_name(models)
    for name, network in networks.items():
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise ValueError(
                f"{name} has no parameter that requires a gradient: there is no step to time. Unfreeze some."
            )
    size, place = checked_image_size(image_size, channels), device_for(networks, device)
    setup = Circumstances(size, channels, batch_size, runs, warmup, place, precision, channels_last, compile, seconds)
    placed = {name: setup.copy_of(network, dtype=None).train() for name, network in networks.items()}
    return _measure(setup, placed, functools.partial(_training, num_classes))


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
        compiles = setup.compile and not isinstance(network, Foreign)
        timed = cast(nn.Module, torch.compile(network)) if compiles else network
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
            peak_memory_mb=_memory(setup, network, works[name]),
            held_mb=_held(setup, network),
        )
        for name, network in networks.items()
    ]


def _memory(setup: Circumstances, network: nn.Module, work: Callable[[], object]) -> float | None:
    if isinstance(network, Foreign):  # a runtime keeps what it has, so that a pass here would show nothing
        return network.process_mb(setup.batch_size)
    return peak_memory_mb(work, setup.device)


def _held(setup: Circumstances, network: nn.Module) -> float:
    """Return the MB of a network's weights and buffers and of the images; a runtime's are in its peak already."""
    if isinstance(network, Foreign):
        return 0.0
    tensors = [*network.parameters(), *network.buffers(), setup.images(floating_dtype(network))]
    return sum(tensor.nbytes for tensor in tensors) / 1e6


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
    mixed = setup.precision == "amp"

    def work() -> None:
        with torch.inference_mode(), torch.autocast(setup.device.type, setup.autocast, enabled=mixed):
            network(images)

    return work


def _training(num_classes: int, setup: Circumstances, network: nn.Module, images: Tensor) -> Callable[[], object]:
    labels = torch.randint(num_classes, (setup.batch_size,), generator=torch.Generator().manual_seed(0))
    labels = labels.to(setup.device)
    # A learning rate of 0 costs the same arithmetic, and untrained weights cannot run away and overflow.
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    device, dtype = setup.device.type, setup.autocast
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)

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
