"""A .csv of labels, for images that lie in no class folders.

An image with one label has the columns image, label and, if wanted, split. One with a set of them has the columns
image, labels and split, with a `|` between two labels, or a column of 0 and 1 for each label.
"""

import csv
import io
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Bytes of the file; ten million lines are shorter.
_MOST_BYTES = 2**30
_MOST_CLASSES = 2**20
BETWEEN = "|"
# 1.0 is how pandas writes a column that had gaps.
_MARKS = {"0": False, "0.0": False, "1": True, "1.0": True}

# Where a line is, and its cells between image and split -> its label.
_Reading = Callable[[str, list[str]], str]


@dataclass(frozen=True)
class Label:
    """A line of the file."""

    line: int
    """Its number, from 1."""
    image: str
    """The image's path below the root, written with `/`."""
    label: str
    """The name of its class; of a set, its labels in order, with `|` between them."""
    split: str
    """The name of its split; "" where there is no such column."""


@dataclass(frozen=True)
class LabelTable:
    """What the file says."""

    rows: list[Label]
    has_splits: bool
    """Whether it has a column of splits."""
    names: tuple[str, ...] = ()
    """The labels, where each has a column."""


def read_class_map(path: str) -> tuple[str, ...]:
    """Return the names of the classes that the file at ``path`` lists, one a line, in its order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it lists no classes, or one of them twice: the message has the line.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file at data.class_map={path!r}. Correct the path.")
    if file.stat().st_size > 64 * _MOST_CLASSES:
        raise ValueError(f"data.class_map={path!r} is too long: give one name of a class a line.")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"data.class_map={path!r} is no text in UTF-8 ({error}). Save it as such.") from error
    names = [unicodedata.normalize("NFC", line.strip()) for line in text.rstrip().split("\n")]
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            raise ValueError(f"data.class_map={path!r}, line {number}, is empty. Give one name of a class a line.")
        if seen.setdefault(name, number) != number:
            raise ValueError(
                f"data.class_map={path!r}, line {number}, repeats {name!r} of line {seen[name]}. Name each class once."
            )
    return tuple(names)


def read_labels(path: str) -> LabelTable:
    """Return what the file at ``path`` says, of images with one label each.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such table: the message has the line.
    """

    def reading(heads: list[str]) -> tuple[_Reading, tuple[str, ...]]:
        if [head.lower() for head in heads] != ["image", "label"]:
            raise ValueError(
                "and must be image,label or image,label,split, in this order. Write them into the first line; where "
                "an image has a set of labels, train with --multi-label."
            )
        return _one_label, ()

    return _table(path, reading)


def read_label_sets(path: str) -> LabelTable:
    """Return what the file at ``path`` says, of images with a set of labels each, which may be empty.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such table: the message has the line.
    """

    def reading(heads: list[str]) -> tuple[_Reading, tuple[str, ...]]:
        low = [head.lower() for head in heads]
        if low in (["image", "labels"], ["image", "label"]):
            return _joined, ()
        names = tuple(unicodedata.normalize("NFC", head) for head in heads[1:])
        unfit = not names or not all(names) or len(set(names)) < len(names) or any(BETWEEN in name for name in names)
        if unfit or low[0] != "image":
            raise ValueError(
                f"and must be image, then labels with a {BETWEEN} between two of them, or a column for each label that "
                f"has a name of its own, without {BETWEEN}; then, if wanted, split. Write them into the first line."
            )
        return lambda where, cells: _marked(where, names, cells), names

    return _table(path, reading)


def _table(path: str, reading: Callable[[list[str]], tuple[_Reading, tuple[str, ...]]]) -> LabelTable:
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there are no labels at data.labels={path!r}: no such file. Correct the path.")
    if file.stat().st_size > _MOST_BYTES:
        raise ValueError(
            f"{path} has {file.stat().st_size:,} bytes, and labels of {_MOST_BYTES:,} are the most that is read. Give "
            "a .csv with the columns image,label alone."
        )
    try:
        text = file.read_bytes().decode("utf-8-sig")  # as spreadsheets write it
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error.reason}). Save it as a .csv in UTF-8.") from error
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        heads = [head.strip() for head in next(lines, [])]
        last = len(heads) - (heads[-1:] != [] and heads[-1].lower() == "split")
        try:
            read, names = reading(heads[:last])
        except ValueError as error:
            raise ValueError(f"{path}, line 1: the columns are {', '.join(heads[:8]) or 'missing'}, {error}") from None
        seen: dict[str, int] = {}
        rows = []
        for cells in lines:
            if cells:
                where = f"{path}, line {lines.line_num}"
                if len(cells) != len(heads):
                    raise ValueError(
                        f"{where}: it has {len(cells)} cells for {len(heads)} columns. Put quotes around a name that "
                        "holds a comma."
                    )
                image, label = _image(where, cells[0]), read(where, cells[1:last])
                rows.append(Label(lines.line_num, image, label, _filled(where, "split", cells[last:])))
                first = seen.setdefault(image, lines.line_num)
                if first != lines.line_num:
                    raise ValueError(f"{where}: {image!r} is in line {first} already. Leave one of them out.")
    except csv.Error as error:
        raise ValueError(f"{path}, line {lines.line_num}: {error}. Save it as a .csv again.") from error
    if not rows:
        raise ValueError(f"{path} has no line below its head. Write a line image,label for each image.")
    return LabelTable(rows, last < len(heads), names)


def _one_label(where: str, cells: list[str]) -> str:
    return _filled(where, "label", cells)


def _joined(where: str, cells: list[str]) -> str:
    """Return the labels of a cell in order; none of them is there twice."""
    cell = unicodedata.normalize("NFC", cells[0])
    labels = [label.strip() for label in cell.split(BETWEEN)] if cell.strip() else []
    often = Counter(labels)
    wrong = next((label for label in labels if not label or often[label] > 1), None)
    if wrong is not None:
        what = f"{wrong!r} is there twice" if wrong else "a label is empty"
        raise ValueError(
            f"{where}: {what} in {cell[:80]!r}. Write each label once, with a {BETWEEN} between two of them."
        )
    return BETWEEN.join(sorted(labels))


def _marked(where: str, names: tuple[str, ...], cells: list[str]) -> str:
    """Return the labels whose cells hold 1, in order."""
    for name, cell in zip(names, cells, strict=True):
        if cell.strip() not in _MARKS:
            raise ValueError(
                f"{where}: the label {name!r} is {cell!r}. Write 1 where the image has it and 0 where it has not; "
                "leave an image out of which that is unknown."
            )
    own = (name for name, cell in zip(names, cells, strict=True) if _MARKS[cell.strip()])
    return BETWEEN.join(sorted(own))


def _filled(where: str, name: str, cells: list[str]) -> str:
    """Return the text of the cell, if there is one."""
    if cells and not cells[0].strip():
        raise ValueError(f"{where}: the {name} is empty. Fill it in, or remove the line.")
    return unicodedata.normalize("NFC", "".join(cells).strip())


def _image(where: str, cell: str) -> str:
    image = _filled(where, "image", [cell])
    path = posixpath.normpath(image)
    if path.startswith(("/", "../")) or path in ("..", ".") or "\0" in path or Path(path).is_absolute():
        raise ValueError(f"{where}: {image!r} leads out of data.root. Write the path as it is below the root.")
    return path
