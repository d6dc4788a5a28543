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
from typing import IO, TYPE_CHECKING, Any

from plainvision.commands import Table, check_writable, say, show
from plainvision.data.labels import BETWEEN

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
    """An image whose likeliest class has less confidence than this, from 0 to 1, is `unsure`. Of a network that gives
    an image a set of labels: give those of this confidence or more, rather than by its own threshold."""
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

    def threshold_of(self, own: float | None) -> float | None:
        """Return from which confidence on an image gets a label, ``own`` being the network's; None is one class."""
        return own if own is None or self.threshold is None else self.threshold

    def check_sets(self) -> None:
        """Raise a `ValueError` where something asked for takes one class for each image."""
        if self.copy_to is not None:
            raise ValueError(
                "--copy-to puts an image into the folder of its class, and this network gives an image several labels "
                "or none. Leave it out; --csv and --jsonl have the labels of each."
            )

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
        sets: whether an image gets a set of labels.
    """

    def __init__(
        self,
        options: AnswerOptions,
        classes: Sequence[str],
        around: Callable[[Callable[[], None]], None],
        *,
        sets: bool = False,
    ) -> None:
        from plainvision.data.copies import Copies, folder_names

        options.check_sets() if sets else options.check_classes(classes)
        self._options, self._around, self._sets = options, around, sets
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
        told = _one_class(answer, self._options.threshold) if answer.labels is None else _label_set(answer)
        self.images, self.unsure = self.images + 1, self.unsure + (told.predicted == UNSURE and answer.labels is None)
        if "csv" in self._made:
            self._add_row(answer, told)
        if self._options.jsonl is not None:
            ranked = {"classes": answer.classes, "confidences": [round(one, 6) for one in answer.confidences]}
            row = {"image": answer.name} | told.fields | ranked
            print(json.dumps(row), file=self._made.get("jsonl", sys.stdout), flush=self._options.is_piped)
        if not (self._made or self._options.is_piped):
            self._add_to_table(answer, told)
        if self._copies is not None:
            where = answer.photograph
            base = (where.member or where.path).rpartition("/")[2] if where.member else os.path.basename(where.path)
            folder = UNSURE if told.predicted == UNSURE else self._folders.get(told.predicted, told.predicted)
            self._copies.add(found.open(answer), folder, base)

    def _add_row(self, answer: "NamedAnswer", told: "_Told") -> None:
        rows = csv.writer(self._made["csv"])
        ranked = list(zip(answer.classes, answer.confidences, strict=True))
        if self._options.top == 1 and answer.labels is None:
            ranked = []
        if self.images == 1:
            others = [f"{what}_{rank + 1}" for rank in range(len(ranked)) for what in ("class", "confidence")]
            rows.writerow(["image", *told.cells, *others])
        others = [cell for name, confidence in ranked for cell in (name, f"{confidence:.6f}")]
        rows.writerow([answer.name, *told.cells.values(), *others])

    def _add_to_table(self, answer: "NamedAnswer", told: "_Told") -> None:
        whole = self._options.threshold is not None or answer.labels is not None
        shown = ["image", *told.shown, *(["classes" if whole else "then"] if whole or self._options.top > 1 else [])]
        if self._table is None:
            self._table = Table(tuple(shown), words=4)
        first = 0 if whole else 1
        ranked = zip(answer.classes[first:], answer.confidences[first:], strict=True)
        others = ", ".join(f"{name} {confidence:.3f}" for name, confidence in ranked)
        self._table.add_row(*(answer.name, *told.shown.values(), others)[: len(self._table.heads)])
        if len(self._table.rows) == _PAGE:
            self._turn_page()

    def _turn_page(self) -> None:
        table, self._table = self._table, None
        if table is not None:
            self._around(lambda: show(table))

    def _summary(self) -> str:
        parts = [f"{self.images} image{'' if self.images == 1 else 's'}"]
        if self._options.threshold is not None and not self._sets:
            parts.append(f"{self.unsure} of them {UNSURE}")
        parts += [f"predictions in {getattr(self._options, name)}" for name in self._made]
        if self._copies is not None:
            parts.append(f"copies in {self._copies.root}")
        return ", ".join(parts)


@dataclass(frozen=True)
class _Told:
    """An answer in words."""

    predicted: str
    fields: dict[str, Any]
    """For JSON."""
    cells: dict[str, str]
    """For a CSV, by their heads."""
    shown: dict[str, str]
    """For a table."""


def _one_class(answer: "NamedAnswer", threshold: float | None) -> _Told:
    confidence = answer.confidences[0]
    predicted = UNSURE if threshold is not None and confidence < threshold else answer.classes[0]
    return _Told(
        predicted,
        {"predicted": predicted, "confidence": round(confidence, 6)},
        {"predicted": predicted, "confidence": f"{confidence:.6f}"},
        {"predicted": predicted, "confidence": f"{confidence:.3f}"},
    )


def _label_set(answer: "NamedAnswer") -> _Told:
    labels = answer.labels or ()
    return _Told("", {"labels": labels}, {"labels": BETWEEN.join(sorted(labels))}, {"labels": ", ".join(labels) or "–"})


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
