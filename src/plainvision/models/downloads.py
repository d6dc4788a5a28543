"""Downloads. A file gets its name in the cache only when it is whole and was read."""

import contextlib
import hashlib
import http.client
import urllib.request
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TypeVar
from urllib.parse import urlsplit

import torch

from plainvision.files import write_whole

Content = TypeVar("Content")

_PIECE = 2**20
_MOST_BYTES = 64 * 2**30
_MOST_SECONDS = 6 * 3600.0
_SILENT_SECONDS = 60.0
_LEAST_BYTES_PER_SECOND = 1000


def download(url: str, read: Callable[[Path], Content]) -> Content:
    """Return what ``read`` makes of an address's file, out of torch's cache or fetched into it.

    Args:
        url: an address of http or https.
        read: reads the file; a ValueError of it keeps the file out of the cache.

    Raises:
        ValueError: the address cannot be, nobody answers there, or what comes is not whole or is refused by ``read``.
        OSError: the cache cannot be written.
    """
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0:  # `port` raises for what is no number
            raise ValueError("it names no machine and port to ask")
    except ValueError as error:
        raise _cannot(url, error) from error
    # One folder per address: two projects may well call their file model.pth.
    folder = Path(torch.hub.get_dir()) / "checkpoints" / hashlib.sha256(url.encode()).hexdigest()[:16]
    path = folder / (Path(parts.path).name[-100:] or "weights")
    if path.exists():
        with contextlib.suppress(ValueError):  # what an older version kept may be broken
            return read(path)
    content: list[Content] = []

    def write(file: Path) -> None:
        try:
            _fetch(url, file)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _cannot(url, error) from error
        try:
            content[:] = [read(file)]
        except ValueError as error:
            raise ValueError(f"what came from {url} is of no use: {str(error).replace(str(file), 'it')}") from error

    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, write)
    return content[0]


def _fetch(url: str, file: Path) -> None:
    start = monotonic()
    request = urllib.request.Request(url, headers={"User-Agent": "plainvision", "Accept-Encoding": "identity"})
    with _opener().open(request, timeout=_SILENT_SECONDS) as answer, file.open("wb") as out:
        said = answer.headers.get("Content-Length")
        promised = int(said) if said is not None else None
        done = 0
        while piece := answer.read1(_PIECE):
            done += len(piece)
            seconds = monotonic() - start
            slow = done < _LEAST_BYTES_PER_SECOND * (seconds - _SILENT_SECONDS)
            if slow or done > _MOST_BYTES or seconds > _MOST_SECONDS:
                raise ValueError(
                    f"it is {'too slow' if slow else 'too long'}, {done:,} bytes in {seconds:.0f} s so far"
                )
            out.write(piece)
    if promised not in (None, done):
        raise ValueError(f"the transfer broke off after {done:,} of {promised:,} bytes")


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens addresses of http and https, and nothing else that a redirect may name."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _cannot(url: str, error: Exception) -> ValueError:
    why = " ".join(str(error).split()) or type(error).__name__
    return ValueError(f"cannot download {url}: {why}. Check the address, or load the file by path.")
