"""Write a file whole or not at all."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file beside ``path``, then put it in its place: a kill meanwhile leaves the old one.

    Raises:
        OSError: the folder cannot be written, or the disk is full; the old file is still there.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        write(unfinished)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)  # there is no other way to read it
        os.umask(mask)
        unfinished.chmod(0o666 & ~mask)  # safetensors lets only the owner read what it writes
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, whole or not at all."""
    write_whole(path, lambda file: file.write_text(json.dumps(content, indent=2) + "\n"))
