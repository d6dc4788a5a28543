"""Sets of labels as a task: whatever is in an image, each label for itself, by its sigmoid; mean average precision."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from plainvision.training.image_task import ImageTask
from plainvision.training.task import Objective

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from plainvision.data.batches import EvaluationBatches, TrainingBatches
    from plainvision.training.label_evaluation import LabelEvaluation
    from plainvision.training.recipe import Recipe


@dataclass(frozen=True)
class MultiLabel(ImageTask):
    """Give each image all of its labels. The best weights are those of the best mean average precision."""

    threshold: Annotated[float, 0.0, 1.0] = 0.5
    """A label of this confidence or more is given; average precision does not depend on it."""

    score_name = "mAP"

    def training(self, recipe: "Recipe", *, rank: int = 0, processes: int = 1) -> "TrainingBatches":
        from plainvision.data.batches import TrainingBatches
        from plainvision.data.label_sets import open_label_sets

        if recipe.loss != "bce":
            raise ValueError(
                f"loss={recipe.loss!r} asks which one class an image has, and MultiLabel whether it has each. Set "
                "loss='bce'; `multi_label` makes such a recipe of another."
            )
        return TrainingBatches(recipe, rank=rank, processes=processes, opened=open_label_sets)

    def images(
        self, data: Any, *, batch_size: int, classes: tuple[str, ...] | None, rank: int = 0, processes: int = 1
    ) -> "EvaluationBatches":
        from plainvision.data.batches import EvaluationBatches
        from plainvision.data.label_sets import open_label_sets

        return EvaluationBatches(
            data, batch_size=batch_size, classes=classes, rank=rank, processes=processes, opened=open_label_sets
        )

    def objective(self, recipe: "Recipe", training: Any) -> Objective:
        from plainvision.training.label_loss import LabelLoss, rare_weights

        return LabelLoss(recipe, None if recipe.class_weights is None else rare_weights(training.labels))

    def first_lines(self, recipe: "Recipe", training: Any, validation: Any) -> Iterator[str]:
        from plainvision.data.label_sets import first_line
        from plainvision.training.class_weights import said_of_weights
        from plainvision.training.label_loss import rare_weights

        yield first_line(recipe.data.train_split, training.classes, training.labels)
        yield first_line(validation.split, training.classes, validation.labels)
        if recipe.class_weights is not None:
            yield said_of_weights(rare_weights(training.labels), training.classes)

    def evaluate(
        self,
        model: "nn.Module",
        validation: Any,
        *,
        classes: tuple[str, ...],
        device: Any,
        total: Any = None,
        temperature: float = 1.0,
    ) -> "LabelEvaluation":
        from plainvision.training.label_evaluation import evaluate_labels

        return evaluate_labels(
            model,
            validation,
            classes=classes,
            threshold=self.threshold,
            device=device,
            temperature=temperature,
            shared=total is not None,
        )

    def doubts(self, last: Any, raw: Any, metrics: Sequence[dict[str, Any]]) -> list[str]:
        from plainvision.training.verdict import doubts_of_labels

        return doubts_of_labels(last, raw, metrics)

    def report(self, result: Any, recipe: "Recipe", validation: Any, main: bool) -> str | None:
        if not main:
            return None
        from plainvision.training.report.run import write_run_report  # Matplotlib takes a second

        return write_run_report(result, recipe, validation)

    def rows(self, results: Mapping[str, Any]) -> Any:
        from plainvision.training.report.labels import precision_rows, score_rows

        return score_rows(results), precision_rows(results)

    def same_answers(self, first: Any, second: Any) -> str:
        same = int((first.predictions.given == second.predictions.given).all(1).sum())
        return f"both forms give the same labels to {same} of {first.images} images"

    def compare(self, first: Any, second: Any) -> str:
        from plainvision.training.label_scores import compare_labels

        if (first.names, first.classes) != (second.names, second.classes):
            raise ValueError(
                f"answers for {first.images} and {second.images} images or labels that are not the same: a comparison "
                "needs both networks on the same images, with the same labels. Evaluate both on the same data."
            )
        return compare_labels(first.predictions, second.predictions)

    def record(self, scores: Any) -> dict[str, Any]:
        own = scores.detailed.map
        return {"map": own.value, "low": own.low, "high": own.high, "images": scores.images}

    def details(self, scores: Any, classes: tuple[str, ...], most: int) -> Any:
        from plainvision.training.report.labels import label_rows, loss_rows

        yield (
            f"labels of a confidence of {scores.predictions.threshold:g} or more count as given:",
            label_rows(scores),
            1,
        )
        yield "largest losses:", loss_rows(scores, most), 3

    def write_predictions(self, path: "Path", results: Mapping[str, Any], data: Any) -> None:
        from plainvision.training.predictions_file import write_label_predictions

        write_label_predictions(path, results, data)

    def sentence(self, scores: Any) -> str:
        from plainvision.training.report.labels import in_one_sentence

        return in_one_sentence(scores)

    def facts(self, scores: Any) -> dict[str, str]:
        from plainvision.training.report.labels import facts_of

        return facts_of(scores)

    def tell(self, page: Any, scores: Any, classes: tuple[str, ...], picture: Any, *, temperature: float = 1.0) -> None:
        from plainvision.training.report.labels import tell_labels

        tell_labels(page, scores, picture, temperature)


def multi_label(recipe: "Recipe", threshold: float = 0.5) -> "Recipe":
    """Return ``recipe`` for images with sets of labels."""
    return replace(recipe, task=MultiLabel(threshold), loss="bce")
