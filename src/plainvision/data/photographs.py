"""Photographs without labels: files, folders, archives and pictures in memory, in batches and in their order.

A source may be endless, such as paths from a pipe: it is read only so far as batches are asked for.
"""

import os
import stat
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from plainvision.data.archives import FolderStore, Listing, Store, open_store
from plainvision.data.decoding import decode, is_image, looks_like_image, picture_of, reason
from plainvision.data.rows import (
    Batch,
    Failure,
    Reader,
    Row,
    Sample,
    collate,
    evaluation_transform,
    pixel_mode,
    read_batches,
)
from plainvision.data.settings import Data
from plainvision.processes import Loader, usual_workers

# What an argument may be.
Source = str | Path | Image.Image
_ARCHIVES = (".zip", ".tar", ".tgz", ".txz", ".tbz2")
_LONGEST_LINE = 2**16
# So many archives stay open in a process: batches that are read ahead may lie in the next one already.
_OPEN_ARCHIVES = 4


@dataclass(frozen=True)
class Photograph:
    """Where one image is."""

    name: str
    """What it is called: its path as it was given, an archive's member behind the path of the archive."""
    path: str = ""
    """The file, or the archive that holds it."""
    member: str | None = None
    """Its path inside the archive; this is a label, and never a path on disk."""
    picture: Image.Image | None = None
    """Its pixels, where it was given as a picture."""
    unread: str = ""
    """Why it cannot be read, where that is known before."""


