"""Images that can only be read front to back, by timm's readers: webdataset shards and Hugging Face streams.

What a stream yields is a function of (seed, epoch, number of readers): each worker of each process reads its
own shards, so another number of workers gives another order. An epoch is entered in the middle by reading up
to it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from plainvision.training.batch import (
    Batch,
    Failure,
    Sample,
    collate,
    derived_seed,
    evaluation_transform,
    opened,
    pixel_mode,
    seeded,
    training_transform,
)
from plainvision.training.images import (
    Role,
    class_lookup,
    fingerprint,
    local_or_remote,
    location,
    need,
    reason,
    without_address,
)
from plainvision.training.recipe import Data, Recipe


def is_stream(root: str) -> bool:
    """Return whether a root can only be read front to back."""
    return root.startswith(("wds/", "hfids/"))


def _refuse_counts(count: int | None, option: str, root: str) -> None:
    if count is not None:
        raise ValueError(
            f"data.{option}={count} picks images of each class, and {root!r} is a stream, whose classes are known only "
            "when it has been read. Leave it out, or read the images with hfds/ or from a folder."
        )


class TrainingStream:
    """The epochs of a stream.

    An epoch takes as many samples as the stream says that it has; where readers share it unevenly, one
    repeats some of its images and another leaves some out.

    Raises:
        FileNotFoundError, ValueError: the stream is not there, does not say how long it is, has fewer shards
            than processes, or names no classes and neither does ``recipe.num_classes``.
    """

    def __init__(self, recipe: Recipe, rank: int, processes: int) -> None:
        if recipe.augment.repeats > 1:
            raise ValueError(
                f"augment.repeats={recipe.augment.repeats} needs images that can be read in any order, and "
                f"{recipe.data.root!r} is a stream. Set augment.repeats=1, or read the images with hfds/ or "
                "from a folder."
            )
        _refuse_counts(recipe.data.train_per_class, "train_per_class", recipe.data.root)
        self._recipe, self._rank, self._processes = recipe, rank, processes
        reader = self._reader(epoch=0)
        self.images_per_epoch = int(reader.num_samples)
        self._workers = _useful_workers(reader, recipe.data, "train", processes)
        names = _class_names(reader)
        if names is None and recipe.num_classes is not None:
            names = tuple(str(number) for number in range(recipe.num_classes))
        if names is None:
            raise ValueError(
                f"data.root={recipe.data.root!r} does not say which classes it has. Set num_classes in the "
                "recipe"
                + (', or list them in its _info.json: "classes": [...].' if _is_shards(recipe.data, "train") else ".")
            )
        self.classes = names
        self.fingerprint = partial(_fingerprint, reader)

    def batches(self, epoch: int, start: int, steps: int) -> Iterator[Batch]:
        """Return this process's share of the batches of ``epoch``, from step ``start`` to ``steps``."""
        data = self._recipe.data
        images = _StreamedImages(
            self._reader(epoch),
            training_transform(data, self._recipe.augment),
            np.arange(len(self.classes)),
            where=location(data, "train"),
            key=(self._recipe.seed, epoch, self._rank),
            stop=data.corrupt == "stop",
        )
        share = self._recipe.batch_size // self._processes
        # A new loader each epoch: what a reader shuffles depends on what it has read before.
        loader = _loader(images, share, self._workers, seed=derived_seed(self._recipe.seed, epoch))
        taken, unreadable = start, ""
        for one in islice(loader, start, steps):
            batch = opened(one)
            if len(batch.names) < share:
                unreadable = f" It last left out {batch.skipped[-1]}." if batch.skipped else ""
                break
            yield batch
            taken += 1
        if taken < steps:
            root, split = location(data, "train")
            raise ValueError(
                f"{root!r}, split {split!r}, ended after {taken} of the {steps} batches that its length "
                f"promises: its shards hold fewer images that can be read.{unreadable} Correct the length, "
                "or repair the shards."
            )

    def _reader(self, epoch: int) -> Any:
        recipe = self._recipe
        share = recipe.batch_size // self._processes
        seed = derived_seed(recipe.seed, epoch)
        reader = _open_reader(recipe.data, "train", batch_size=share, seed=seed)
        reader.dist_rank, reader.dist_num_replicas = self._rank, self._processes
        return reader


