"""Batches of scenes. A training batch is a function of (seed, epoch, position) alone, as in classification."""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from torch.utils.data import Dataset, Subset

from plainvision.data.batches import FullBatches, check_shares
from plainvision.data.epochs import Epochs
from plainvision.data.rows import Failure, read_batches, workers_of
from plainvision.data.settings import Data
from plainvision.processes import Loader
from plainvision.tasks.scenes import SceneBatch, SceneReader, Scenes, SceneSample, Transform, collate

if TYPE_CHECKING:
    from plainvision.training.recipe import Recipe


class TrainingScenes(FullBatches):
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
        self.scenes = scenes
        epochs = Epochs(
            scenes,
            recipe.data,
            recipe.augment,
            batch_size=recipe.batch_size,
            key=(recipe.seed,),
            reader=SceneReader(recipe.data, transform),
            collated=collate,
            share=(rank, processes),
        )
        super().__init__(epochs, recipe.batch_size)


class ValidationScenes:
    """The scenes of a split, each exactly once over all processes; ``batch_size`` counts this process's."""

    def __init__(self, data: Data, scenes: Scenes, batch_size: int, *, rank: int = 0, processes: int = 1) -> None:
        self.scenes, self.classes, self.image_size = scenes, scenes.classes, data.image_size
        rows = Subset(_Rows(scenes, SceneReader(data, None)), range(rank, len(scenes), processes))
        self._loader = Loader(rows, collate, workers=workers_of(data), batch_size=batch_size)
        self.shared = processes > 1

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
