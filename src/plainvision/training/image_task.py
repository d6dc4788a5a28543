"""What the tasks share whose network answers for a whole image, with a logit for each class."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from plainvision.training.task import Task

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from PIL import Image
    from torch import nn

    from plainvision.data.batches import EvaluationBatches, TrainingBatches
    from plainvision.data.rows import Batch
    from plainvision.data.settings import Data
    from plainvision.figures.page import Page
    from plainvision.training.recipe import Recipe
    from plainvision.training.report.tables import Rows


class ImageTask(Task):
    """A task of whole images: its network is any classifier, and these say what its logits mean.

    Beside a run, `plainvision evaluate` asks for `images`, `evaluate`, and what there is to say of the scores.
    """

    @property
    def threshold(self) -> float | None:
        """The confidence, a sigmoid of a logit, from which on an image gets a label.

        None where it has one class, the likeliest, whose confidence is a softmax.
        """
        return None

    def splits(self, recipe: "Recipe", rank: int, processes: int) -> Any:
        from plainvision.training.checks import check_data

        share = {"rank": rank, "processes": processes}
        training = self.training(recipe, **share)
        size = max(1, recipe.batch_size // processes // recipe.machine.accumulate)
        validation = self.images(recipe.data, batch_size=size, classes=training.classes, **share)
        check_data(recipe, training.classes, processes)
        return training, validation

    def build(self, recipe: "Recipe", classes: int) -> "nn.Module":
        from plainvision.models.image_sizes import size_options
        from plainvision.models.registry import create_model

        options = recipe.network_options(classes)
        try:
            return create_model(recipe.model, **{**size_options(recipe.model, recipe.data.image_size), **options})
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

    def noise(self, recipe: "Recipe", training: Any) -> "Batch":
        import torch
        import torch.nn.functional as F

        from plainvision.data.rows import Batch

        data = recipe.data
        images = torch.randn(recipe.batch_size, data.channels, data.image_size, data.image_size)
        labels = torch.arange(recipe.batch_size) % len(training.classes)
        if self.threshold is not None:
            labels = F.one_hot(labels, len(training.classes)).float()
        return Batch(images, labels, (), ())

    def training(self, recipe: "Recipe", *, rank: int = 0, processes: int = 1) -> "TrainingBatches":
        """Return the training images, see `TrainingBatches`."""
        raise NotImplementedError

    def images(
        self, data: "Data", *, batch_size: int, classes: tuple[str, ...] | None, rank: int = 0, processes: int = 1
    ) -> "EvaluationBatches":
        """Return the validation images of ``data``, see `EvaluationBatches`."""
        raise NotImplementedError

    def evaluate(
        self,
        model: "nn.Module",
        validation: Any,
        *,
        classes: tuple[str, ...],
        device: "str | torch.device | None",
        total: Any = None,
        temperature: float = 1.0,
    ) -> Any:
        """Return the scores of ``model``, whose logits are divided by ``temperature`` for calibrated confidences."""
        raise NotImplementedError

    def rows(self, results: Mapping[str, Any]) -> "tuple[Rows, Rows]":
        """Return the scores of each form of a network, and one score of each class, a column for each form."""
        raise NotImplementedError

    def same_answers(self, first: Any, second: Any) -> str:
        """Return in words for how many images two forms of a network have the same answer."""
        raise NotImplementedError

    def compare(self, first: Any, second: Any) -> str:
        """Return in words how two evaluations of the same images differ, and whether that may be chance."""
        raise NotImplementedError

    def record(self, scores: Any) -> dict[str, Any]:
        """Return the score with its 95 % interval, and the number of images."""
        raise NotImplementedError

    def details(self, scores: Any, classes: tuple[str, ...], most: int) -> "Iterator[tuple[str, Rows, int]]":
        """Yield tables that tell the scores in detail, behind what they hold in words, and how many columns hold words.

        No table names more than ``most`` images or pairs of classes.
        """
        raise NotImplementedError

    def write_predictions(self, path: "Path", results: Mapping[str, Any], data: "Data") -> None:
        """Write a .csv of the answers of each form of a network."""
        raise NotImplementedError

    def sentence(self, scores: Any) -> str:
        """Return the score with its interval, in one sentence without its full stop."""
        raise NotImplementedError

    def facts(self, scores: Any) -> dict[str, str]:
        """Return what is to be seen first on a page."""
        raise NotImplementedError

    def tell(
        self,
        page: "Page",
        scores: Any,
        classes: tuple[str, ...],
        picture: "Callable[[str], Image.Image]",
        *,
        temperature: float = 1.0,
    ) -> None:
        """Add what there is to say of the scores to a page; ``picture`` returns an image by its name."""
        raise NotImplementedError
