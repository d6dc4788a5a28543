"""Images that can only be read front to back: webdataset shards, and Hugging Face streams by timm's reader.

The order is a function of (seed, epoch, number of readers), because each worker of each process reads its own shards.
An epoch is entered in the middle by reading up to there.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from plainvision.data.decoding import reason
from plainvision.data.epochs import MOST_IN_A_ROW
from plainvision.data.hub_images import read_row, usual_hub_split
from plainvision.data.image_kinds import fingerprint
from plainvision.data.locations import Role, class_lookup, local_or_remote, location, need, place
from plainvision.data.rows import (
    Batch,
    Failure,
    Reader,
    Row,
    Sample,
    collate,
    evaluation_transform,
    read_batches,
    training_transform,
)
from plainvision.data.settings import Data
from plainvision.data.shards import Shards
from plainvision.processes import Loader
from plainvision.seeds import derived_seed

if TYPE_CHECKING:
    from plainvision.training.recipe import Recipe


def is_stream(root: str) -> bool:
    """Return whether a root can only be read front to back."""
    return root.startswith(("wds/", "hfids/"))


class TrainingStream:
    """The epochs of a stream, each of as many samples as the stream says that it has.

    Where readers share it unevenly, one repeats some of its images and another leaves some out.

    Raises:
        FileNotFoundError, ValueError: the stream is not there, does not say how long it is, has fewer shards
            than processes, or names no classes and neither does ``recipe.num_classes``.
    """

    def __init__(self, recipe: "Recipe", rank: int, processes: int) -> None:
        if recipe.augment.repeats > 1:
            raise ValueError(
                f"augment.repeats={recipe.augment.repeats} needs images that can be read in any order, and "
                f"{recipe.data.root!r} is a stream. Set augment.repeats=1, or read the images with hfds/ or from a "
                "folder."
            )
        for name, given in (("class_weights", recipe.class_weights), ("data.sampling", recipe.data.sampling)):
            if given == "balanced":
                raise ValueError(
                    f"{name}='balanced' needs to know how many images each class has, and {recipe.data.root!r} is a "
                    "stream, which knows when it has been read. Leave it out, or read the images with hfds/ or from a "
                    "folder."
                )
        self._recipe, self._rank, self._processes = recipe, rank, processes
        source = _open(recipe.data, "train", (recipe.seed, 0))
        self.images_per_epoch = source.images
        shards = source.shards(processes)
        if shards < processes:
            raise ValueError(
                f"{recipe.data.root!r} has {shards} shards for {processes} processes, and each reads its "
                f"own. Start at most {shards} processes, or pack the images in more shards."
            )
        self._workers = min(_workers(recipe.data), shards // processes)  # one without a shard leaves its share out
        if source.classes is None and recipe.num_classes is None:
            listed = ', or list them in its _info.json: "classes": [...]' if isinstance(source, Shards) else ""
            raise ValueError(
                f"data.root={recipe.data.root!r} does not say which classes it has. Set num_classes in the recipe"
                f"{listed}."
            )
        self.classes = source.classes or tuple(map(str, range(recipe.num_classes or 0)))
        self.fingerprint = partial(fingerprint, [source.description], [source.images])

    def batches(self, epoch: int, start: int, steps: int) -> Iterator[Batch]:
        """Yield this process's share of the batches of ``epoch``, from step ``start`` to before ``steps``."""
        data, share = self._recipe.data, self._recipe.batch_size // self._processes
        images = _StreamedImages(
            _open(data, "train", (self._recipe.seed, epoch)),
            Reader(data, training_transform(data, self._recipe.augment)),
            np.arange(len(self.classes)),
            where=place(data, "train"),
            key=(self._recipe.seed, epoch, self._rank),
            share=(self._rank, self._processes),
            batch=share,
        )
        # A new loader each epoch: what a reader shuffles depends on what it has read before.
        seed = derived_seed(self._recipe.seed, epoch)
        loader = Loader(images, collate, workers=self._workers, batch_size=share, seed=seed)
        taken, unreadable = start, ""
        for batch in islice(read_batches(loader), start, steps):
            if len(batch.names) < share:
                unreadable = f" It last left out {batch.skipped[-1]}." if batch.skipped else ""
                break
            yield batch
            taken += 1
        if taken < steps:
            raise ValueError(
                f"{place(data, 'train')}, ended after {taken} of the {steps} batches that its length promises: its "
                f"shards hold fewer images that can be read.{unreadable} Correct the length, or repair the shards."
            )


