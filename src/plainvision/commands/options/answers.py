"""What is said of each image, and where: a table, a CSV, JSON lines, copies in a folder for each class."""

import csv
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from plainvision.commands import Table, check_writable, say, show

if TYPE_CHECKING:
    from plainvision.training.prediction import NamedAnswer, Predictions

UNSURE = "unsure"
# A table of so many images is printed, and another begins: all of them need not fit in memory.
_PAGE = 1000


@dataclass(frozen=True)
class AnswerOptions:
    """What is said of each image, and where."""

    top: int = 5
    """How many of the likeliest classes."""
    threshold: float | None = None
    """An image whose likeliest class has less confidence than this, from 0 to 1, is `unsure`."""
    csv: Path | None = None
    """Write a row for each image to this file, instead of the table."""
    jsonl: Path | None = None
    """Write a JSON object for each image, one a line, to this file, instead of the table; - is standard output."""
    copy_to: Path | None = None
    """Copy each photograph into a folder of its class below this one. No file is overwritten."""

    @property
    def is_piped(self) -> bool:
        """Whether JSON lines go to standard output, where nothing else may be then."""
        return str(self.jsonl) == "-"

    def check(self, images: Sequence[str]) -> None:
        """Check the values, and that what is given can be written, before the work.

        Raises:
            ValueError: a value is out of its range, or copies would lie among the images that are read.
            OSError: a file or a folder cannot be written.
        """
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"--threshold {self.threshold} is no confidence. Give a number from 0 to 1, such as 0.8.")
        if self.csv is not None:
            check_writable(self.csv, "--csv")
        if self.jsonl is not None and not self.is_piped:
            check_writable(self.jsonl, "--jsonl")
        if self.copy_to is None:
            return
        around = [one for one in images if Path(one).is_dir() and _is_within(self.copy_to, Path(one))]
        if around:
            raise ValueError(
                f"--copy-to {self.copy_to} lies in {around[0]}, whose images are read: the next call would read the "
                "copies too. Give a folder outside of it."
            )
        try:
            self.copy_to.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.copy_to).close()
        except OSError as error:
            raise OSError(
                f"cannot copy into {self.copy_to}: {error.strerror}. Give another folder with --copy-to."
            ) from error

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raise a `ValueError` where a class cannot be told from an image that is unsure."""
        if self.threshold is not None and UNSURE in classes:
            raise ValueError(
                f"the network has a class called {UNSURE!r}, and --threshold calls images so: nobody could tell them "
                "apart. Leave --threshold out, and choose by the confidences."
            )


class Written:
    """Answers on their way: JSON lines to standard output and copies at once, files whole at the end.

    Args:
        options: what goes where.
        classes: names of the classes, where they are known.
        around: prints a page of the table, for instance between two states of a progress bar.
    """

    def __init__(
        self, options: AnswerOptions, classes: Sequence[str], around: Callable[[Callable[[], None]], None]
    ) -> None:
        from plainvision.data.copies import Copies, folder_names

        options.check_classes(classes)
        self._options, self._around = options, around
        self._copies = None if options.copy_to is None else Copies(options.copy_to)
        self._folders = folder_names(classes, [] if options.threshold is None else [UNSURE])
        self._table: Table | None = None
        self._made: dict[str, IO[str]] = {}
        self._open = ExitStack()
        self.images = self.unsure = 0

    def __enter__(self) -> "Written":
        # An unnamed file each: what is written so far vanishes with the process.
        for name, path in (
            ("csv", self._options.csv),
            ("jsonl", None if self._options.is_piped else self._options.jsonl),
        ):
            if path is not None:
                made = tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace", newline="")
                self._made[name] = self._open.enter_context(made)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        with self._open:
            self._turn_page()
            if error is not None:
                return
            for name, made in self._made.items():
                _write(getattr(self._options, name), made)
        if not self._options.is_piped:
            say(self._summary())

    def add(self, found: "Predictions", answer: "NamedAnswer") -> None:
        """Write an answer; ``found`` opens its image."""
        confidence = answer.confidences[0]
        is_unsure = self._options.threshold is not None and confidence < self._options.threshold
        predicted = UNSURE if is_unsure else answer.classes[0]
        self.images, self.unsure = self.images + 1, self.unsure + is_unsure
        if "csv" in self._made:
            self._add_row(answer, predicted)
        if self._options.jsonl is not None:
            row = {
                "image": answer.name,
                "predicted": predicted,
                "confidence": round(confidence, 6),
                "classes": answer.classes,
                "confidences": [round(one, 6) for one in answer.confidences],
            }
            print(json.dumps(row), file=self._made.get("jsonl", sys.stdout), flush=self._options.is_piped)
        if not (self._made or self._options.is_piped):
            self._add_to_table(answer, predicted)
        if self._copies is not None:
            where = answer.photograph
            base = (where.member or where.path).rpartition("/")[2] if where.member else os.path.basename(where.path)
            folder = UNSURE if is_unsure else self._folders.get(predicted, predicted)
            self._copies.add(found.open(answer), folder, base)

    def _add_row(self, answer: "NamedAnswer", predicted: str) -> None:
        rows = csv.writer(self._made["csv"])
        several = self._options.top > 1
        if self.images == 1:
            ranks = range(1, len(answer.classes) + 1) if several else ()
            others = [f"{what}_{rank}" for rank in ranks for what in ("class", "confidence")]
            rows.writerow(["image", "predicted", "confidence", *others])
        ranked = zip(answer.classes, answer.confidences, strict=True) if several else ()
        others = [cell for name, confidence in ranked for cell in (name, f"{confidence:.6f}")]
        rows.writerow([answer.name, predicted, f"{answer.confidences[0]:.6f}", *others])

    def _add_to_table(self, answer: "NamedAnswer", predicted: str) -> None:
        if self._table is None:
            heads = ("image", "predicted", "confidence", "classes" if self._options.threshold is not None else "then")
            self._table = Table(heads if self._options.top > 1 else heads[:3], words=4)
        first = 0 if self._options.threshold is not None else 1
        ranked = zip(answer.classes[first:], answer.confidences[first:], strict=True)
        others = ", ".join(f"{name} {confidence:.3f}" for name, confidence in ranked)
        cells = (answer.name, predicted, f"{answer.confidences[0]:.3f}", others)
        self._table.add_row(*cells[: len(self._table.heads)])
        if len(self._table.rows) == _PAGE:
            self._turn_page()

    def _turn_page(self) -> None:
        table, self._table = self._table, None
        if table is not None:
            self._around(lambda: show(table))

    def _summary(self) -> str:
        parts = [f"{self.images} image{'' if self.images == 1 else 's'}"]
        if self._options.threshold is not None:
            parts.append(f"{self.unsure} of them {UNSURE}")
        parts += [f"predictions in {getattr(self._options, name)}" for name in self._made]
        if self._copies is not None:
            parts.append(f"copies in {self._copies.root}")
        return ", ".join(parts)


def _write(path: Path, made: IO[str]) -> None:
    from plainvision.files import write_whole

    def copy(place: Path) -> None:
        made.flush()
        made.seek(0)
        with place.open("w", encoding="utf-8", newline="") as file:
            shutil.copyfileobj(made, file)

    write_whole(path, copy)


def _is_within(folder: Path, other: Path) -> bool:
    return folder.resolve().is_relative_to(other.resolve())
