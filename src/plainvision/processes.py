"""Other processes: what they ask of a run, how those that read images end, and how to leave a group in order."""

import atexit
import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader

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
    outer = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for handler in outer:
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


class Loader(DataLoader[_Read]):
    """A `DataLoader` whose processes leave stopping to the main one; one that dies is an error between two batches.

    Raises:
        ChildProcessError: while reading, such a process was killed.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.worker_init_fn = _leave_stopping
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


def _leave_stopping(_: int) -> None:
    # Ctrl-C and SIGTERM reach the whole group; the main process ends those that read, when it is ready.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def leave_at_exit() -> None:
    """Leave the group when Python ends: a process that just ends while its threads still talk to others can crash."""
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