class EvaluationStream:
    """The validation images of a stream: each process reads its own shards, once.

    Raises:
        FileNotFoundError, ValueError: the stream is not there, or has a class that ``classes`` does not.
    """

    images = labels = None  # nobody knows how many this process reads

    def __init__(self, data: Data, batch_size: int, classes: tuple[str, ...] | None, rank: int, processes: int) -> None:
        self._data, self._batch_size, self._share = data, batch_size, (rank, processes)
        self.split = data.validation_split
        source = _open(data, "validation", None)
        self.fingerprint = partial(fingerprint, [source.description], [source.images])
        self.classes = classes or source.classes or ()
        if not self.classes:
            raise ValueError(
                f"{place(data, 'validation')}, does not say which classes it has. Give the classes that the "
                "network was trained with."
            )
        own = source.classes
        self._lookup = np.arange(len(self.classes)) if own is None else class_lookup(own, self.classes, data)

    def batches(self) -> Iterator[Batch]:
        source = _open(self._data, "validation", None)
        shards = source.shards(1)
        if isinstance(source, Shards):
            shards = len(range(self._share[0], shards, self._share[1]))
        if not shards:
            return iter(())  # more processes than shards
        images = _StreamedImages(
            source,
            Reader(self._data, evaluation_transform(self._data)),
            self._lookup,
            where=place(self._data, "validation"),
            key=(self._share[0],),
            share=self._share,
        )
        workers = min(_workers(self._data), shards)
        return read_batches(Loader(images, collate, workers=workers, batch_size=self._batch_size, seed=0))


class _Hub:
    """A Hugging Face data set as a stream, by timm's reader; it has the methods and attributes of `Shards`."""

    def __init__(self, data: Data, role: Role, seed: tuple[int, ...] | None) -> None:
        root, split = location(data, role)
        datasets = need("datasets", root)
        from timm.data.readers.reader_hfids import ReaderHfids

        source = local_or_remote(root)
        if role == "validation":
            split = usual_hub_split(datasets, source, split, data) or split
        try:
            self._reader = ReaderHfids(
                name=source,
                split=split,
                is_training=role == "train",
                seed=derived_seed(*seed or (0,)),
                input_img_mode="",
                repeats=10**6,  # whoever reads it stops when there are enough
            )
        except RuntimeError as error:  # a folder with a script, which the library does not run
            raise ValueError(f"cannot read {root!r}: {error}") from error
        except ValueError as error:
            raise ValueError(
                f"the stream {root!r} does not say how many images its split {split!r} has, and training needs "
                f"to know before it starts. Correct data.{role}_split, or use hfds/ instead of hfids/: that "
                "downloads the data set, and then its length is known."
            ) from error
        builder = self._reader.builder
        builder.as_streaming_dataset = partial(_undecoded, builder, datasets.Image(decode=False))
        self.images, index = int(self._reader.num_samples), self._reader.class_to_idx
        self.classes = tuple(sorted(index, key=index.__getitem__)) if index else None
        self.description = f"{split} {self.classes}"
        self._source, self._split, self._max_pixels = source, split, data.max_pixels

    def shards(self, processes: int) -> int:
        shards = int(self._reader.builder.as_streaming_dataset(split=self._split).num_shards)
        # Hugging Face divides the images, not the shards, between processes that do not divide the shards.
        return shards * processes if shards % processes else shards

    def rows(self, rank: int, processes: int, worker: int, workers: int) -> Iterator[Row]:
        self._reader.dist_rank, self._reader.dist_num_replicas = rank, processes
        self._reader.set_loader_cfg(num_workers=workers)
        for position, (image, label) in enumerate(self._reader):
            read = partial(read_row, image, self._source, self._max_pixels)
            yield Row(read, f"{self._split}/{worker}/{position:08d}", int(label))


