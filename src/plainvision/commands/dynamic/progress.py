"""How far an evaluation is: a bar on a terminal, and a line about every minute where there is none."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_SECONDS = 60.0


class EvaluationProgress:
    """Images done, images per second and the time left; call it with the images that are done and with all.

    ``what`` begins each line, such as "before". Of several processes each counts its own images, and one is visible.
    """

    def __init__(self, what: str = "", *, visible: bool, processes: int = 1) -> None:
        self._what = f"{what}: " if what else ""
        self._of = " here" if processes > 1 else ""
        self._visible = visible
        self._console = Console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[words]}"),
            console=self._console,
            disable=not (visible and self._console.is_terminal),
            transient=True,
        )
        self._task = self._bar.add_task(f"{what or 'evaluating'} ", total=None, words="")

    def __enter__(self) -> "EvaluationProgress":
        self._start = self._said = time.monotonic()
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, images: int, total: int | None) -> None:
        now = time.monotonic()
        seconds = max(now - self._start, 1e-9)
        of_all = "" if total is None else f" of {total}"
        words = f"{images}{of_all} images{self._of}"
        left = "" if total is None else f", {duration(seconds / images * (total - images))} left"
        self._bar.update(self._task, total=total, completed=images, words=f"{words}, {images / seconds:.3g}/s{left}")
        if self._visible and not self._console.is_terminal and now - self._said >= _SECONDS:
            self._said = now
            self._console.print(f"{self._what}{words}{left}", highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Return a time in words, roughly."""
    for unit, length, most in (("s", 1, 90), ("min", 60, 100), ("h", 3600, 48)):
        if seconds < most * length:
            return f"about {max(1, round(seconds / length))} {unit}"
    return f"about {round(seconds / 86400)} days"
