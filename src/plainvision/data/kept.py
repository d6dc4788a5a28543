"""Results about images, kept in a folder: the same call after a kill reads what is finished.

A file's name is the hash of all that decides its result. It is written whole; one that is damaged is computed anew.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from plainvision.data.settings import Data
from plainvision.files import plain_object
from plainvision.inspection.fingerprint import weights_fingerprint
from plainvision.models.reading import read_safetensors, save_tensors

Result = TypeVar("Result")

# The plain part of a result, in a file's header.
_PLAIN = "plain"


def kept(
    folder: Path | None,
    about: Mapping[str, Any],
    compute: Callable[[], Result],
    *,
    taken_apart: Callable[[Result], tuple[dict[str, Tensor], dict[str, Any]]],
    put_together: Callable[[dict[str, Tensor], dict[str, Any]], Result],
) -> Result:
    """Return a result that ``folder`` has, or compute it and keep it there; None keeps nothing.

    Args:
        folder: where results are kept; it is made.
        about: all that decides the result, as JSON has it.
        compute: what computes it.
        taken_apart: its tensors, and what else it is as JSON has it.
        put_together: a result again; what cannot be one is a ValueError, a LookupError or a TypeError.

    Raises:
        OSError: the folder cannot be written.
    """
    if folder is None:
        return compute()
    text = json.dumps(about, sort_keys=True).encode("utf-8", "surrogatepass")
    file = folder / f"{hashlib.sha256(text).hexdigest()}.safetensors"
    if file.is_file():
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            tensors, words = read_safetensors(file)
            return put_together(tensors, plain_object(words[_PLAIN]))
    result = compute()
    tensors, plain = taken_apart(result)
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(file, tensors, {_PLAIN: json.dumps(plain)})
    return result


def network_facts(model: nn.Module) -> list[str]:
    """Return what a network is known by, for results about it.

    Raises:
        ValueError: it has no weights of its own, as one that a runtime computes.
    """
    if not model.state_dict():
        raise ValueError(
            f"results are kept by the weights of a network, and {type(model).__name__} shows none: a runtime has them. "
            "Drop --keep, or give the network that was deployed."
        )
    return [repr(model), weights_fingerprint(model)]


def stamps(data: Data) -> Iterator[str]:
    """Yield what tells whether the files at the roots were changed: sizes and times, as `make` and rsync compare."""
    for place in (data.root, data.validation_root, data.labels):
        path = Path((place or "").removeprefix("hfds/").removeprefix("wds/")).expanduser()
        if place and path.exists():
            digest = hashlib.sha256()
            files = [path] if path.is_file() else (Path(top, one) for top, _, names in os.walk(path) for one in names)
            for one in sorted(files):
                with contextlib.suppress(OSError):
                    found = one.stat()
                    name = os.fsencode(one.relative_to(path))
                    digest.update(b"%s\0%d %d\0" % (name, found.st_size, found.st_mtime_ns))
            yield digest.hexdigest()
