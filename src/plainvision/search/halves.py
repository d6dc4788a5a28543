"""The training images in two halves that never meet: one for the weights, one for the architecture.

As in training, what a batch holds is a function of (seed, epoch, position) and of nothing else, so that a resumed
search sees what an unbroken one would have seen.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from plainvision.data.epochs import Epochs
from plainvision.data.image_kinds import Chosen
from plainvision.data.images import open_images
from plainvision.data.rows import Batch, workers_of
from plainvision.data.streams import is_stream
from plainvision.search.settings import CellSearch
from plainvision.seeds import derived_seed


class Halves:
    """Pairs of batches, one from each half of the training images.

    An image that cannot be read is replaced by the next one of its half that can, and named, as in training.

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
        reading = replace(data, workers=(workers_of(data) + 1) // 2)  # each half has its own workers
        size, seed = settings.batch_size, settings.seed
        self._halves = [
            Epochs(Chosen(images, half), reading, settings.augment, batch_size=size, key=(seed, number))
            for number, half in enumerate(halves)
        ]

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[tuple[Batch, Batch]]:
        """Return the pairs of ``epoch`` from ``start_step`` on: images for the weights, for the architecture.

        Raises:
            ValueError: while reading, an image is damaged and ``data.corrupt`` is "stop", or none can be read.
        """
        weights, architecture = (half.batches(epoch, start_step, self.steps_per_epoch) for half in self._halves)
        return zip(weights, architecture, strict=True)


def halve(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of two halves, (N + 1) // 2 and N // 2 of them, with as many of each class, one more or less.

    ``labels`` are the classes, (N,).
    """
    shuffled = np.random.default_rng(derived_seed(seed)).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return np.sort(by_class[::2]), np.sort(by_class[1::2])
