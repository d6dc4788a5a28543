"""How tests run a command and read what it prints."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plainvision import commands

# Two epochs of a narrow network, the second in the form that is deployed: seconds, and most digits are named rightly.
SHORT = (
    *("train", "vanillanet_digits", "--epochs", "2", "--warmup-epochs", "0", "--techniques.0.epochs", "1"),
    *("--optimizer", "adamw", "--lr", "5e-3", "--batch-size", "24", "--augment.scale", "0.9", "1.0"),
)
STEPS = 1437 // 24  # of an epoch
HEAVY = ("torch", "torchvision", "timm", "numpy", "matplotlib", "sklearn", "accelerate")


@dataclass(frozen=True)
class Ended:
    """What a command leaves behind: an exit status and two texts."""

    status: int
    out: str
    err: str


def plainvision(*words: object, terminal: bool = False) -> Ended:
    """Run a command in this process; an exception that would reach the user fails the test."""
    out, err = io.StringIO(), io.StringIO()
    out.isatty = lambda: terminal  # type: ignore[method-assign]
    status: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            commands.main([str(word) for word in words])
        except SystemExit as ended:
            status = ended.code
    assert "Traceback" not in out.getvalue() + err.getvalue()
    return Ended(status or 0, out.getvalue(), err.getvalue())


def killed(words: tuple[object, ...], when: Callable[[], bool]) -> None:
    """Run a command in a process of its own, and kill it as soon as ``when`` says so."""
    command = [sys.executable, "-W", "ignore", "-m", "plainvision", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        if when():
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    assert process.wait(60) == -signal.SIGKILL


def said(ended: Ended, *parts: object) -> bool:
    """Return whether the command failed as bad input does, in one message that holds all the parts."""
    message = " ".join(ended.err.split())
    missing = [str(part) for part in parts if str(part) not in message]
    assert (ended.status, missing) == (2, []), f"status {ended.status}: {message}"
    return message.startswith("plainvision: ")


def rows(text: str) -> dict[str, list[str]]:
    """Return the rows of a printed table by their first cell; what holds a space is several cells."""
    cells = [line.replace("│", " ").split() for line in text.splitlines()]
    return {line[0]: line[1:] for line in cells if line}


def row(text: str, name: str) -> list[str]:
    """Return the row called ``name``, which may hold a space, of a printed table."""
    (line,) = [line for line in text.replace("│", " ").splitlines() if line.strip().startswith(f"{name} ")]
    return line.split(name, 1)[1].split()


@dataclass(frozen=True)
class Run:
    """A run that was stopped in its second epoch, looked at, and finished."""

    folder: Path
    half: Path
    stopped: Ended
    finished: Ended
