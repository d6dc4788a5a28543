"""What a person sees of a run: a line for each epoch and, in a terminal, a bar."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from plainvision.showing import shown_lines


def say(console: Console | None, text: str) -> None:
    """Print lines, with what a terminal would obey as escapes; None prints nowhere."""
    if console is not None:
        console.print(shown_lines(text), highlight=False, markup=False, soft_wrap=True)


class TrainingProgress:
    """A bar over all ``steps`` of a run, ``done`` of them already; the console None is nowhere."""

    def __init__(self, steps: int, done: int, console: Console | None) -> None:
        self._console = console or Console(quiet=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),  # the figures have to fit beside it, in 80 columns
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=console is None or not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("training", total=steps, completed=done, figures="")

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(
        self, epoch: int, step: int, loss: float, images_per_second: float, accuracy: float | None = None
    ) -> None:
        """Move the bar to ``step``; a task that counts nothing as right has no accuracy."""
        train = "" if accuracy is None else f"train {accuracy:.1f} %  "
        figures = f"loss {loss:.3f}  {train}{images_per_second:.0f} images/s "
        self._bar.update(self._task, description=f"epoch {epoch + 1}", completed=step, figures=figures)

    def say(self, text: str) -> None:
        """Print a line, above the bar where there is one."""
        say(self._console, text)
