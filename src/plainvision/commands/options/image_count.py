"""How many images are done, on the error stream, and which could not be read."""

import sys
from collections.abc import Callable

from rich.console import Console
from rich.progress import Progress, TextColumn

from plainvision.showing import shown


class ImageCount:
    """A count that a terminal shows, and nothing else does; ``hidden`` not even that."""

    def __init__(self, *, hidden: bool) -> None:
        self._console = Console(file=sys.stderr, markup=False, highlight=False, soft_wrap=True)
        self._seen = self._console.is_terminal and not hidden
        self._bar = Progress(
            TextColumn("{task.completed} images"),
            console=self._console,
            disable=not self._seen,
            transient=True,
            redirect_stdout=False,  # what is printed there stays there
            redirect_stderr=False,
        )
        self._task, self._unread = self._bar.add_task("", total=None), 0

    def __enter__(self) -> "ImageCount":
        self._bar.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._bar.stop()
        if self._unread and error is None:
            print(f"{self._unread} image{'' if self._unread == 1 else 's'} could not be read", file=sys.stderr)

    def show(self, images: int) -> None:
        """Show how many are done."""
        self._bar.update(self._task, completed=images)

    def aside(self, print_page: Callable[[], None]) -> None:
        """Print something while the count is not there."""
        self._bar.stop()
        print_page()
        if self._seen:
            self._bar.start()

    def tell(self, skipped: list[str]) -> None:
        """Print which images were skipped, and forget them."""
        for name in skipped:
            self._console.print(f"skipped {shown(name)}")
        self._unread += len(skipped)
        skipped.clear()
