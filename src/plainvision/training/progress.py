"""What a person sees of a run: a bar while it goes, one line per epoch, and only the lines where no terminal is."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from plainvision.showing import shown_lines


class TrainingProgress:
    """A bar over all steps of a run, with loss, accuracy, images per second and the time left.

    Args:
        steps: of the whole run.
        done: already taken, by the part of the run that is resumed.
        visible: False in every process but the main one.
    """

    def __init__(self, steps: int, done: int, *, visible: bool) -> None:
        self.visible = visible
        self.console = Console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),  # the figures have to fit beside it, in 80 columns
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (visible and self.console.is_terminal),
            transient=True,
        )
        self._task = self._bar.add_task("training", total=steps, completed=done, figures="")

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, epoch: int, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Move the bar to ``step``."""
        figures = f"loss {loss:.3f}  train {accuracy:.1f} %  {images_per_second:.0f} images/s "
        self._bar.update(self._task, description=f"epoch {epoch + 1}", completed=step, figures=figures)

    def say(self, text: str) -> None:
        """Print a line, above the bar where there is one."""
        if self.visible:
            self.console.print(shown_lines(text), highlight=False, markup=False, soft_wrap=True)
