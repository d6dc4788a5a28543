"""A search's folder: its settings, its metrics, its full state, and the cells found so far.

search.json          what was asked for
metrics.jsonl        one line per epoch
genotype.json        the cells after the last whole epoch
state.pt             everything that a restart needs
"""

from pathlib import Path

from plainvision.search.settings import CellSearch
from plainvision.training.resumable import ResumableFolder


class SearchFolder(ResumableFolder):
    """The files of one search.

    Raises:
        ValueError: the folder holds another search, this one without ``resume``, or nothing to resume.
    """

    file = "search.json"
    noun = "search"
    this = "this search"
    other = "another search"
    advice = "the settings of that search"
    free = ("data.workers", "checkpoint_steps")  # how the search uses the machine

    def __init__(self, path: str | Path, settings: CellSearch, *, resume: bool) -> None:
        super().__init__(path, settings.to_dict(), resume=resume)

    @property
    def genotype(self) -> Path:
        """The file of the cells."""
        return self.path / "genotype.json"
