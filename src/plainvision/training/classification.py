"""Classification as a task: images with one label each, soft targets, top-1."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from plainvision.training.task import Objective, Task

if TYPE_CHECKING:
    import torch
    from torch import nn

    from plainvision.training.evaluation import Evaluation
    from plainvision.training.recipe import Recipe


@dataclass(frozen=True)
class Classification(Task):
    """Name the class of each image."""

    score_name = "top-1"

    def splits(self, recipe: "Recipe", rank: int, processes: int) -> Any:
        from plainvision.data.batches import EvaluationBatches, TrainingBatches
        from plainvision.training.checks import check_data

        share = {"rank": rank, "processes": processes}
        training = TrainingBatches(recipe, **share)
        size = max(1, recipe.batch_size // processes // recipe.machine.accumulate)
        validation = EvaluationBatches(recipe.data, batch_size=size, classes=training.classes, **share)
        check_data(recipe, training.classes, processes)
        return training, validation

    def build(self, recipe: "Recipe", classes: int) -> "nn.Module":
        from plainvision.models.registry import create_model

        try:
            return create_model(recipe.model, **recipe.network_options(classes))
        except ValueError as error:
            if "in_chans" in recipe.model_options or "no option 'in_chans'" not in str(error):
                raise
            raise ValueError(
                f"{recipe.model} has no option in_chans, so that it takes RGB images alone, and data.channels is "
                f"{recipe.data.channels}. Set data.channels to 3, or choose another network."
            ) from error

    def load_start(self, model: "nn.Module", recipe: "Recipe") -> None:
        from plainvision.training.starting import load_start

        load_start(model, recipe)

    def check_network(self, model: "nn.Module", recipe: "Recipe", classes: int, per_pass: int) -> None:
        from plainvision.training.checks import check_network

        check_network(model, recipe, classes, per_pass)

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
        self, model: "nn.Module", validation: Any, *, classes: tuple[str, ...], device: "torch.device", total: Any
    ) -> "Evaluation":
        from plainvision.training.evaluation import evaluate

        return evaluate(model, validation, classes=classes, device=device, total=total)

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