class EvaluationStream:
    """The validation images of a stream: each process reads its own shards, once.

    Raises:
        FileNotFoundError, ValueError: the stream is not there, does not say how long it is, or has a class
            that ``classes`` does not.
    """

    def __init__(self, data: Data, batch_size: int, classes: tuple[str, ...] | None, rank: int, processes: int) -> None:
        _refuse_counts(data.validation_per_class, "validation_per_class", location(data, "validation")[0])
        self._data, self._batch_size, self._rank, self._processes = data, batch_size, rank, processes
        reader = self._reader()
        self.fingerprint = partial(_fingerprint, reader)
        own = _class_names(reader)
        known = classes or own
        if known is None:
            root, split = location(data, "validation")
            raise ValueError(
                f"{root!r}, split {split!r}, does not say which classes it has. Give the classes that the "
                "network was trained with."
            )
        self.classes = known
        self._lookup = np.arange(len(known)) if own is None else class_lookup(own, known, data)

    def __iter__(self) -> Iterator[Batch | Failure]:
        reader = self._reader()
        images = _StreamedImages(
            reader,
            evaluation_transform(self._data),
            self._lookup,
            where=location(self._data, "validation"),
            key=(self._rank,),
            stop=self._data.corrupt == "stop",
        )
        if _is_shards(self._data, "validation") and not reader.split_info.filenames:
            return iter(())  # more processes than shards
        workers = _useful_workers(reader, self._data, "validation", 1)
        return iter(_loader(images, self._batch_size, workers, seed=0))

    def _reader(self) -> Any:
        reader = _open_reader(self._data, "validation", batch_size=self._batch_size, seed=0)
        if _is_shards(self._data, "validation"):
            # Told of several processes, timm's reader would even them out by reading some images twice.
            reader.split_info.filenames = tuple(reader.split_info.filenames)[self._rank :: self._processes]
            reader.dist_rank, reader.dist_num_replicas = 0, 1
        else:
            reader.dist_rank, reader.dist_num_replicas = self._rank, self._processes
        return reader


class _StreamedImages(IterableDataset[Sample | Failure]):
    """One pass over a reader, transformed; ``lookup`` turns its labels into the training classes' indices."""

    def __init__(
        self,
        reader: Any,
        transform: Any,
        lookup: np.ndarray,
        *,
        where: tuple[str, str],
        key: tuple[int, ...],
        stop: bool,
    ) -> None:
        self.reader = reader
        self._transform = transform
        self._lookup = lookup
        self._root, self._split = where
        self._key = key
        self._stop = stop

    def __iter__(self) -> Iterator[Sample | Failure]:
        info = get_worker_info()
        worker = info.id if info is not None else 0
        source = iter(self.reader)
        for position in count():
            with _heard() as lost:
                try:
                    image, label = next(source)
                except StopIteration:
                    image, label = None, 0
                except Exception as error:  # a damaged image makes decoders raise nearly anything
                    yield Failure(self._broken(reason(error)))
                    return
            skipped = tuple(f"an image of {self._root}, {self._split} ({why})" for why in lost)
            name = f"{self._split}/{worker}/{position:08d}"
            if lost and self._stop:
                yield Failure(
                    f"cannot read {skipped[0]}. Repair it, or set data.corrupt=skip to go on without such "
                    "images; they are counted."
                )
                return
            if image is None:
                if skipped:
                    yield Sample(None, 0, name, skipped)
                return
            if not 0 <= label < len(self._lookup):
                yield Failure(
                    f"{self._root!r}, split {self._split!r}, has the label {label}, but there are only "
                    f"{len(self._lookup)} classes, counted from 0. Correct num_classes or the labels."
                )
                return
            with seeded(derived_seed(*self._key, worker, position)):
                pixels = self._transform(image)
            yield Sample(pixels, int(self._lookup[label]), name, skipped)

    def _broken(self, why: str) -> str:
        return (
            f"{self._root!r}, split {self._split!r}, broke off: {why}. A Hugging Face stream cannot go on "
            "behind an image that cannot be read: repair it, or use hfds/ instead of hfids/, which can with "
            "data.corrupt=skip."
        )


def _open_reader(data: Data, role: Role, *, batch_size: int, seed: int) -> Any:
    """Return timm's reader of a stream."""
    root, split = location(data, role)
    if root.startswith("wds/"):
        return _open_shards(data, role, batch_size, seed)
    need("datasets", root)
    from timm.data.readers.reader_hfids import ReaderHfids

    try:
        return ReaderHfids(
            name=local_or_remote(root),
            split=split,
            is_training=role == "train",
            batch_size=batch_size,
            seed=seed,
            input_img_mode=pixel_mode(data),
        )
    except ValueError as error:
        raise ValueError(
            f"the stream {root!r} does not say how many images its split {split!r} has, and training needs "
            f"to know before it starts. Correct data.{role}_split, or use hfds/ instead of hfids/: that "
            "downloads the data set, and then its length is known."
        ) from error


