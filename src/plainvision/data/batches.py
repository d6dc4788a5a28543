"""Batches for training and evaluation.

A training batch is a function of (seed, epoch, position in the epoch) alone. Workers, processes and the step at which a
resumed run starts do not change it.
"""

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset, Subset

from plainvision.data.drawn_split import DrawnSplit
from plainvision.data.epochs import Epochs, all_unreadable
from plainvision.data.image_kinds import Images
from plainvision.data.images import Opening, open_images
from plainvision.data.locations import class_lookup, location, place
from plainvision.data.rows import (
    Batch,
    Failure,
    Reader,
    Sample,
    collate,
    evaluation_transform,
    read_batches,
    workers_of,
)
from plainvision.data.settings import Data
from plainvision.data.streams import EvaluationStream, TrainingStream, is_stream
from plainvision.processes import Loader

if TYPE_CHECKING:
    from plainvision.training.recipe import Recipe

__all__ = ["Batch", "EvaluationBatches", "TrainingBatches"]


class FullBatches:
    """Epochs in full batches; the images that are left over at the end of an epoch are dropped.

    Attributes:
        classes: names of the classes.
        images_per_epoch: how many images an epoch has, repeats included, before the last partial batch is
            dropped.
        steps_per_epoch: how many whole batches that makes.

    Raises:
        ValueError: not one batch is full.
    """

    def __init__(self, epochs: "TrainingStream | Epochs", batch_size: int) -> None:
        self._epochs, self.classes, self.images_per_epoch = epochs, epochs.classes, epochs.images_per_epoch
        self.steps_per_epoch = self.images_per_epoch // batch_size
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"batch_size={batch_size} but only {self.images_per_epoch} images to train with: not one batch "
                f"is full. Set batch_size to {self.images_per_epoch} or less, or raise augment.repeats."
            )

    @cached_property
    def fingerprint(self) -> str:
        return self._epochs.fingerprint()

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Any]:
        """Return the batches of ``epoch``, from ``start_step`` on; beginning an epoch ends the one before.

        Images before ``start_step`` are not read, except from a stream, which has to be read from its beginning.

        Raises:
            ValueError: ``start_step`` lies behind the end; and, while reading, as `Epochs.batches`.
        """
        if not 0 <= start_step <= self.steps_per_epoch:
            raise ValueError(
                f"start_step={start_step} lies outside an epoch of {self.steps_per_epoch} steps. The run that is being "
                "resumed had other data or another batch_size: restore those."
            )
        return self._epochs.batches(epoch, start_step, self.steps_per_epoch)


class TrainingBatches(FullBatches):
    """The training batches of a recipe, this process's share of each.

    Of every batch of B images, process ``rank`` of P gets rows [rank * B / P, (rank + 1) * B / P). An image that cannot
    be read is replaced by the next one of the epoch's order that can, so a batch is always full.

    ``opened`` finds the images: by `open_images` each has one label, by `open_label_sets` a set of them.

    Attributes:
        classes: names of the classes; a label is an index into them. Sorted, except that a Hugging Face data
            set keeps its own order.
        labels: (N,) of all images, indices into `classes`, or (N, K) for sets; None for a stream, which does not know.
        drawn: the split by names, where validation images were drawn from those of training.
        fingerprint: hash of the images' names and labels, the same on every process; of a stream, of its shards'
            names and lengths.

    Raises:
        FileNotFoundError, ValueError: the images, or the recipe's split of them into batches, cannot work.
        ImportError: the package that reads ``recipe.data.root`` is not installed.
    """

    def __init__(self, recipe: "Recipe", *, rank: int = 0, processes: int = 1, opened: Opening = open_images) -> None:
        check_shares(recipe, processes)
        data, augment, share = recipe.data, recipe.augment, (rank, processes)
        epochs: TrainingStream | Epochs
        self.labels: np.ndarray | None
        self.drawn: DrawnSplit | None = None
        if data.draws and data.validation_split == data.train_split:
            raise ValueError(
                f"data.validation_split={data.validation_split!r} is the training split, so that training would "
                "validate on what it has seen. Leave data.validation_split out."
            )
        if is_stream(data.root):
            epochs, self.labels = TrainingStream(recipe, *share), None
        else:
            images, key = opened(data, "train"), (recipe.seed,)
            self.labels, self.drawn = images.labels, images.drawn
            epochs = Epochs(images, data, augment, batch_size=recipe.batch_size, key=key, share=share)
        if len(epochs.classes) < 2:
            raise ValueError(
                f"data.root={recipe.data.root!r} has a single class, {epochs.classes[0]!r}: there is nothing to tell "
                "apart. Check that each class has its own folder, as SPLIT/CLASS/image.jpg."
            )
        super().__init__(epochs, recipe.batch_size)


