"""Other processes: signals from them, those that read images, and the group of those that share a run."""

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

if TYPE_CHECKING:
    from accelerate import PartialState

_Read = TypeVar("_Read", covariant=True)


class TrainingInterrupted(KeyboardInterrupt):
    """The work was asked to stop, and its state is saved."""


class _Stop:
    """A handler that turns the first Ctrl-C or SIGTERM into a flag; the second acts as usual."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.before: dict[int, Any] = {}

    def __call__(self, number: int, _: FrameType | None) -> None:
        self.asked.set()
        signal.signal(number, self.before[number])


@contextlib.contextmanager
def stop_requested() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into a flag, so that a step is never cut in two; the second acts as usual.

    What runs inside of another, as a study's runs do, shares its flag.
    """
    for handler in map(signal.getsignal, (signal.SIGINT, signal.SIGTERM)):
        if isinstance(handler, _Stop):
            yield handler.asked
            return
    stop = _Stop()
    if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handler
        for number in (signal.SIGINT, signal.SIGTERM):
            stop.before[number] = signal.signal(number, stop)
    try:
        yield stop.asked
    finally:
        for caught, before in stop.before.items():
            signal.signal(caught, before)


@contextlib.contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Let torch compute on so many CPU threads meanwhile; None leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Loader(DataLoader[_Read]):
    """A `DataLoader` whose processes leave stopping to the main one; one that dies is an error between two batches.

    Args:
        workers: how many processes read, 0 for this one. At most as many start as this process may use processors,
            except for a stream, whose order depends on their number.
        batches: the keys of each batch, instead of a size.
        persistent: keep the processes from one pass to the next.
        seed: what processes draw their own seeds by.

    Raises:
        ChildProcessError: while reading, such a process was killed.
    """

    def __init__(
        self,
        images: Dataset[_Read],
        collate: Callable[[list[Any]], Any],
        *,
        workers: int,
        batch_size: int = 1,
        batches: Iterable[Any] | None = None,
        persistent: bool = False,
        seed: int | None = None,
    ) -> None:
        generator = torch.Generator()  # else the loader draws from the random numbers of training
        if seed is not None:
            generator.manual_seed(seed)
        workers = workers if isinstance(images, IterableDataset) else min(workers, _processors())
        super().__init__(
            images,
            batch_size=batch_size,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_leave_stopping,
            generator=generator,
            persistent_workers=persistent and workers > 0,
        )

    def check_worker_number_rationality(self) -> None:
        """Leave out torch's warning of more processes than processors, which only a stream can have."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        watched = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGCHLD) if watched else None
        try:
            batches = super().__iter__()
            if watched:  # torch's own handler raises wherever the main thread is; the loader asks by itself too
                signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
            yield from batches
        except (EOFError, OSError, RuntimeError) as error:  # EOFError, OSError: it died as it handed over a batch
            if not self.num_workers or (isinstance(error, RuntimeError) and "DataLoader worker" not in str(error)):
                raise
            raise ChildProcessError(
                "a process that reads images was killed, as a system does that has no memory left. Give fewer "
                "data.workers, or 0, which reads in the main process."
            ) from error


def usual_workers() -> int:
    """Return how many processes read images where nobody says: as many as there are processors, and at most eight.

    Processes that were started together on this machine share its processors.
    """
    return max(1, min(8, _processors() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def _leave_stopping(_: int) -> None:
    # Ctrl-C and SIGTERM reach the whole group; the main process ends those that read, when it is ready.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_group() -> "PartialState":
    """Join the processes that were started together, by `torchrun` for instance, and leave them when Python ends."""
    from accelerate import PartialState

    atexit.register(_leave)
    # Without a word about CPUs, processes that torchrun starts on a machine with nothing else would each work alone.
    return PartialState(cpu=not torch.accelerator.is_available())


def _leave() -> None:
    # A process that just ends while its threads still talk to others can crash.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
