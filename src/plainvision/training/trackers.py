"""Programs that show a run's numbers beside its own `metrics.jsonl`, by Accelerate's trackers."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

Tracker = Literal["tensorboard", "wandb", "mlflow"]

_PROJECT = "plainvision"


def check_trackers(names: Sequence[str]) -> None:
    """Raise an error where a tracker is unknown, or its package is not installed.

    Raises:
        ValueError: there is no such tracker.
        ImportError: its package is missing.
    """
    known = get_args(Tracker)
    for name in names:
        if name not in known:
            raise ValueError(f"unknown tracker {name!r}; there are {', '.join(known)}.")
        if find_spec(name) is None:
            raise ImportError(
                f"tracking with {name} needs its package, which is not installed: pip install {name}. Or leave --log "
                f"{name} out: metrics.jsonl in the run's folder holds all numbers anyway."
            )


class Trackers:
    """The trackers of ``names`` for the run in ``folder``, which has these ``settings`` and goes on behind ``step``.

    One that fails once the run has begun is named by ``say`` and gets no more numbers: what others do is no reason to
    end a run.

    Raises:
        ValueError: one does not start.
    """

    def __init__(
        self, names: Sequence[str], folder: Path, settings: Mapping[str, Any], step: int, say: Callable[[str], None]
    ) -> None:
        self._say = say
        self._running: list[GeneralTracker] = []
        for name in dict.fromkeys(names):
            try:
                tracker = _tracker(name, folder, step)
                if hasattr(tracker, "start"):  # before Accelerate 1.8 it has started as it was made
                    tracker.start()
                tracker.store_init_configuration({name: _plain(value) for name, value in settings.items()})
            except Exception as error:  # anything may come from there
                raise ValueError(
                    f"{name} does not start ({_short(error)}). Mend that, or leave --log {name} out; then go on with "
                    "--resume."
                ) from error
            self._running.append(tracker)

    def log(self, line: dict[str, Any]) -> None:
        """Hand the numbers of one line of metrics to all of them."""
        values = {name: value for name, value in line.items() if name not in ("epoch", "step")}
        self._all(lambda tracker: tracker.log(values, step=line["step"]))

    def finish(self) -> None:
        """Let them write what they still hold."""
        self._all(lambda tracker: tracker.finish())

    def _all(self, act: "Callable[[GeneralTracker], object]") -> None:
        for tracker in tuple(self._running):
            try:
                act(tracker)
            except Exception as error:
                self._running.remove(tracker)
                self._say(
                    f"{tracker.name} failed and gets no more numbers of this run ({_short(error)}); metrics.jsonl "
                    "holds them all"
                )


def _tracker(name: str, folder: Path, step: int) -> "GeneralTracker":
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    if name == "tensorboard":
        # What was shown of steps that are computed again is hidden.
        return TensorBoardTracker("tensorboard", folder, purge_step=step + 1)
    if name == "wandb":
        return WandBTracker(_PROJECT, name=folder.name, dir=str(folder))
    return MLflowTracker(_PROJECT, run_name=folder.name)


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _plain(value: Any) -> str | int | float | bool:
    return value if isinstance(value, bool | int | float | str) else str(value)
