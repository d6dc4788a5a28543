"""What is said of predictions beyond top-1, and where: on the screen, in a CSV, on a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plainvision.commands import Table, check_writable, show

if TYPE_CHECKING:
    from plainvision.data.batches import EvaluationBatches
    from plainvision.data.settings import Data
    from plainvision.training.evaluation import Evaluation, Prediction

# So many pairs of classes and images are printed, and a matrix of so many classes; a page has more.
_MOST, _WIDEST = 10, 15


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
        results: "Mapping[str, Evaluation]",
        images: "EvaluationBatches",
        data: "Data",
        *,
        network: str,
        command: str,
        temperature: float,
    ) -> None:
        """Print and write what is asked for; the first of the forms is told in detail."""
        if self.scores:
            tell_scores(next(iter(results.values())).predictions, images.classes)
        if self.csv is not None:
            from plainvision.training.predictions_file import write_predictions

            write_predictions(self.csv, results, data)
            print(f"predictions in {self.csv}")
        if self.report is not None:
            from plainvision.training.report.evaluation import evaluation_page

            page = evaluation_page(
                network, results, images.classes, images.picture, temperature=temperature, command=command
            )
            page.write(self.report)
            print(f"report in {self.report}")


def tell_scores(predictions: "Sequence[Prediction]", classes: Sequence[str]) -> None:
    """Print the scores of each class, the confusions and the largest losses."""
    from plainvision.training.report.tables import class_rows, confusion_rows, loss_rows
    from plainvision.training.scores import class_scores, confusion_matrix, hardest, most_confused

    scores, confused = class_scores(predictions, classes), most_confused(predictions, _MOST)
    show(Table.of(class_rows(scores)))
    if len(classes) <= _WIDEST:
        print("confusions: a row holds the images of a class, a column those that get its name")
        matrix = Table(("", *classes))
        for name, counts in zip(classes, confusion_matrix(predictions, classes).tolist(), strict=True):
            matrix.add_row(name, *(str(count or "·") for count in counts))
        show(matrix)
    if confused:
        print("most confused:")
        show(Table.of(confusion_rows(confused, scores), words=2))
    print("largest losses:")
    show(Table.of(loss_rows(hardest(predictions, _MOST)), words=3))