def _open_shards(data: Data, role: Role, batch_size: int, seed: int) -> Any:
    root, split = location(data, role)
    need("webdataset", root)
    from timm.data.readers.reader_wds import ReaderWds

    folder = root.removeprefix("wds/")
    remote = "://" in folder or folder.startswith("pipe:")
    if not remote:
        folder = str(Path(folder).expanduser())
        if not Path(folder).is_dir():
            raise FileNotFoundError(
                f"there are no shards at {root!r}: {folder!r} is no folder. Give wds/FOLDER, or wds/URL, "
                "where the shards and their _info.json are."
            )
    described = (
        "A stream must know its length before it starts: describe the split in _info.json beside the shards, "
        'as {"splits": {"NAME": {"name": "NAME", "num_samples": 2000, "filenames": ["0.tar", "1.tar"], '
        f'"shard_lengths": [1000, 1000]}}}}}}, or set data.{role}_split to shards and their number of '
        "images, as `train-{000..009}.tar|2000`."
    )
    try:
        reader = ReaderWds(
            root=folder,
            split=split,
            is_training=role == "train",
            batch_size=batch_size,
            seed=seed,
            input_img_mode=pixel_mode(data),
        )
    except RuntimeError as error:
        raise ValueError(f"cannot stream {root!r}: {error}. {described}") from error
    if not reader.num_samples:
        raise ValueError(f"cannot stream {root!r}: the split {split!r} has no length. {described}")
    missing = [name for name in reader.split_info.filenames if not remote and not (Path(folder) / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{root!r} should have the shard {missing[0]!r}, and {len(missing)} of its "
            f"{len(reader.split_info.filenames)} shards are not there. Copy them, or correct "
            f"_info.json or data.{role}_split."
        )
    return reader


def _is_shards(data: Data, role: Role) -> bool:
    return location(data, role)[0].startswith("wds/")


def _class_names(reader: Any) -> tuple[str, ...] | None:
    """Return the classes that a stream names itself, in the order of its labels."""
    if reader.class_to_idx:
        return tuple(sorted(reader.class_to_idx, key=reader.class_to_idx.__getitem__))
    listed = getattr(reader, "info", {}).get("classes")  # only shards have an _info.json
    return tuple(str(name) for name in listed) if listed else None


def _fingerprint(reader: Any) -> str:
    """Return the hash of what describes a stream: its shards and their lengths, or its number of images."""
    shards = getattr(reader, "split_info", None)
    if shards is None:
        return fingerprint([reader.split], [int(reader.num_samples)])
    lengths = [shards.num_samples, *map(int, shards.shard_lengths)]
    return fingerprint([f"{reader.info.get('classes')} {shards.filenames}"] * len(lengths), lengths)


def _useful_workers(reader: Any, data: Data, role: Role, processes: int) -> int:
    """Return how many workers to start: one without a shard would leave its share out."""
    if _is_shards(data, role):
        shards = len(reader.split_info.filenames)
    else:
        shards = reader.builder.as_streaming_dataset(split=location(data, role)[1]).num_shards
        # Hugging Face divides the images, not the shards, between processes that do not divide the shards.
        shards = shards if shards % processes else shards // processes
        processes = 1
    if shards < processes:
        raise ValueError(
            f"{location(data, role)[0]!r} has {shards} shards for {processes} processes, and each reads its "
            f"own. Start at most {shards} processes, or pack the images in more shards."
        )
    return min(data.workers, shards // processes)


def _loader(images: _StreamedImages, batch_size: int, workers: int, *, seed: int) -> DataLoader[Sample | Failure]:
    images.reader.set_loader_cfg(num_workers=workers)
    return DataLoader(
        images,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),  # timm's readers shuffle by the seed of their worker
    )


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Collect the images that timm's reader of shards drops: it tells its log, and nobody else."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage().removeprefix("Handling webdataset error (").removesuffix("). Ignoring.")
            heard.append(without_address(text))

    log, listener = logging.getLogger("timm.data.readers.reader_wds"), Listener(logging.WARNING)
    log.addHandler(listener)
    try:
        yield heard
    finally:
        log.removeHandler(listener)
