"""Class folders, on disk or packed: SPLIT/CLASS/image.jpg in a folder, a .zip or a .tar."""

import abc
import difflib
import os
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

EXTENSIONS = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)


@dataclass(frozen=True)
class Listing:
    """The images in a store, and every folder, since an empty class folder must be noticed; "" is the top."""

    files: tuple[str, ...]
    folders: frozenset[str]


class Store(abc.ABC):
    """Where files lie: paths are relative to the store and written with `/`."""

    @abc.abstractmethod
    def listing(self) -> Listing:
        """Return every image and every folder."""

    @abc.abstractmethod
    def open(self, path: str) -> BinaryIO:
        """Return the file at ``path``, to be closed by the caller."""

    @abc.abstractmethod
    def name(self, path: str) -> str:
        """Return what the file is called in messages."""


class FolderStore(Store):
    """A folder on disk."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def listing(self) -> Listing:
        """Walk the folder, following links, since many data sets are made of them."""
        files: list[str] = []
        folders: list[str] = []
        for where, below, here in os.walk(self._root, followlinks=True):
            below[:] = [name for name in below if not name.startswith(".")]
            inside = os.path.relpath(where, self._root).replace(os.sep, "/")
            prefix = "" if inside == "." else f"{inside}/"
            folders += [prefix + name for name in below]
            files += [prefix + name for name in here]
        return _listing(files, folders)

    def open(self, path: str) -> BinaryIO:
        """Open the file on disk."""
        return open(self._root / path, "rb")

    def name(self, path: str) -> str:
        """Return the path with the folder's own name, so that a folder and its archive agree."""
        return f"{self._root.resolve().name}/{path}"


class ZipStore(Store):
    """A .zip: its directory is read once, and each image by its offset."""

    def __init__(self, path: Path) -> None:
        self._file = _PackedFile(path)
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except zipfile.BadZipFile as error:
            raise ValueError(f"cannot read {path}: {error}. Download or pack the archive again.") from error
        self._members = {member.filename: member for member in members}
        for name, member in self._members.items():
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
                raise ValueError(
                    f"cannot read {name!r} in {path}: it is encrypted, or packed in another way than `zip` "
                    "does. Pack the archive again, without a password and with the usual compression."
                )

    def listing(self) -> Listing:
        """Return what the archive's directory lists."""
        folders = [name.rstrip("/") for name in self._members if name.endswith("/")]
        return _listing([name for name in self._members if not name.endswith("/")], folders)

    def open(self, path: str) -> BinaryIO:
        """Read one member into memory."""
        # ZipFile would read the directory again in each process: seconds, for a million images.
        member = self._members[path]
        header = self._file.read(member.header_offset, 30)
        start = member.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))  # behind its name and extras
        content = self._file.read(start, member.compress_size)
        if member.compress_type == zipfile.ZIP_DEFLATED:
            content = zlib.decompress(content, wbits=-zlib.MAX_WBITS)
        if zlib.crc32(content) != member.CRC:
            raise ValueError("damaged inside the archive: its checksum is wrong")
        return BytesIO(content)

    def name(self, path: str) -> str:
        """Return the path inside the archive."""
        return path


class TarStore(Store):
    """An uncompressed .tar: its index is read once, and each image by its offset."""

    def __init__(self, path: Path) -> None:
        self._file = _PackedFile(path)
        self._where: dict[str, tuple[int, int]] = {}
        self._folders: list[str] = []
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    name = str(PurePosixPath(member.name))  # drops the leading ./ that `tar -C folder .` writes
                    if member.isdir():
                        self._folders.append(name)
                    elif member.islnk():  # tar writes the second name of one file as a link to the first
                        self._where[name] = self._where[str(PurePosixPath(member.linkname))]
                    elif member.isreg():
                        self._where[name] = (member.offset_data, member.size)
        except (tarfile.ReadError, KeyError) as error:
            raise ValueError(
                f"cannot read {path} as a plain .tar: {error}. A compressed tar cannot be read at random: "
                "decompress it, or pack the folder as a .zip."
            ) from error

    def listing(self) -> Listing:
        """Return what the index lists."""
        return _listing(list(self._where), self._folders)

    def open(self, path: str) -> BinaryIO:
        """Read one member into memory."""
        return BytesIO(self._file.read(*self._where[path]))

    def name(self, path: str) -> str:
        """Return the path inside the archive."""
        return path


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


def open_store(root: str, split: str) -> tuple[Store, Listing]:
    """Return the store at ``root`` and what it holds.

    A folder that holds ``split`` is listed no further than that: a data set may have a million images
    elsewhere.

    Raises:
        FileNotFoundError: there is nothing at ``root``.
        ValueError: it is neither a folder nor an archive that can be read at random.
    """
    path = Path(root).expanduser()
    if not path.exists():
        siblings = (
            [other.name for other in path.parent.iterdir() if _visible(other.name)] if path.parent.is_dir() else []
        )
        close = [str(path.parent / name) for name in difflib.get_close_matches(path.name, siblings)]
        close += difflib.get_close_matches(root, ["digits"])
        hint = f"Did you mean {' or '.join(close)}?" if close else "Check data.root and data.validation_root."
        raise FileNotFoundError(f"there are no images at {root!r}: no such folder or archive. {hint}")
    if path.is_dir():
        store: Store = FolderStore(path)
        if (path / split).is_dir():
            inside = FolderStore(path / split).listing()
            return store, Listing(
                tuple(f"{split}/{file}" for file in inside.files),
                frozenset(f"{split}/{folder}" if folder else split for folder in inside.folders),
            )
        return store, store.listing()
    name = path.name.lower()
    if name.endswith((".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar.zst")):
        raise ValueError(
            f"cannot train from {root!r}: a compressed tar cannot be read at random. Decompress it to a "
            ".tar, or pack the folder as a .zip."
        )
    if not name.endswith((".zip", ".tar")):
        raise ValueError(f"{root!r} is a file, but neither a .zip nor a .tar. Give one of these, or a folder.")
    store = ZipStore(path) if name.endswith(".zip") else TarStore(path)
    return store, store.listing()