def _undecoded(builder: Any, feature: Any, split: str) -> Any:
    return type(builder).as_streaming_dataset(builder, split=split).cast_column("image", feature)


def _workers(data: Data) -> int:
    # Not by the machine's processors: the order of a stream depends on their number.
    return 4 if data.workers is None else data.workers


def _open(data: Data, role: Role, seed: tuple[int, ...] | None) -> Shards | _Hub:
    root, _ = location(data, role)
    count = data.train_per_class if role == "train" else data.validation_per_class
    if count is not None:
        raise ValueError(
            f"data.{role}_per_class={count} picks images of each class, and {root!r} is a stream, whose classes are "
            "known only when it has been read. Leave it out, or read the images with hfds/ or from a folder."
        )
    if data.class_map is not None:
        raise ValueError(
            f"data.class_map={data.class_map!r} orders classes by their names, and {root!r} is a stream, whose labels "
            "are numbers already. Leave it out, or list the classes in its _info.json."
        )
    for name, given in (("validation_share", data.validation_share), ("folds", data.folds), ("labels", data.labels)):
        if given is not None:
            raise ValueError(
                f"data.{name}={given!r} goes by the names of all images, and {root!r} is a stream, which is read front "
                "to back. Leave it out, or read the images with hfds/ or from a folder."
            )
    return (Shards if root.startswith("wds/") else _Hub)(data, role, seed)


@dataclass(frozen=True, eq=False)
class _StreamedImages(IterableDataset[Sample | Failure]):
    """The rows of a source for one process, transformed; ``lookup`` makes its labels the training classes' indices.

    With ``batch`` the source is repeated until this worker has its share of an epoch, in whole batches.
    """

    source: Shards | _Hub
    reader: Reader
    lookup: np.ndarray
    where: str
    key: tuple[int, ...]
    share: tuple[int, int]
    batch: int | None = None

    def __iter__(self) -> Iterator[Sample | Failure]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        wanted = math.inf
        if self.batch is not None:
            wanted = self.batch * math.ceil(self.source.images / (self.share[1] * workers) / self.batch)
        lost: tuple[str, ...] = ()
        try:
            for position, row in enumerate(self._rows(worker, workers)):
                sample = self._sample(row, worker, position)
                if isinstance(sample, Failure):
                    yield sample
                    return
                lost += sample.skipped
                if sample.image is not None:
                    yield replace(sample, skipped=lost)
                    wanted, lost = wanted - 1, ()
                if wanted <= 0 or (self.batch is not None and len(lost) == MOST_IN_A_ROW):
                    break
        except Exception as error:  # a damaged shard, a connection that ends
            yield Failure(
                f"{self.where}, broke off: {reason(error)}. Repair its files or copy them again, or check the disk or "
                "network that they are on."
            )
            return
        if lost:
            yield Sample(None, 0, "", tuple(dict.fromkeys(lost)))

    def _rows(self, worker: int, workers: int) -> Iterator[Row]:
        found = True
        while found:
            found = False
            for row in self.source.rows(*self.share, worker, workers):
                found = self.batch is not None
                yield row

    def _sample(self, row: Row, worker: int, position: int) -> Sample | Failure:
        if not 0 <= row.label < len(self.lookup):
            return Failure(
                f"{self.where}, has the label {row.label}, but there are only {len(self.lookup)} classes, counted "
                "from 0. Correct num_classes or the labels."
            )
        row = row._replace(label=int(self.lookup[row.label]))
        return self.reader(row, derived_seed(*self.key, worker, position))
