"""Webdataset shards: tars that hold, for each image, `KEY.ENDING` and its label `KEY.cls`, read front to back.

The address is the user's own; what stands at it is a stranger's. So an address that a program would have to fetch is
refused unless `data.allow_pipes`, and the shards that an `_info.json` names lie below it.
"""

import json
import posixpath
import random
import re
import shlex
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote
from urllib.request import urlopen

from PIL import Image

from plainvision.data.archives import StrictTarInfo
from plainvision.data.decoding import check_bytes, decode, looks_like_image, reason
from plainvision.data.locations import Role, location, need
from plainvision.data.rows import Row
from plainvision.data.settings import Data
from plainvision.fields import from_plain
from plainvision.seeds import derived_seed

_BUFFER, _FIRST = 8192, 2048  # images among which a stream is shuffled, and those it waits for
_SECONDS = 60  # without an answer
_INFO = ("_info.json", "info.json")
_PLAIN = re.compile(r"(?!-)[\w.+=@, -]+(/[\w.+=@, -]+)*")


@dataclass(frozen=True)
class _Described:
    """A split as an `_info.json` has it."""

    filenames: tuple[str, ...]
    num_samples: int = 0
    shard_lengths: tuple[int, ...] = ()
    alt_label: str = ""


class Shards:
    """The shards of one split, read in an order of their own where there is a ``seed``.

    Attributes:
        classes: names of the classes, None where nobody says.
        images: how many images there are.
        description: all that is known of them.

    Raises:
        FileNotFoundError, ValueError: there are no shards, they are not described, or the address is refused.
    """

    def __init__(self, data: Data, role: Role, seed: tuple[int, ...] | None) -> None:
        root, split = location(data, role)
        need("webdataset", root)
        self._address = _Address(root, allow_pipes=data.allow_pipes)
        self._seed, self._max_pixels = seed, data.max_pixels
        info, why = _info(self._address)
        found = _split(split, info, root, f"data.{role}_split", why)
        self._names, self.images, self._label = found.filenames, found.num_samples, found.alt_label
        listed = info.get("classes")
        self.classes = tuple(map(str, listed)) if isinstance(listed, list) and listed else None
        self.description = f"{listed} {found.filenames} {found.shard_lengths}"
        missing = [name for name in found.filenames if not self._address.may_have(name)]
        if missing:
            raise FileNotFoundError(
                f"{root!r} should have the shard {missing[0]!r}, and {len(missing)} of its {len(found.filenames)} "
                f"shards are not there. Copy them, or correct _info.json or data.{role}_split."
            )

    def shards(self, processes: int) -> int:
        return len(self._names)

    def rows(self, rank: int, processes: int, worker: int, workers: int) -> Iterator[Row]:
        """Yield the images of the shards of one worker of one process; a damaged shard is a `ValueError`."""
        names = list(self._names)
        if self._seed is not None:
            random.Random(derived_seed(*self._seed)).shuffle(names)
        rows = self._rows(names[rank::processes][worker::workers])
        if self._seed is None:
            return rows
        from webdataset.filters import shuffle

        chance = random.Random(derived_seed(*self._seed, rank, worker))
        return iter(shuffle(_BUFFER, initial=_FIRST, rng=chance)(rows))

    def _rows(self, names: list[str]) -> Iterator[Row]:
        for name in names:
            try:
                with (
                    self._address.open(name) as file,
                    tarfile.open(None, "r|*", file, tarinfo=StrictTarInfo) as archive,
                ):
                    yield from self._samples(archive, name)
            except (tarfile.TarError, EOFError, OSError) as error:
                raise ValueError(f"the shard {name!r} cannot be read ({reason(error)})") from error

    def _samples(self, archive: tarfile.TarFile, shard: str) -> Iterator[Row]:
        """Yield the images of one shard: the files of a sample follow each other, and its key ends at the first dot."""
        key, files = "", dict[str, bytes | str]()
        for member in archive:
            path = member.name.removeprefix("./")
            folder, name = posixpath.split(path)
            stem, dot, ending = name.partition(".")
            if not member.isreg() or not stem or not dot or path.startswith("__"):
                continue
            if posixpath.join(folder, stem) != key:
                yield from self._row(files, shard)
                key, files = posixpath.join(folder, stem), {}
            kind = "image" if "." not in ending and looks_like_image(name) else ending
            if kind in ("image", "cls", "json") and kind not in files:
                files[kind] = self._content(archive, member)
                files |= {"name": path} if kind == "image" else {}
            archive.members = []  # type: ignore[attr-defined]  # else a shard's headers stay in memory
        yield from self._row(files, shard)

    def _content(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | str:
        try:
            check_bytes(member.size, self._max_pixels)
        except ValueError as error:
            return str(error)
        file = archive.extractfile(member)
        return file.read() if file else b""

    def _row(self, files: dict[str, bytes | str], shard: str) -> Iterator[Row]:
        if "image" not in files:
            return
        try:
            label = int(json.loads(files["json"])[self._label] if self._label else files["cls"])
            problem = ""
        except (KeyError, ValueError, TypeError):
            label, problem = 0, f"it has no label {f'{self._label!r} in its .json' if self._label else 'in a .cls'}"
        read = partial(_decoded, files["image"], problem, self._max_pixels)
        yield Row(read, f"{shard}/{files['name']!s}", label)


class _Address:
    """Where shards are: a folder, an http address, or, if allowed, what webdataset fetches with a program."""

    def __init__(self, root: str, *, allow_pipes: bool) -> None:
        self._place = root.removeprefix("wds/").removeprefix("file://")
        self._folder = Path(self._place).expanduser().absolute()
        found = None if self._folder.is_dir() else re.match(r"([A-Za-z][\w+.-]+):", self._place)
        self._scheme = found[1].lower() if found else ""
        if self._scheme not in ("", "http", "https") and not allow_pipes:
            raise ValueError(
                f"{root!r} is refused: to read from {self._scheme}: runs a command on this machine. Give wds/FOLDER or "
                "wds/http..., or, if the command is your own, set data.allow_pipes=True (--data.allow-pipes)."
            )
        if not self._scheme and not self._folder.is_dir():
            raise FileNotFoundError(
                f"there are no shards at {root!r}: {str(self._folder)!r} is no folder. Give wds/FOLDER, or wds/URL, "
                "where the shards and their _info.json are."
            )

    def open(self, name: str) -> BinaryIO:
        if not self._scheme:
            return open(self._folder / name, "rb")
        place = f"{self._place.rstrip('/')}/"
        if self._scheme in ("http", "https"):
            return urlopen(place + quote(name), timeout=_SECONDS)
        from webdataset.gopen import gopen

        return gopen(place + (shlex.quote(name) if self._scheme == "pipe" else name))

    def may_have(self, name: str) -> bool:
        return bool(self._scheme) or (self._folder / name).is_file()


def _info(address: _Address) -> tuple[dict[str, Any], str]:
    """Return what the file beside the shards says, and, when there is none, why."""
    why = ""
    for name in _INFO:
        try:
            with address.open(name) as file:
                info = json.loads(file.read(2**28))
            if not isinstance(info, dict) or not isinstance(info.get("splits", {}), dict):
                raise ValueError("it is no description of splits")
            return info, ""
        except OSError as error:
            why = why or f"{name}: {reason(error)}"
        except ValueError as error:
            raise ValueError(f"the {name} beside the shards is damaged: {error}. Copy or write it again.") from error
    return {}, why


def _split(split: str, info: dict[str, Any], root: str, option: str, why: str) -> _Described:
    """Return the split of that name, or the shards that it spells out: `train-{000..009}.tar|2000`."""
    described = (
        "A stream must know its length before it starts: describe the split in _info.json beside the shards, "
        'as {"splits": {"NAME": {"name": "NAME", "num_samples": 2000, "filenames": ["0.tar", "1.tar"], '
        f'"shard_lengths": [1000, 1000]}}}}}}, or set {option} to shards and their number of '
        "images, as `train-{000..009}.tar|2000`."
    )
    splits = {name: _described(plain, name) for name, plain in info.get("splits", {}).items()}
    if split not in splits and "tar" not in split and ".." not in split:
        there = ", ".join(map(repr, splits)) or why or "none"
        raise ValueError(f"cannot stream {root!r}: split {split} not found (there: {there}). {described}")
    found = splits.get(split) or _spelt_out(split, splits, option)
    if found.num_samples <= 0 or not found.filenames:
        raise ValueError(f"cannot stream {root!r}: the split {split!r} has no length. {described}")
    return found


def _described(plain: Any, name: str) -> _Described:
    known = [field.name for field in fields(_Described)]
    kept = {key: plain[key] for key in known if key in plain} if isinstance(plain, dict) else plain
    found = from_plain(_Described, kept, f"the split {name!r} of _info.json")
    for shard in found.filenames:
        if not _PLAIN.fullmatch(shard) or ".." in shard.split("/"):
            raise ValueError(
                f"_info.json names the shard {shard!r}. That is no plain name of a file below the shards' folder, and "
                "nothing else is opened because a file says so. Correct the file."
            )
    return found


def _spelt_out(split: str, described: dict[str, _Described], option: str) -> _Described:
    from webdataset.shardlists import expand_urls

    shards, bar, count = split.rpartition("|") if "|" in split else (split, "", "0")
    try:
        names, images = tuple(expand_urls(shards)), int(count)
    except (AssertionError, ValueError) as error:  # an unknown ${variable}, unbalanced braces
        raise ValueError(f"cannot read {option}={split!r} as SHARDS|NUMBER: {error}.") from error
    every = described.values()
    lengths = {name: n for one in every for name, n in zip(one.filenames, one.shard_lengths, strict=False)}
    if not bar and all(name in lengths for name in names):
        images = sum(lengths[name] for name in names)
    return _Described(names, images, tuple(lengths.get(name, 0) for name in names))


def _decoded(content: bytes | str, problem: str, max_pixels: int, mode: str) -> Image.Image:
    if problem or isinstance(content, str):  # why it was not read
        raise ValueError(problem or content)
    return decode(BytesIO(content), mode, max_pixels)