def find_classes(listing: Listing, split: str, *, where: str, option: str, plain: bool) -> dict[str, list[str]]:
    """Return the images of each class of ``split``, sorted: {class: paths}.

    The folder called ``split`` may lie at any depth. Where there is none and ``plain`` allows it, the class
    folders are those at the top, or below the one folder that wraps them all.

    Raises:
        ValueError: no such split, two of them, no class folders in it, or a class folder without images.
    """
    base = _split_folder(listing, split, where)
    if base is None:
        base = _plain_folder(listing)
        looks_plain = base is not None
        if base is None or not plain:
            raise ValueError(_missing_split(listing, split, where, option, looks_plain))
    prefix = f"{base}/" if base else ""
    classes: dict[str, list[str]] = {
        folder.removeprefix(prefix): []
        for folder in listing.folders
        if folder.startswith(prefix) and folder != base and "/" not in folder.removeprefix(prefix)
    }
    for path in listing.files:
        top, slash, _ = path.removeprefix(prefix).partition("/")
        if slash and path.startswith(prefix):  # a picture beside the class folders belongs to no class
            classes[top].append(path)
    if not any(classes.values()):
        raise ValueError(
            f"{where}: found no class folders with images in {base or 'it'!r}. Put the images in one folder "
            f"per class, as {prefix}CLASS/image.jpg; these count: {', '.join(EXTENSIONS)}."
        )
    empty = sorted(name for name, paths in classes.items() if not paths)
    if empty:
        raise ValueError(
            f"{where}: {_some(empty)} in {base or 'it'!r} should hold the images of a class and holds none. "
            f"Remove the folder or fill it; these count as images: {', '.join(EXTENSIONS)}."
        )
    return {name: sorted(classes[name]) for name in sorted(classes)}


def has_folder(listing: Listing, name: str) -> bool:
    """Return whether a folder of this name lies anywhere in the store."""
    return any(folder.rsplit("/", 1)[-1] == name for folder in listing.folders)


def _split_folder(listing: Listing, split: str, where: str) -> str | None:
    found = sorted(folder for folder in listing.folders if folder.rsplit("/", 1)[-1] == split)
    if not found:
        return None
    # The topmost wins: below it, a class may have the same name as the split.
    depth = min(folder.count("/") for folder in found)
    top = [folder for folder in found if folder.count("/") == depth]
    if len(top) > 1:
        raise ValueError(
            f"{where} holds several folders called {split!r}: {_some(top)}. Give a root that holds one of them."
        )
    return top[0]


def _plain_folder(listing: Listing) -> str | None:
    """Return the folder whose folders hold images themselves, if the store has that form."""
    holds_images = {path.rpartition("/")[0] for path in listing.files}
    children: dict[str, list[str]] = {}
    for folder in listing.folders - {""}:
        children.setdefault(folder.rpartition("/")[0], []).append(folder)
    base = ""
    while base not in holds_images and len(children.get(base, ())) == 1 and children.get(children[base][0]):
        base = children[base][0]
    # Images further down mean that these are splits, or groups of classes, and not classes.
    deeper = any(child not in holds_images and child in children for child in children.get(base, ()))
    return base if base in children and not deeper else None


def _missing_split(listing: Listing, split: str, where: str, option: str, looks_plain: bool) -> str:
    # The folders closest to the top say most about what the root is.
    folders = sorted(listing.folders - {""}, key=lambda folder: (folder.count("/"), folder))
    there = f"the folders there are {_some(folders)}" if folders else "there are no folders in it"
    text = f"{where} has no folder called {split!r}; {there}. Name the right one in {option}"
    if looks_plain:
        return f"{text}; to take these for classes, say in data.validation_root where the validation images are."
    return f"{text}, or put the images in {split}/CLASS/."


def _some(names: list[str], most: int = 8) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _listing(files: list[str], folders: list[str]) -> Listing:
    """Keep what counts: images, and folders that are not hidden, the parents of files included."""
    kept = tuple(sorted(path for path in files if _visible(path) and _extension(path) in EXTENSIONS))
    every = {"", *(folder for folder in folders if _visible(folder))}
    for path in {path.rpartition("/")[0] for path in [*files, *folders] if _visible(path)}:
        every.update(parent for parent in (path, *map(str, PurePosixPath(path).parents)) if parent != ".")
    return Listing(kept, frozenset(every))


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _visible(path: str) -> bool:
    return not path.startswith(".") and "/." not in path and "__MACOSX" not in path.split("/")
