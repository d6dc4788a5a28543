"""What is said of predictions beyond top-1, and where: on the screen, in a CSV, on a page."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plainvision.commands import Table, check_writable, show

if TYPE_CHECKING:
    from plainvision.data.batches import EvaluationBatches
    from plainvision.data.settings import Data
    from plainvision.training.image_task import ImageTask

# So many pairs of classes and images are printed; a page has more.
_MOST = 10


@dataclass(frozen=True)
class ScoreOptions:
    """What is said of the predictions, and where."""

    scores: bool = False
    """Print recall, precision and F1 of each class with 95 % intervals, the confusions, and the largest losses."""
    report: Path | None = None
    """Write a page with all of this and with pictures, one .html file."""
    csv: Path | None = None
    """Write every prediction to this file. An image's name is a path in the folder, or the archive, of the last
    column."""

    def check(self) -> None:
        """Check that what is given can be written, before the work; else it is an `OSError`."""
        for path, option in ((self.csv, "--csv"), (self.report, "--report")):
            if path is not None:
                check_writable(path, option)

    def tell(
        self,
        task: "ImageTask",
        results: "Mapping[str, Any]",
        images: "EvaluationBatches",
        data: "Data",
        *,
        network: str,
        command: str,
        temperature: float,
    ) -> None:
        """Print and write what is asked for; the first of the forms is told in detail."""
        if self.scores:
            for caption, rows, words in task.details(next(iter(results.values())), images.classes, _MOST):
                if caption:
                    print(caption)
                show(Table.of(rows, words=words))
        if self.csv is not None:
            task.write_predictions(self.csv, results, data)
            print(f"predictions in {self.csv}")
        if self.report is not None:
            from plainvision.training.report.evaluation import evaluation_page

            page = evaluation_page(
                network, results, images.classes, images.picture, temperature=temperature, command=command, task=task
            )
            page.write(self.report)
            print(f"report in {self.report}")