class Photographs:
    """Images of ``sources`` in their order; ``data`` says how they are prepared, and not where they are.

    A source is the path of a photograph, a folder, an archive, or a picture. Folders and archives are read with all
    that they hold, sorted by path. What cannot be read is named in its batch. Without a ``transform`` images are
    prepared as for classification; one that leaves their sizes as they are needs batches of one.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        data: Data,
        *,
        batch_size: int,
        transform: Callable[[Image.Image], Tensor] | None = None,
    ) -> None:
        self._sources, self._batch_size = sources, batch_size
        self._workers = usual_workers() if data.workers is None else data.workers
        self._mode, self._most = pixel_mode(data), data.max_pixels
        self._reading = _Reading(data, evaluation_transform(data) if transform is None else transform)

    def batches(self) -> Iterator[tuple[Batch, tuple[Photograph, ...]]]:
        """Yield each batch with its photographs, read or not; the labels of the batch are numbers of photographs."""
        all_of_them = chain.from_iterable(self._found(number, one) for number, one in enumerate(self._sources))
        # One batch is read in this process; otherwise the others inherit the first archive, open.
        first = list(islice(all_of_them, self._batch_size + 1))
        workers = self._workers if len(first) > self._batch_size else 0
        waiting: deque[tuple[Photograph, ...]] = deque()

        def keys() -> Iterator[list[tuple[int, Photograph]]]:
            left = chain(first, all_of_them)
            while batch := tuple(islice(left, self._batch_size)):
                waiting.append(batch)
                yield list(enumerate(batch))

        for read in read_batches(Loader(self._reading, collate, workers=workers, batches=keys())):
            yield read, waiting.popleft()

    def open(self, photograph: Photograph) -> BinaryIO:
        """Return the file of a photograph that was read, to be closed by the caller.

        Raises:
            ValueError: it was given as a picture, and has no file.
            OSError: the file is gone.
        """
        return self._reading.open(photograph)

    def _found(self, number: int, source: Source) -> Iterator[Photograph]:
        if isinstance(source, Image.Image):
            yield self._picture(number, source)
            return
        path = os.fspath(source)
        try:
            mode = os.stat(path).st_mode
            if stat.S_ISDIR(mode):
                listing = FolderStore(Path(path)).listing
            elif stat.S_ISREG(mode) and path.lower().endswith(_ARCHIVES):
                listing = self._reading.archives.listing(path)
            else:  # a named pipe, for instance, would be waited for without end
                yield Photograph(path, path, unread="" if stat.S_ISREG(mode) else "is no file")
                return
        except (OSError, ValueError) as error:
            where = getattr(error, "filename", None)
            below = f": {where}" if isinstance(where, str) and where != path else ""
            yield Photograph(path, path, unread=reason(error).removesuffix(".") + below)
            return
        yield from _listed(path, listing, packed=not stat.S_ISDIR(mode))

    def _picture(self, number: int, source: Image.Image) -> Photograph:
        # Here, and not in another process: what was opened and not yet decoded cannot be sent to one.
        name = str(getattr(source, "filename", "") or f"image {number}")
        try:
            if source.width * source.height > self._most:
                raise ValueError(f"{source.width} x {source.height} pixels are more than data.max_pixels={self._most}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return Photograph(name, picture=picture_of(source, self._mode))
        except Exception as error:  # a damaged file makes decoders raise nearly anything
            return Photograph(name, unread=reason(error))


def paths_of_lines(file: BinaryIO) -> Iterator[str]:
    """Yield the paths in a file, one a line; empty lines are passed over.

    Raises:
        ValueError: a line is longer than a path can be.
    """
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE:
            raise ValueError(
                f"line {number} of the list is longer than {_LONGEST_LINE} bytes, and no path is. Give one path a line."
            )
        if path := line.rstrip(b"\r\n"):
            yield os.fsdecode(path)


def _listed(root: str, listing: Listing, packed: bool) -> Iterator[Photograph]:
    """Yield what looks like an image in a folder or an archive, sorted."""
    found = [(path, "" if is_image(path) else "a kind of image that is not read") for path in listing.files]
    found += listing.left_out.items()
    for link, target in listing.links.items():
        if looks_like_image(link):
            known = target in listing.files
            found.append(
                (link, f"a link to {target}, which is read" if known else "a link that leads to no image here")
            )
    if not found:
        yield Photograph(root, root, unread="holds no image")
    for path, why in sorted(found):
        name = os.path.join(root, path)
        yield Photograph(name, root if packed else name, path if packed else None, unread=why)


class _Archives:
    """The archives that a process has open, the newest last."""

    def __init__(self) -> None:
        self._open: dict[str, Store] = {}

    def listing(self, path: str) -> Listing:
        """Return the images in an archive; one that cannot be read is a `ValueError`."""
        store = open_store(path, "")
        listing, store.listing = store.listing, Listing()
        self._open.pop(path, None)
        while len(self._open) >= _OPEN_ARCHIVES:
            del self._open[next(iter(self._open))]
        self._open[path] = store
        return listing

    def open(self, path: str, member: str, max_pixels: int) -> BinaryIO:
        if path not in self._open:
            self.listing(path)
        return self._open[path].open(member, max_pixels)


class _Reading(Dataset[Sample | Failure]):
    """Reads a photograph, in any process, into the row of a batch with its number as label."""

    def __init__(self, data: Data, transform: Callable[[Image.Image], Tensor]) -> None:
        self.archives = _Archives()
        self._reader = Reader(replace(data, corrupt="skip"), transform)
        self._most = data.max_pixels

    def __getitem__(self, key: tuple[int, Photograph]) -> Sample | Failure:
        number, photograph = key
        return self._reader(Row(partial(self._read, photograph), photograph.name, number))

    def _read(self, photograph: Photograph, mode: str) -> Image.Image:
        if photograph.unread:
            raise ValueError(photograph.unread)
        if photograph.picture is not None:
            return photograph.picture
        return decode(self.open(photograph), mode, self._most)

    def open(self, photograph: Photograph) -> BinaryIO:
        if photograph.picture is not None:
            raise ValueError(f"{photograph.name} was given as a picture, and has no file. Save it as you like.")
        if photograph.member is None:
            return open(photograph.path, "rb")
        return self.archives.open(photograph.path, photograph.member, self._most)