class EvaluationBatches:
    """The validation images, each exactly once over all processes; an unreadable one is left out and named.

    ``batch_size`` counts this process's images, ``opened`` finds them as for `TrainingBatches`. Labels are indices
    into ``classes``, the training classes; without them the training images at ``data.root`` are asked, and, where
    there are none, the validation images.

    Attributes:
        classes: names of the classes.
        images: how many images this process reads, None for a stream, which does not know.
        labels: (N,) of all processes' images, None for a stream.
        split: what the split is called.

    Raises:
        FileNotFoundError, ValueError: the images cannot be found, or have a class that training lacks.
        ImportError: the package that reads the root is not installed.
    """

    def __init__(
        self,
        data: Data,
        *,
        batch_size: int,
        classes: tuple[str, ...] | None = None,
        rank: int = 0,
        processes: int = 1,
        opened: Opening = open_images,
    ) -> None:
        self._where = place(data, "validation")
        self._source: EvaluationStream | _EvaluationImages
        if is_stream(location(data, "validation")[0]):
            self._source = EvaluationStream(data, batch_size, classes, rank, processes)
        else:
            images = opened(data, "validation")
            self._source = _EvaluationImages(
                images, data, batch_size, classes or _training_classes(data, opened) or images.classes, rank, processes
            )
        self.classes, self.images, self.labels = self._source.classes, self._source.images, self._source.labels
        self.split = self._source.split

    @cached_property
    def fingerprint(self) -> str:  # of all processes' images
        return self._source.fingerprint()

    def part(self, first: int, last: int) -> Iterator[Batch]:
        """Yield batches of the images from number ``first`` to before ``last`` alone; no other one is read.

        A batch whose images are all unreadable has none, but names them.

        Raises:
            TypeError: the images are a stream, which has to be read from its beginning.
        """
        if isinstance(self._source, EvaluationStream):
            raise TypeError(f"the stream {self._where} has to be read from its beginning")
        return self._source.batches(first, last)

    def picture(self, name: str) -> Image.Image:
        """Return the image of a name, in RGB, whole.

        Raises:
            ValueError: no image or several are called so, or the images are a stream, which is read from its beginning.
            Exception: a damaged image makes decoders raise nearly anything.
        """
        if isinstance(self._source, EvaluationStream):
            raise ValueError(f"the stream {self._where} gives no single image")
        return self._source.picture(name)

    def __iter__(self) -> Iterator[Batch]:
        held: Batch | None = None
        orphans: tuple[str, ...] = ()  # named with the next batch, when a whole one is unreadable
        for batch in self._source.batches():
            if not batch.names:
                orphans += batch.skipped
                continue
            if held is not None:
                yield held
            held, orphans = replace(batch, skipped=orphans + batch.skipped), ()
        if held is not None:
            yield replace(held, skipped=held.skipped + orphans)
        elif orphans:
            raise ValueError(all_unreadable(orphans, self._where))


class _EvaluationImages(Dataset[Sample | Failure]):
    """The validation images that can be read in any order."""

    def __init__(
        self, images: Images, data: Data, batch_size: int, classes: tuple[str, ...], rank: int, processes: int
    ) -> None:
        self.fingerprint = images.fingerprint  # by its own classes, whichever training has
        images = copy(images)
        images.rename(classes, class_lookup(images.classes, classes, data))
        self.classes, self.labels, self.split = classes, images.labels, images.split or data.validation_split
        self._rows, self._reader = images, Reader(data, evaluation_transform(data))
        self._chosen = range(rank, len(images.labels), processes)
        self.images = len(self._chosen)
        self._batch_size, self._workers = batch_size, workers_of(data)

    def batches(self, first: int = 0, last: int | None = None) -> Iterator[Batch]:
        images = Subset(self, self._chosen[first:last])
        return read_batches(Loader(images, collate, workers=self._workers, batch_size=self._batch_size))

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for index in range(len(self.labels)):
            places.setdefault(self._rows.name(index), []).append(index)
        return places

    def picture(self, name: str) -> Image.Image:
        found = self._places.get(name, [])
        if len(found) != 1:
            raise ValueError(f"{len(found)} images are called {name!r}")
        return self._rows.read(found[0], "RGB")

    def __getitem__(self, index: int) -> Sample | Failure:
        return self._reader(self._rows.row(index))


def _training_classes(data: Data, opened: Opening) -> tuple[str, ...] | None:
    if is_stream(data.root):
        return None
    try:
        return opened(replace(data, corrupt="skip"), "train").classes
    except (FileNotFoundError, ValueError):  # a machine that only evaluates may lack the training images
        return None


def check_shares(recipe: "Recipe", processes: int) -> None:
    """Raise a `ValueError` where a batch cannot be shared equally by processes and their passes."""
    passes = recipe.machine.accumulate
    if over := recipe.batch_size % (processes * passes):
        accumulating = f" in {passes} passes each (machine.accumulate)" if passes > 1 else ""
        below = recipe.batch_size - over
        raise ValueError(
            f"batch_size={recipe.batch_size} cannot be shared equally by {processes} processes{accumulating}: it must "
            f"be a multiple of {processes * passes}. Set batch_size={below or processes * passes}, for instance."
        )
