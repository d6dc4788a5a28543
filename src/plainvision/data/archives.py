"""Files in a folder, a .zip or a .tar: listed and read, and never unpacked to disk.

Names inside an archive are labels: `./a`, `/a` and `../a` are all `a`, and the last member of that name counts.
Links are listed here and followed by `class_folders`.
"""

import abc
import contextlib
import difflib
import os
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from plainvision.data.decoding import check_bytes, looks_like_image

# What systems and programs leave in folders; those whose names begin with a dot are passed over too.
_CLUTTER = {
    *("#recycle", "#snapshot", "$RECYCLE.BIN", "@eaDir", "@Recently-Snapshot", "@Recycle", "@tmp", "__MACOSX"),
    *("__pycache__", "lost+found", "System Volume Information", "Thumbs.db"),
}


@dataclass
class Listing:
    """The images and folders of a store. Paths are relative to it and written with `/`; "" is the top."""

    files: set[str] = field(default_factory=set)
    """What looks like an image."""
    folders: set[str] = field(default_factory=lambda: {""})
    """Every folder, since an empty class folder must be noticed."""
    links: dict[str, str | None] = field(default_factory=dict)
    """Links to files and folders, and where in the store they lead; None is nowhere, or to what holds the link."""
    left_out: dict[str, str] = field(default_factory=dict)
    """What looks like an image and is none, and why."""
    others: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many other files there are, by their folder and the ending of their names."""

    def add(self, path: str, *, is_folder: bool = False) -> None:
        """Add a file or a folder with the folders that hold it, where it counts."""
        if not is_visible(path):
            return
        self.links.pop(path, None)
        if not is_folder and looks_like_image(path):
            self._tell_twice(path)
            self.files.add(path)
        elif not is_folder:
            self.add_other(path)
        folder = path if is_folder else posixpath.dirname(path)
        while folder not in self.folders:
            self.folders.add(folder)
            folder = posixpath.dirname(folder)

    def add_link(self, path: str, target: str | None) -> None:
        """Add a link; ``target`` is written in full."""
        if is_visible(path):
            self._tell_twice(path)
            self.files.discard(path)
            self.links[path] = target

    def add_other(self, path: str) -> None:
        """Count a file that does not look like an image."""
        folder, name = posixpath.split(path)
        self.others[folder, posixpath.splitext(name)[1].lower()] += 1

    def _tell_twice(self, path: str) -> None:
        if path in self.files:
            self.left_out[path] = "the archive has this name twice, and the last is read"


class Store(abc.ABC):
    """A folder or an archive; ``listing`` has its images and folders."""

    def __init__(self) -> None:
        self.listing = Listing()

    @abc.abstractmethod
    def open(self, path: str, max_pixels: int) -> BinaryIO:
        """Return the file at ``path``, to be closed by the caller, if an image of ``max_pixels`` can be so long."""

    def name(self, path: str) -> str:
        """Return what the file is called in messages: its path inside the archive."""
        return path


class FolderStore(Store):
    """A folder on disk."""

    def __init__(self, root: Path, below: str = "") -> None:
        super().__init__()
        self._root = root
        self._name = root.resolve().name
        self._walk(below)

    def _walk(self, below: str) -> None:
        """List the folder ``below``; links to folders elsewhere are followed, since many data sets are made of them."""
        self.listing.add(below, is_folder=True)
        walked = {os.path.realpath(self._root / below): below}  # each real folder is walked once
        to_do = [below]
        while to_do:
            folder = to_do.pop()
            with os.scandir(self._root / folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
            for entry in found:
                path = posixpath.join(folder, entry.name)
                is_link = entry.is_symlink()
                is_folder = os.path.isdir(entry.path) if is_link else entry.is_dir()
                leads_nowhere = is_link and not os.path.exists(entry.path)
                if not is_visible(entry.name):
                    continue
                if not (is_folder or leads_nowhere or looks_like_image(path)):
                    self.listing.add_other(path)
                    continue
                if is_link:
                    real = os.path.realpath(entry.path)
                    inside = _inside(real, walked)
                    leads_back = is_folder and any(other.startswith(os.path.join(real, "")) for other in walked)
                    if inside is not None or leads_back or leads_nowhere:
                        self.listing.links[path] = inside
                        continue
                    walked |= {real: path} if is_folder else {}
                if is_folder:
                    to_do.append(path)
                    self.listing.folders.add(path)
                elif not (entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path)):
                    self.listing.left_out[path] = "is no file"  # a named pipe, for instance, which would wait for ever
                else:
                    self.listing.files.add(path)

    def open(self, path: str, max_pixels: int) -> BinaryIO:
        return open(self._root / path, "rb")

    def name(self, path: str) -> str:
        return f"{self._name}/{path}"  # as inside an archive of the folder


class ZipStore(Store):
    """A .zip: its directory is read once, and each image by its offset."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = _PackedFile(path)
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise ValueError(f"cannot read {path}: {error}. Download or pack the archive again.") from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            name = _label(_decoded(member).replace("\\", "/"))
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
                raise ValueError(
                    f"cannot read {name!r} in {path}: it is encrypted, or packed in another way than `zip` "
                    "does. Pack the archive again, without a password and with the usual compression."
                )
            self._members[name] = member
            if stat.S_ISLNK(member.external_attr >> 16):
                target = None
                with contextlib.suppress(ValueError, struct.error, zlib.error):  # damaged
                    target = _target(name, self.open(name, 1).read().decode(errors="replace"))
                self.listing.add_link(name, target)
            else:
                self.listing.add(name, is_folder=_decoded(member).endswith(("/", "\\")))

    def open(self, path: str, max_pixels: int) -> BinaryIO:
        # ZipFile would read the directory again in each process: seconds, for a million images.
        member = self._members[path]
        check_bytes(max(member.file_size, member.compress_size), max_pixels)
        header = self._file.read(member.header_offset, 30)
        start = member.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))  # behind its name and extras
        content = self._file.read(start, member.compress_size)
        if member.compress_type == zipfile.ZIP_DEFLATED:
            # One byte more than the directory says: it may say less than there is.
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, member.file_size + 1)
        if len(content) != member.file_size or zlib.crc32(content) != member.CRC:
            raise ValueError("damaged inside the archive: its checksum is wrong")
        return BytesIO(content)


