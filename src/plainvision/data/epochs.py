"""Epochs of images that can be read in any order: drawn by seed and epoch, augmented by position."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset

from plainvision.data.locations import place
from plainvision.data.rows import Batch, Failure, Reader, collate, read_batches, training_transform, workers_of
from plainvision.data.settings import Augment, Data
from plainvision.processes import Loader
from plainvision.seeds import derived_seed

# So many unreadable images in a row are no accident, and a large data set should not be searched to its end.
MOST_IN_A_ROW = 100


class Readable(Protocol):
    """What can be read in any order, such as `Images`."""

    classes: tuple[str, ...]

    @property
    def labels(self) -> np.ndarray:
        """(N,), by which `sampling` balances."""

    def row(self, index: int) -> Any:
        """Return an image, not yet decoded."""

    def fingerprint(self) -> str:
        """Return a hash that changes with the images."""


class Epochs:
    """The epochs of ``images``, this process's share of each batch.

    Attributes:
        images_per_epoch: how many images an epoch has, repeats included.

    Args:
        batch_size: images of a batch, over all processes.
        key: numbers that, with epoch and position, decide order and augmentation.
        reader: makes a row of the image at a number's `Images.row`, by a seed; None classifies.
        collated: makes a batch of rows.
        share: which process this is, and how many there are.
    """

    def __init__(
        self,
        images: Readable,
        data: Data,
        augment: Augment,
        *,
        batch_size: int,
        key: tuple[int, ...],
        reader: Callable[..., Any] | None = None,
        collated: Callable[[list[Any]], Any] = collate,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.classes, self.fingerprint = images.classes, images.fingerprint
        self.images_per_epoch = len(images.labels) * augment.repeats
        self._batch_size, self._share = batch_size, batch_size // share[1]
        self._first = share[0] * self._share
        self._steps: list[range] = []
        reader = Reader(data, training_transform(data, augment)) if reader is None else reader
        positions = _Positions(images, data, augment.repeats, batch_size, key, reader)
        self._loader = Loader(positions, collated, workers=workers_of(data), batches=self._steps, persistent=True)
        self._turn = 0

    def batches(self, epoch: int, start: int, steps: int) -> Iterator[Batch]:
        """Yield the batches of ``epoch`` from step ``start`` to before ``steps``; it ends what was yielded before.

        Raises:
            ValueError: an image cannot be read and ``data.corrupt`` is "stop", or too many in a row cannot.
        """
        self._turn += 1
        turn, first = self._turn, epoch * self.images_per_epoch + self._first
        beginnings = (first + step * self._batch_size for step in range(start, steps))
        self._steps[:] = [range(beginning, beginning + self._share) for beginning in beginnings]
        for batch in read_batches(self._loader):
            yield batch
            # Persistent workers serve one iterator; an old one would now steal the new one's batches.
            if turn != self._turn:
                raise RuntimeError(f"epoch {epoch} is over: another call of epoch() has begun. Finish one first.")


class _Positions(Dataset[Any]):
    """The image at a position, counted through all epochs, which says everything: a worker needs no state."""

    def __init__(
        self,
        images: Readable,
        data: Data,
        repeats: int,
        batch_size: int,
        key: tuple[int, ...],
        reader: Callable[..., Any],
    ) -> None:
        self._images, self._repeats, self._batch_size = images, repeats, batch_size
        self._key, self._reader = key, reader
        self._balanced = data.sampling == "balanced"
        self._where = place(data, "train")
        self._order: tuple[int, np.ndarray] | None = None

    def __getitem__(self, number: int) -> Any:
        epoch, position = divmod(number, len(self._images.labels) * self._repeats)
        order = self._order_of(epoch)
        unreadable: dict[int, str] = {}
        for index in (int(order[i % len(order)]) for i in range(position, position + len(order))):
            if index in unreadable:  # it is in the order more than once
                continue
            row = self._reader(self._images.row(index), derived_seed(*self._key, epoch, position))
            if isinstance(row, Failure):
                return row
            if row.image is not None:
                return replace(row, skipped=tuple(unreadable.values()))
            (unreadable[index],) = row.skipped
            if len(unreadable) == MOST_IN_A_ROW:
                break
        return Failure(all_unreadable(tuple(unreadable.values()), self._where))

    def _order_of(self, epoch: int) -> np.ndarray:
        if self._order is None or self._order[0] != epoch:
            random = np.random.default_rng(derived_seed(*self._key, epoch))
            labels = self._images.labels
            drawn = balanced_order(labels, random) if self._balanced else random.permutation(len(labels))
            self._order = epoch, repeated(drawn, self._repeats, self._batch_size)
        return self._order[1]


def repeated(drawn: np.ndarray, repeats: int, batch_size: int) -> np.ndarray:
    """Return the order ``drawn``, (N,), with each image ``repeats`` times, in one batch as far apart as can be.

    Repeated augmentation wants an image's repeats in one batch (Berman et al. 2019, MultiGrain). Neighbours would go to
    the same process, and Mixup, which pairs the first image with the last, would pair a repeat with a repeat.
    """
    places = np.arange(len(drawn) * repeats)
    return np.repeat(drawn, repeats)[np.lexsort((places % repeats, places // batch_size))]


def balanced_order(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return as many indices as ``labels``, (N,), in random order: as many of each class, one more or less.

    An image of a class with fewer images comes several times, one more or less than the others of its class; of a
    class with more images, some are left out, others in another epoch.
    """
    _, counts = np.unique(labels, return_counts=True)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    share, over = divmod(len(labels), len(by_class))
    wanted = share + (random.permutation(len(by_class)) < over)
    drawn = [
        np.concatenate([np.repeat(own, number // len(own)), random.permutation(own)[: number % len(own)]])
        for own, number in zip(by_class, wanted, strict=True)
    ]
    return random.permutation(np.concatenate(drawn))


def all_unreadable(unreadable: tuple[str, ...], where: str) -> str:
    """Return the message for a row of images that cannot be read."""
    return (
        f"no image of {where}, can be read: {len(unreadable)} in a row failed, the first "
        f"of them {unreadable[0]}. Check the files, and the disk or network that they are on."
    )
