"""Read files of weights without running code in them, and write ours with a checksum."""

import argparse
import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from plainvision.files import write_whole

_CHECKSUM = "sha256"
_COPY = "Copy or download it again."
# How files begin that are found under the name of weights, in lower case.
_OTHERS: dict[bytes | tuple[bytes, ...], str] = {
    b"version https://git-lfs": "the pointer of a file in Git LFS, not the file. Fetch it with `git lfs pull`",
    (b"<!doctype", b"<html"): "a web page, not weights. Download the file that the page is about",
    b"<?xml": "an XML document, not weights. Look at it: it may say what went wrong when it was downloaded",
    b"{": "JSON text, not weights. Look at it: it may say what went wrong when it was downloaded",
    b"\x1f\x8b": "packed with gzip. Unpack it first",
}


def save_tensors(path: Path, tensors: Mapping[str, Tensor], words: Mapping[str, str]) -> None:
    """Write tensors as safetensors, whole or not at all, with ``words`` and a checksum of everything in the header."""
    # Each tensor is a copy, because safetensors refuses those that layers share.
    plain = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    written = save(plain, metadata={**words, _CHECKSUM: _digest(plain, words)})
    # safetensors writes its words in any order: sorted, the same weights make the same file.
    end = 8 + int.from_bytes(written[:8], "little")
    header = json.loads(written[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write_whole(path, lambda file: file.write_bytes(len(text).to_bytes(8, "little") + text + written[end:]))


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a safetensors file's tensors and its header's words; a ValueError where it is damaged.

    A checksum in the header, as ours have, is compared.
    """
    try:
        with safe_open(path, "pt") as file:
            words = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no dict
    except Exception as error:  # what a damaged header makes the reader raise has no end
        raise ValueError(f"{path} is not a whole safetensors file ({_first_line(error)}). {_COPY}") from error
    checksum = words.pop(_CHECKSUM, None)
    if checksum is not None and checksum != _digest(tensors, words):
        raise ValueError(f"{path} is damaged: its weights are not those that its checksum was made of. {_COPY}")
    return tensors, words


def read_pickled(path: Path) -> Any:
    """Return what `torch.save` wrote: tensors and plain values, compared with the checksums of its zip archive.

    Raises:
        ValueError: the file is damaged, or holds something that could run code.
    """
    _check_archive(path)
    try:
        # The official files keep their command line as a Namespace, which is plain data.
        with torch.serialization.safe_globals([argparse.Namespace]), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickles that are damaged, or made to harm, make it raise nearly anything
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise ValueError(
                f"{path} is a pickle that holds more than weights, and loading it could run code: "
                f"{_first_line(error)} Save its state dict alone, best with safetensors, and load that."
            ) from error
        raise ValueError(f"{path} is not a whole PyTorch file ({_first_line(error)}). {_COPY}") from error


def read_file(path: Path) -> Any:
    """Return what a file of weights holds: a safetensors file or one of PyTorch's, by its first bytes.

    Raises:
        ValueError: it is damaged, holds something that could run code, or is something else.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise ValueError(f"{path} is empty: the disk may have been full, or a copy broken off. {_COPY}")
    if head[8:9] == b"{" and not any(head[4:8]):  # the length of the header, then the header
        return read_safetensors(path)[0]
    if head.startswith((b"PK", b"\x80")) or head[257:262] == b"ustar":
        return read_pickled(path)
    for beginning, what in _OTHERS.items():
        if head.lstrip().lower().startswith(beginning):
            raise ValueError(f"{path} is {what}.")
    raise ValueError(f"{path} is neither a safetensors file nor one of PyTorch: it begins with {head[:8]!r}. {_COPY}")


def _check_archive(path: Path) -> None:
    """Compare what is in a zip archive with its checksums: torch writes them, and does not look at them."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return  # of a PyTorch before 1.6, which has none
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            unpacked = sum(info.file_size for info in archive.infolist())
            bomb = unpacked > 2 * path.stat().st_size + 2**20
            damaged = None if bomb else archive.testzip()
    except Exception as error:  # damaged archives make it raise nearly anything
        raise ValueError(f"{path} is not a whole PyTorch file ({_first_line(error)}). {_COPY}") from error
    if bomb:
        raise ValueError(
            f"{path} is damaged, or made to fill memory: it would grow to {unpacked:,} bytes, and PyTorch packs "
            "nothing. Get the weights from elsewhere."
        )
    if damaged is not None:
        raise ValueError(f"{path} is damaged: {damaged} in it does not have its checksum. {_COPY}")
    if not any(name.endswith("data.pkl") for name in names):
        raise ValueError(f"{path} is a zip archive, but not one of PyTorch: it has no data.pkl. {_COPY}")


def _digest(tensors: Mapping[str, Tensor], words: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(words.items())).encode())
    for key, value in sorted(tensors.items()):
        digest.update(repr((key, str(value.dtype), tuple(value.shape))).encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