class TarStore(Store):
    """An uncompressed .tar: its index is read once, and each image by its offset."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = _PackedFile(path)
        self._where: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(path, "r:", tarinfo=StrictTarInfo) as archive:
                for member in archive:
                    self._add(member)
        except tarfile.TarError as error:
            raise ValueError(
                f"cannot read {path} as a plain .tar: {error}. A compressed tar cannot be read at random. Decompress "
                "it, or pack the folder as a .zip; copy or pack a damaged one again."
            ) from error

    def _add(self, member: tarfile.TarInfo) -> None:
        name = _label(member.name)
        linked = self._where.get(_label(member.linkname)) if member.islnk() else None
        if member.isdir():
            self.listing.add(name, is_folder=True)
        elif member.issym():
            self.listing.add_link(name, _target(name, member.linkname))
        elif linked or (member.isreg() and not member.issparse()):
            # tar writes the second name of one file as a link to the first.
            self._where[name] = linked or (member.offset_data, member.size)
            self.listing.add(name)
        elif looks_like_image(name):
            self.listing.left_out[name] = "is no file inside the archive"

    def open(self, path: str, max_pixels: int) -> BinaryIO:
        offset, size = self._where[path]
        check_bytes(size, max_pixels)
        return BytesIO(self._file.read(offset, size))


class StrictTarInfo(tarfile.TarInfo):
    """A member's header; one that is damaged, or missing before the archive's end mark, is an error.

    Left to itself, tarfile takes either for the end of the archive.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "StrictTarInfo":
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if isinstance(error, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
                raise
            before = archive.members  # type: ignore[attr-defined]
            behind = f"behind its member {before[-1].name!r}" if before else "at its beginning"
            raise tarfile.ReadError(f"it is cut off or damaged {behind} ({error})") from error


class _PackedFile:
    """An archive's file, opened by each process when it first reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._owner = 0

    def read(self, offset: int, size: int) -> bytes:
        # A forked worker inherits its parent's handle, and with it the parent's position in the file.
        if self._file is None or self._owner != os.getpid():
            self.close()
            self._file, self._owner = self._path.open("rb"), os.getpid()
        self._file.seek(offset)
        return self._file.read(size)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None}  # a spawned worker opens its own

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __del__(self) -> None:
        self.close()


def open_store(root: str, split: str) -> Store:
    """Return the store at ``root``; of a folder that holds ``split``, which may be large, that alone is listed.

    Raises:
        FileNotFoundError: there is nothing at ``root``.
        ValueError: it is neither a folder nor an archive that can be read at random.
    """
    path = Path(root).expanduser().absolute()
    if not path.exists():
        siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, filter(is_visible, siblings))
        close = [str(path.parent / name) for name in near] + difflib.get_close_matches(root, ["digits"])
        hint = f"Did you mean {' or '.join(close)}?" if close else "Check data.root and data.validation_root."
        looked = "" if root == str(path) else f" at {path}"
        raise FileNotFoundError(f"there are no images at {root!r}: no such folder or archive{looked}. {hint}")
    if path.is_dir():
        return FolderStore(path, split if (path / split).is_dir() else "")
    endings = [ending.lower() for ending in path.suffixes]
    if endings[-1:] == [".zip"]:
        return ZipStore(path)
    if {".tar", ".tgz", ".txz", ".tbz2"} & set(endings):  # one that is compressed is told so
        return TarStore(path)
    raise ValueError(f"{root!r} is a file, but neither a .zip nor a .tar. Give one of these, or a folder.")


def is_visible(path: str) -> bool:
    """Return whether neither the file nor a folder that holds it is hidden or a system's clutter."""
    return not any(part.startswith(".") or part in _CLUTTER for part in path.split("/"))


def _label(name: str) -> str:
    """Return a member's name as a plain path."""
    return posixpath.normpath(f"/{name}").strip("/")


def _target(link: str, target: str) -> str | None:
    """Return where in the archive a link leads, None when out of it."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(link), target))
    return None if path.startswith(("/", "..")) else "" if path == "." else path


def _decoded(member: zipfile.ZipInfo) -> str:
    """Return a member's name; some programs write UTF-8 without saying so."""
    try:
        return member.orig_filename if member.flag_bits & 0x800 else member.orig_filename.encode("cp437").decode()
    except UnicodeError:
        return member.orig_filename


def _inside(real: str, walked: dict[str, str]) -> str | None:
    """Return the path in the store of a real path, None when it is outside."""
    for parent in (real, *map(str, Path(real).parents)):
        if parent in walked:
            return posixpath.join(walked[parent], real[len(parent) :].strip("/")).rstrip("/")
    return None


def names_of(items: Iterable[str], most: int = 8) -> str:
    """Return the first of some names, quoted, and how many more there are."""
    names = list(items)
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
