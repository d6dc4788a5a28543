"""Where drawings of photographs go: a folder, in which each has the name of its photograph."""

import os
from pathlib import Path


class Drawings:
    """Names for the drawings of photographs in ``folder``, which is made; two photographs of one name get numbers."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot make the folder {folder}: {error.strerror}. Give another with --out.") from error
        self.folder = folder
        self._taken: set[str] = set()

    def place(self, name: str, ending: str) -> Path:
        """Return the file for the drawing of the photograph ``name``: only the last part of it counts."""
        stem = os.path.splitext(os.path.basename(name.replace("\\", "/")))[0] or "image"
        found, number = stem, 2
        while f"{found}{ending}" in self._taken:
            found, number = f"{stem}_{number}", number + 1
        self._taken.add(f"{found}{ending}")
        return self.folder / f"{found}{ending}"
