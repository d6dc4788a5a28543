"""What is printed of predictions beyond top-1."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from plainvision.commands import Table, show

if TYPE_CHECKING:
    from plainvision.training.evaluation import Prediction

# So many pairs of classes and images are printed, and a matrix of so many classes; a page has more.
_MOST, _WIDEST = 10, 15


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
