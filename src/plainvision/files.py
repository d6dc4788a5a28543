"""Files that are written whole or not at all, JSON, and folders that one process uses at a time."""

import contextlib
import csv
import difflib
import io
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError

_UNFINISHED = ".unfinished"
_LOCKS: set[int] = set()


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write ``path`` by ``write``, which gets a path beside it: a kill meanwhile leaves the old file.

    A link stays a link, and its target is replaced. A device or a pipe, `/dev/stdout` for instance, is written to.

    Raises:
        OSError: the place cannot be written, or the disk is full; an old file is still there, whole.
    """
    try:
        place = _behind_links(Path(path))
        if place.exists() and (_is_open_file(place) or not place.is_file()):
            with tempfile.TemporaryDirectory() as folder:  # writers may seek, and choose a format by the name's ending
                made = Path(folder) / (Path(path).name or "made")
                write(made)
                with made.open("rb") as source, _opened(place) as node:
                    shutil.copyfileobj(source, node)
        else:
            _replace(place, write)
    except (OSError, RuntimeError, SafetensorError) as error:  # RuntimeError is torch's word for a full disk
        why = getattr(error, "strerror", None) or str(error)
        raise OSError(
            f"cannot write {path}: {why}. What was there before is still there, whole. Make room, or give a place that "
            "can be written."
        ) from error


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as JSON by `write_whole`.

    Raises:
        ValueError: it holds NaN or an infinity, which JSON has no word for.
    """
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_object(path: str | Path) -> dict[str, Any]:
    """Return the JSON object in a file, as `object_of` does."""
    return object_of(Path(path).read_bytes(), str(path))


def object_of(text: str | bytes, name: str) -> dict[str, Any]:
    """Return the JSON object in a text, as `plain_object` does; ``name`` begins its error."""
    try:
        return plain_object(text)
    except ValueError as error:
        raise ValueError(f"{name} is damaged: {error}. Copy it again, or make it anew.") from error


def plain_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object in a text, whose numbers are finite.

    Raises:
        ValueError: it is damaged, or is something else.
    """

    def refused(word: str) -> None:
        raise ValueError(f"{word} is no number")

    try:
        found = json.loads(text, parse_constant=refused)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not whole JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError("it holds JSON, but no object")
    return found


def write_csv(path: str | Path, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table that spreadsheets read, by `write_whole`."""
    text = io.StringIO()
    csv.writer(text).writerows([heads, *rows])
    write_text(path, text.getvalue())


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 by `write_whole`; surrogates, as in some files' names, become escapes."""
    write_whole(path, lambda file: file.write_bytes(text.encode("utf-8", "backslashreplace")))


def nearby(path: Path) -> str:
    """Return the names beside ``path`` that are like its own, as words behind the message that it is not there."""
    folder = path.parent if path.parent.is_dir() else Path()
    near = difflib.get_close_matches(path.name, [item.name for item in folder.iterdir()], n=3)
    return f" Nearby: {', '.join(near)}." if near else ""


def remove_unfinished(folder: Path) -> None:
    """Remove the unfinished files that killed processes left in ``folder``."""
    for beside in filter(is_unfinished, folder.iterdir()):
        shutil.rmtree(beside, ignore_errors=True)


def is_unfinished(path: Path) -> bool:
    """Return whether ``path`` is an unfinished file that a killed process left."""
    return path.name.startswith(".") and path.name.endswith(_UNFINISHED)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock ``folder`` against other processes, and remove the unfinished files in it; the lock ends with the process.

    Raises:
        ValueError: another process has locked it.
        OSError: there is no such folder.
    """
    try:
        import fcntl
    except ImportError:
        warnings.warn(f"this system has no locks: start nothing else in {folder} meanwhile.", stacklevel=3)
        yield
        return
    # The lock is the folder's own, so that nothing is left in it.
    place = os.open(folder, os.O_RDONLY)
    _LOCKS.add(place)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{folder} is in use by another process. Wait until that ends, or give another folder."
            ) from error
        except OSError as error:
            warnings.warn(
                f"{folder} cannot be locked ({error.strerror}): start nothing else in it meanwhile.", stacklevel=3
            )
        remove_unfinished(folder)
        yield
    finally:
        if place in _LOCKS:
            _LOCKS.discard(place)
            os.close(place)


def _open_inherited() -> None:
    # A lock lasts as long as any process has it open: those that read images may outlive the one that took it.
    while _LOCKS:
        os.close(_LOCKS.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_inherited)


def _replace(place: Path, write: Callable[[Path], object]) -> None:
    # In a folder of its own the file has its own name, which some writers write down or choose a format by.
    beside = Path(tempfile.mkdtemp(prefix=".", suffix=_UNFINISHED, dir=place.parent))
    try:
        unfinished = beside / place.name
        write(unfinished)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)  # there is no other way to read it
        os.umask(mask)
        unfinished.chmod(0o666 & ~mask)  # safetensors lets only the owner read what it writes
        unfinished.replace(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    if os.name == "posix":  # else a power cut may undo the replacing
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _behind_links(path: Path) -> Path:
    with contextlib.suppress(FileNotFoundError):
        path.stat()  # raises for a circle of links
    while path.is_symlink() and not _is_open_file(path):
        path = path.parent / path.readlink()
    return path


def _is_open_file(path: Path) -> bool:
    # The links in /proc/PID/fd are no places, but names of what a process has open: `/dev/stdout` leads there.
    return path.parent.resolve() == Path(f"/proc/{os.getpid()}/fd")


def _opened(node: Path) -> BinaryIO:
    if _is_open_file(node):
        sys.stdout.flush()  # what was printed before comes before
        return os.fdopen(os.dup(int(node.name)), "wb")
    return node.open("ab")
