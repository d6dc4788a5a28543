"""Classification as a task: images with one label each, soft targets, top-1."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from plainvision.training.image_task import ImageTask
from plainvision.training.task import Objective

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from plainvision.data.batches import EvaluationBatches, TrainingBatches
    from plainvision.training.evaluation import Evaluation
    from plainvision.training.recipe import Recipe


@dataclass(frozen=True)
class Classification(ImageTask):
    """Name the class of each image."""

    score_name = "top-1"

    def training(self, recipe: "Recipe", *, rank: int = 0, processes: int = 1) -> "TrainingBatches":
        from plainvision.data.batches import TrainingBatches

        return TrainingBatches(recipe, rank=rank, processes=processes)

    def images(
        self, data: Any, *, batch_size: int, classes: tuple[str, ...] | None, rank: int = 0, processes: int = 1
    ) -> "EvaluationBatches":
        from plainvision.data.batches import EvaluationBatches

        return EvaluationBatches(data, batch_size=batch_size, classes=classes, rank=rank, processes=processes)

    def objective(self, recipe: "Recipe", training: Any) -> Objective:
        from plainvision.training.class_loss import ClassLoss
        from plainvision.training.class_weights import balanced_weights

        classes = len(training.classes)
        weighs = recipe.class_weights is not None and training.labels is not None  # a stream has refused it
        return ClassLoss(recipe, classes, balanced_weights(training.labels, classes) if weighs else None)

    def first_lines(self, recipe: "Recipe", training: Any, validation: Any) -> Iterator[str]:
        from plainvision.data.survey import first_line
        from plainvision.training.class_weights import balanced_weights, said_of_weights

        classes = training.classes
        for split, labels in (
            (recipe.data.train_split, training.labels),
            (validation.split, validation.labels),
        ):
            if labels is not None:
                yield first_line(split, classes, labels)
        if recipe.class_weights is not None and training.labels is not None:
            yield said_of_weights(balanced_weights(training.labels, len(classes)), classes)

    def evaluate(
        self,
        model: "nn.Module",
        validation: Any,
        *,
        classes: tuple[str, ...],
        device: Any,
        total: Any = None,
        temperature: float = 1.0,
    ) -> "Evaluation":
        from plainvision.training.evaluation import evaluate

        return evaluate(model, validation, classes=classes, device=device, total=total, temperature=temperature)

    def doubts(self, last: Any, raw: Any, metrics: Sequence[dict[str, Any]]) -> list[str]:
        from plainvision.training.verdict import doubts

        return doubts(last, raw, metrics)

    def report(self, result: Any, recipe: "Recipe", validation: Any, main: bool) -> str | None:
        from accelerate.utils import gather_object

        last = result.last
        predictions, skipped = map(gather_object, (list(last.predictions), list(last.skipped)))
        if not main:
            return None
        from plainvision.training.report.run import write_run_report  # Matplotlib takes a second

        whole = replace(last, predictions=tuple(predictions), skipped=tuple(skipped))
        return write_run_report(replace(result, last=whole), recipe, validation)

    def rows(self, results: Mapping[str, Any]) -> Any:
        from plainvision.training.report.tables import accuracy_rows, score_rows

        return score_rows(results), accuracy_rows(results)

    def same_answers(self, first: Any, second: Any) -> str:
        same = sum(a.predicted == b.predicted for a, b in zip(first.predictions, second.predictions, strict=True))
        return f"both forms name the same class for {same} of {first.images} images"

    def compare(self, first: Any, second: Any) -> str:
        from plainvision.training.scores import compare_predictions

        return str(compare_predictions(first.predictions, second.predictions))

    def record(self, scores: Any) -> dict[str, Any]:
        low, high = scores.top1_interval
        return {"top1": scores.top1, "low": low, "high": high, "images": scores.images}

    def details(self, scores: Any, classes: tuple[str, ...], most: int) -> Any:
        from plainvision.training.report.tables import detail_tables

        return detail_tables(scores.predictions, classes, most)

    def write_predictions(self, path: "Path", results: Mapping[str, Any], data: Any) -> None:
        from plainvision.training.predictions_file import write_predictions

        write_predictions(path, results, data)

    def sentence(self, scores: Any) -> str:
        from plainvision.training.report.evaluation import in_one_sentence

        return in_one_sentence(scores)

    def facts(self, scores: Any) -> dict[str, str]:
        from plainvision.training.report.evaluation import facts_of

        return facts_of(scores)

    def tell(self, page: Any, scores: Any, classes: tuple[str, ...], picture: Any, *, temperature: float = 1.0) -> None:
        from plainvision.training.report.evaluation import tell_evaluation

        tell_evaluation(page, scores, classes, picture, temperature=temperature)


ONE_CLASS = Classification()
"""What a network is taken to do of which nobody says otherwise."""
