"""A search's folder: its settings, its metrics, its full state, and the cells found so far.

search.json          what was asked for
metrics.jsonl        one line per epoch
genotype.json        the cells after the last whole epoch
state.pt             everything that a restart needs
"""

import json
from pathlib import Path
from typing import Any

import torch

from plainvision.files import write_json, write_whole
from plainvision.search.settings import CellSearch
from plainvision.training.run_folder import dotted_fields, read_metrics


class SearchFolder:
    """The files of one search.

    Raises:
        ValueError: the folder holds another search, this one without ``resume``, or nothing to resume.
    """

    def __init__(self, path: str | Path, settings: CellSearch, *, resume: bool) -> None:
        self.path = Path(path)
        self.settings = settings
        known = self.path / "search.json"
        if known.exists():
            self._check_same(known, resume)
        elif resume:
            raise ValueError(f"nothing to resume in {self.path}: it holds no search.json. Start without --resume.")
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise ValueError(f"{self.path} is not empty and holds no search of ours. Give an empty or a new folder.")

    @property
    def genotype(self) -> Path:
        """The file of the cells."""
        return self.path / "genotype.json"

    def prepare(self) -> None:
        """Create the folder and write the settings into it.

        Raises:
            OSError: it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / "search.json", self.settings.to_dict())
        except OSError as error:
            raise OSError(
                f"cannot write the search's folder {self.path}: {error.strerror or error}. Give a folder that you may "
                "write, on a disk with space, with --out."
            ) from error

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to the metrics."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def save_state(self, state: dict[str, Any]) -> None:
        """Write what a restart needs; a kill while writing leaves the state before."""
        write_whole(self.path / "state.pt", lambda file: torch.save(state, file))

    def load_state(self) -> dict[str, Any] | None:
        """Return what `save_state` wrote last and forget what was logged after it; None where there is none."""
        file = self.path / "state.pt"
        state = torch.load(file, map_location="cpu", weights_only=True) if file.exists() else None
        step = 0 if state is None else state["step"]
        lines = "".join(json.dumps(line) + "\n" for line in read_metrics(self.path) if line["step"] <= step)
        write_whole(self.path / "metrics.jsonl", lambda path: path.write_text(lines))
        return state

    def _check_same(self, known: Path, resume: bool) -> None:
        try:
            there = dotted_fields(json.loads(known.read_text()))
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"{known} is damaged ({error}), so that nobody can tell which search the folder holds. Give another "
                "folder with --out."
            ) from error
        here = dotted_fields(self.settings.to_dict())
        # How the search uses the machine may change between two parts of it.
        free = ("data.workers", "checkpoint_steps")
        changed = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
        changed = [key for key in changed if key not in free]
        if changed:
            what = ", ".join(f"{key} ({there.get(key)!r} there, {here.get(key)!r} given)" for key in changed[:3])
            raise ValueError(
                f"{self.path} holds another search; it differs in {what}. Give another folder with --out, or the "
                "settings of that search."
            )
        if not resume:
            raise ValueError(
                f"{self.path} already holds this search. Add --resume to continue it, or give another folder with "
                "--out."
            )
