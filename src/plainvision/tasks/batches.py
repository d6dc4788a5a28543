"""Batches of scenes. A training batch is a function of (seed, epoch, position) alone, as in classification."""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from torch.utils.data import Dataset

from plainvision.data.batches import check_shares
from plainvision.data.epochs import Epochs
from plainvision.data.rows import Failure, read_batches, workers_of
from plainvision.data.settings import Data
from plainvision.processes import Loader
from plainvision.tasks.scenes import SceneBatch, SceneReader, Scenes, SceneSample, Transform, collate

if TYPE_CHECKING:
    from plainvision.training.recipe import Recipe


class TrainingScenes:
    """The training batches of a recipe, this process's share of each, as `TrainingBatches` has them.

    Raises:
        ValueError: not one batch is full, or it cannot be shared.
    """

    labels = None
    drawn = None

    def __init__(
        self, recipe: "Recipe", scenes: Scenes, transform: Transform, *, rank: int = 0, processes: int = 1
    ) -> None:
        check_shares(recipe, processes)
        self.scenes, self.classes = scenes, scenes.classes
        self._epochs = Epochs(
            scenes,
            recipe.data,
            recipe.augment,
            batch_size=recipe.batch_size,
            key=(recipe.seed,),
            reader=SceneReader(recipe.data, transform),
            collated=collate,
            share=(rank, processes),
        )
        self.images_per_epoch = self._epochs.images_per_epoch
        self.steps_per_epoch = self.images_per_epoch // recipe.batch_size
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"batch_size={recipe.batch_size} but only {self.images_per_epoch} images to train with: not one batch "
                f"is full. Set batch_size to {self.images_per_epoch} or less, or raise augment.repeats."
            )

    @cached_property
    def fingerprint(self) -> str:
        return self._epochs.fingerprint()

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[SceneBatch]:
        """Return the batches of ``epoch``, from ``start_step`` on; beginning an epoch ends the one before."""
        return self._epochs.batches(epoch, start_step, self.steps_per_epoch)  # type: ignore[return-value]


class ValidationScenes:
    """The scenes of a split, each once, in batches that every process reads whole."""

    def __init__(self, data: Data, scenes: Scenes, batch_size: int) -> None:
        self.scenes, self.classes, self.image_size = scenes, scenes.classes, data.image_size
        rows = _Rows(scenes, SceneReader(data, None))
        self._loader = Loader(rows, collate, workers=workers_of(data), batch_size=batch_size)

    @cached_property
    def fingerprint(self) -> str:
        return self.scenes.fingerprint()

    def __iter__(self) -> Iterator[SceneBatch]:
        return iter(read_batches(self._loader))  # type: ignore[arg-type]


class _Rows(Dataset[SceneSample | Failure]):
    def __init__(self, scenes: Scenes, reader: SceneReader) -> None:
        self._scenes, self._reader = scenes, reader

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> SceneSample | Failure:
        return self._reader(self._scenes.row(index))
