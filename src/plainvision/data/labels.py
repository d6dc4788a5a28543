"""A .csv of labels, for images that lie in no class folders: the columns image, label and, if wanted, split."""

import csv
import io
import posixpath
import unicodedata
from dataclasses import dataclass
from pathlib import Path

# Bytes of the file; ten million lines are shorter.
_MOST_BYTES = 2**30
_COLUMNS = ("image", "label")
_MOST_CLASSES = 2**20


@dataclass(frozen=True)
class Label:
    """A line of the file."""

    line: int
    """Its number, from 1."""
    image: str
    """The image's path below the root, written with `/`."""
    label: str
    """The name of its class."""
    split: str
    """The name of its split; "" where there is no such column."""


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


def read_labels(path: str) -> tuple[list[Label], bool]:
    """Return the lines of the file at ``path``, and whether it has a column of splits.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such table: the message has the line.
    """
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
        heads = [head.strip().lower() for head in next(lines, [])]
        has_splits = heads == [*_COLUMNS, "split"]
        if not has_splits and heads != [*_COLUMNS]:
            raise ValueError(
                f"{path}, line 1: the columns are {', '.join(heads[:8]) or 'missing'}, and must be image,label or "
                "image,label,split, in this order. Write them into the first line."
            )
        seen: dict[str, int] = {}
        labels = []
        for cells in lines:
            if cells:
                labels.append(_label(f"{path}, line {lines.line_num}", lines.line_num, cells, len(heads)))
                first = seen.setdefault(labels[-1].image, lines.line_num)
                if first != lines.line_num:
                    raise ValueError(
                        f"{path}, line {lines.line_num}: {labels[-1].image!r} is in line {first} already. Leave one of "
                        "them out."
                    )
    except csv.Error as error:
        raise ValueError(f"{path}, line {lines.line_num}: {error}. Save it as a .csv again.") from error
    if not labels:
        raise ValueError(f"{path} has no line below its head. Write a line image,label for each image.")
    return labels, has_splits


def _label(where: str, line: int, cells: list[str], columns: int) -> Label:
    if len(cells) != columns:
        raise ValueError(
            f"{where}: it has {len(cells)} cells for {columns} columns. Put quotes around a name that holds a comma."
        )
    image, label, split = (unicodedata.normalize("NFC", cell.strip()) for cell in (*cells, "")[:3])
    empty = [name for name, cell in zip((*_COLUMNS, "split"), cells, strict=False) if not cell.strip()]
    if empty:
        raise ValueError(f"{where}: the {empty[0]} is empty. Fill it in, or remove the line.")
    path = posixpath.normpath(image)
    if path.startswith(("/", "../")) or path in ("..", ".") or "\0" in path or Path(path).is_absolute():
        raise ValueError(f"{where}: {image!r} leads out of data.root. Write the path as it is below the root.")
    return Label(line, path, label, split)
