"""The training images in two halves that never meet: one for the weights, one for the architecture.

As in training, what a batch holds is a function of (seed, epoch, position) and of nothing else, so that a resumed
search sees what an unbroken one would have seen.
"""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Dataset

from plainvision.data.images import Images, open_images
from plainvision.data.rows import Batch, BatchLoader, Failure, Reader, Sample, training_transform
from plainvision.data.streams import is_stream
from plainvision.search.settings import CellSearch
from plainvision.seeds import derived_seed


class Halves:
    """Pairs of batches, one from each half of the training images.

    An image that cannot be read is left out of its batch and named there.

    Attributes:
        classes: names of the classes.
        images: how many images each half has; one more in the weights' half where the number is odd.
        fingerprint: hash of the images' names and labels.
        steps_per_epoch: pairs of whole batches in an epoch.

    Raises:
        FileNotFoundError, ValueError: the images cannot be found, halved, or split into such batches.
    """

    def __init__(self, settings: CellSearch) -> None:
        data = settings.data
        if is_stream(data.root):
            raise ValueError(
                f"data.root={data.root!r} is a stream, and a search reads two halves of the images in any order. Give "
                "a folder of class folders, a .zip or .tar of one, or hfds/NAME."
            )
        images = open_images(data, "train")
        self.classes, self.fingerprint = images.classes, images.fingerprint()
        halves = halve(images.labels, settings.seed)
        self.images = (len(halves[0]), len(halves[1]))
        self.steps_per_epoch = len(halves[1]) // settings.batch_size
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"batch_size={settings.batch_size}, but half of the training images are {len(halves[1])}: not one "
                f"batch is full. Set batch_size to {len(halves[1])} or less."
            )
        self._settings = settings
        self._halves = [_Half(images, chosen, which, settings) for which, chosen in enumerate(halves)]

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[tuple[Batch, Batch]]:
        """Return the pairs of ``epoch`` from ``start_step`` on: images for the weights, for the architecture.

        Raises:
            ValueError: while reading, an image is damaged and ``data.corrupt`` is "stop", or a whole batch is.
        """
        loaders = [self._loader(half, epoch, range(start_step, self.steps_per_epoch)) for half in self._halves]
        for weights, architecture in zip(*loaders, strict=True):
            yield _readable(weights), _readable(architecture)

    def _loader(self, half: "_Half", epoch: int, steps: range) -> BatchLoader:
        size = self._settings.batch_size
        keys = [[(epoch, step * size + row) for row in range(size)] for step in steps]
        return BatchLoader(half, workers=(self._settings.data.workers + 1) // 2, batches=keys)  # each half has its own


def halve(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of two halves, (N + 1) // 2 and N // 2 of them, with as many of each class, one more or less.

    Args:
        labels: (N,) classes.
        seed: decides which image is in which half.
    """
    shuffled = np.random.default_rng(derived_seed(seed)).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return np.sort(by_class[::2]), np.sort(by_class[1::2])


class _Half(Dataset[Sample | Failure]):
    """The image at (epoch, position) of one half."""

    def __init__(self, images: Images, chosen: np.ndarray, which: int, settings: CellSearch) -> None:
        self._images = images
        self._chosen = chosen
        self._key = (settings.seed, which)
        self._reader = Reader(settings.data, training_transform(settings.data, settings.augment))
        self._order: tuple[int, np.ndarray] | None = None

    def __getitem__(self, key: tuple[int, int]) -> Sample | Failure:
        epoch, position = key
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, np.random.default_rng(derived_seed(*self._key, epoch)).permutation(self._chosen)
        index = int(self._order[1][position])
        return self._reader(self._images.row(index), derived_seed(*self._key, epoch, position))


def _readable(batch: Batch) -> Batch:
    if not batch.names:
        raise ValueError(
            f"no image of a whole batch can be read: {len(batch.skipped)} failed, the first of them "
            f"{batch.skipped[0]}. Check the files, and the disk or network that they are on."
        )
    return batch
