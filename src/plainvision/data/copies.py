"""Copies of photographs, in a folder for each class. Names of strangers become names of files, and nothing else."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

# Separators of any system, what else Windows refuses, and what a terminal obeys.
_REFUSED = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|]')
_LONGEST = 200  # bytes of a name; systems allow 255, and a number may follow
_CHUNK = 2**20


def file_name(text: str) -> str:
    """Return ``text`` as the name of a file or a folder: no separator, no dot at its beginning, not too long."""
    text = _REFUSED.sub("_", text.encode("utf-8", "backslashreplace").decode())
    stem, dot, ending = text.rpartition(".")
    stem, ending = (stem, dot + ending) if stem and len(ending.encode()) < 16 else (text, "")
    stem = stem.encode()[:_LONGEST].decode(errors="ignore")
    name = re.sub(r"^[.\s]", "_", stem.rstrip(" .") + ending.rstrip(" ."))
    return name or "_"


def folder_names(classes: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return the name of a folder for each class; classes whose names become the same one get numbers.

    ``taken`` are names of other folders.
    """
    used = {name.casefold() for name in taken}  # some systems do not tell large letters from small ones
    names = {}
    for one in classes:
        name, number = file_name(one), 1
        while (numbered := name if number == 1 else f"{name}_{number}").casefold() in used:
            number += 1
        used.add(numbered.casefold())
        names[one] = numbered
    return names


class Copies:
    """Photographs copied below ``root``.

    No file is overwritten: another one of the same name leaves the copy a number, as `shoe_2.jpg`. A file with the same
    content, as an earlier call wrote it, is that copy already.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._numbers: dict[str, int] = {}  # the last of each name that is there twice

    def add(self, source: BinaryIO, folder: str, name: str) -> Path:
        """Copy a file, which is closed, into a folder and return where it is; both are names, and no paths.

        Raises:
            OSError: it cannot be read, or the copy cannot be written.
        """
        place = self.root / file_name(folder)
        stem, ending = os.path.splitext(file_name(name))
        key = f"{place}/{stem}{ending}".casefold()
        with source:
            try:
                place.mkdir(parents=True, exist_ok=True)
                number = self._numbers.get(key, 0)
                while True:
                    number += 1
                    if number > 1:
                        self._numbers[key] = number
                    copy = place / (f"{stem}{ending}" if number == 1 else f"{stem}_{number}{ending}")
                    source.seek(0)
                    if _written(source, copy):
                        return copy
            except OSError as error:
                why = error.strerror or error
                raise OSError(
                    f"cannot copy {name} into {place}: {why}. Make room, or give another folder; those that are "
                    "copied stay, and are not copied again."
                ) from error


def _written(source: BinaryIO, copy: Path) -> bool:
    """Return whether ``copy`` now has the content of ``source``; a file that is there stays."""
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
