"""Copies of photographs, in a folder for each class. Names of strangers become names of files, and nothing else."""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

# Separators of any system, what else Windows refuses, and control characters.
_REFUSED = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|]')
_LONGEST, _LONGEST_ENDING = 200, 16  # bytes of a name; systems allow 255, and a number may follow
_CHUNK = 2**20


def file_name(text: str) -> str:
    """Return ``text`` as the name of a file or a folder: no separator, no dot at its beginning, not too long."""
    text = _REFUSED.sub("_", text.encode("utf-8", "backslashreplace").decode()).rstrip(" .")
    stem, ending = os.path.splitext(text)
    if len(ending.encode()) > _LONGEST_ENDING:
        stem, ending = text, ""
    name = re.sub(r"^[.\s]", "_", stem.encode()[:_LONGEST].decode(errors="ignore") + ending)
    return name or "_"


def folder_names(classes: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return the name of a folder for each class; classes whose names become the same one get numbers.

    ``taken`` are names of other folders.
    """
    used = {name.casefold() for name in taken}  # some systems do not tell large letters from small ones
    names, last = {}, dict.fromkeys(used, 1)
    for one in dict.fromkeys(classes):
        names[one] = name = file_name(one)
        while names[one].casefold() in used:
            last[name.casefold()] += 1
            names[one] = f"{name}_{last[name.casefold()]}"
        used.add(names[one].casefold())
        last.setdefault(names[one].casefold(), 1)
    return names


class Copies:
    """Photographs copied below ``root``.

    No file is overwritten: another one of the same name leaves the copy a number, as `shoe_2.jpg`. A file of the same
    name and the same content is the copy already, of this call or of an earlier one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # Of each name that is there with other content: the numbers of its copies by their hash, the largest last.
        self._numbers: dict[str, dict[bytes, int]] = {}

    def add(self, source: BinaryIO, folder: str, name: str) -> Path:
        """Copy a file, which is closed, into a folder and return where it is; both are names, and no paths.

        Raises:
            OSError: it cannot be read, or the copy cannot be written.
        """
        place = self.root / file_name(folder)
        with source:
            try:
                place.mkdir(parents=True, exist_ok=True)
                copy = place / file_name(name)
                return copy if _written(source, copy) else self._numbered(source, copy)
            except OSError as error:
                why = error.strerror or error
                raise OSError(
                    f"cannot copy {name} into {place}: {why}. Make room, or give another folder; those that are "
                    "copied stay, and are not copied again."
                ) from error

    def _numbered(self, source: BinaryIO, taken: Path) -> Path:
        known = self._numbers.setdefault(str(taken).casefold(), {})
        source.seek(0)
        sha256 = hashlib.sha256()
        while part := source.read(_CHUNK):
            sha256.update(part)
        digest = sha256.digest()
        number = known.get(digest)
        if number is None:
            number = next(reversed(known.values()), 1) + 1
            while not _written(source, _with(taken, number)):
                number += 1
            known[digest] = number
        return _with(taken, number)


def _with(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}_{number}{path.suffix}")


def _written(source: BinaryIO, copy: Path) -> bool:
    """Return whether ``copy`` now has the content of ``source``; a file that is there stays."""
    source.seek(0)
    try:
        target = copy.open("xb")
    except FileExistsError:
        return _same(source, copy)
    try:
        with target:
            shutil.copyfileobj(source, target, _CHUNK)
    except BaseException:
        with contextlib.suppress(OSError):
            copy.unlink()
        raise
    return True


def _same(source: BinaryIO, copy: Path) -> bool:
    if not copy.is_file():
        return False
    with copy.open("rb") as other:
        while part := source.read(_CHUNK):
            if part != other.read(len(part)):
                return False
        return not other.read(1)
