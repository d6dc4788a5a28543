"""Outcomes that `plainvision dynamic evaluate` wrote, as arguments, and where what they say is written."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plainvision.commands import check_writable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from plainvision.dynamic.outcomes import Outcomes

_FILE = "outcomes.safetensors"


def read_outcomes(paths: Sequence[Path], verb: str) -> "dict[str, Outcomes]":
    """Return outcomes by what tells them apart: what changes, the network, or the end of their path.

    Args:
        paths: folders that `plainvision dynamic evaluate` wrote into, or outcomes.safetensors files.
        verb: who asks.

    Raises:
        ValueError: there is none, one is given twice, or a folder's evaluation is not finished.
        OSError: there is no such file.
    """
    from plainvision.dynamic.outcomes import Outcomes

    if not paths:
        raise ValueError(
            f"no outcomes. Give a folder that `plainvision dynamic evaluate` wrote into, for instance: plainvision "
            f"dynamic {verb} runs/stride"
        )
    files = [_file(path) for path in paths]
    if len({file.resolve() for file in files}) < len(files):
        raise ValueError(f"{' '.join(map(str, paths))} has the same outcomes twice. Give each once.")
    found = [Outcomes.load(file) for file in files]
    return dict(zip(_labels(files, found), found, strict=True))


def changed(outcomes: "Outcomes") -> str:
    """Return which attributes change, such as "stride", or "stride, size"."""
    from plainvision.dynamic.space import Space

    return ", ".join(Space(chosen=outcomes.permutations).attributes)


def place(path: Path | None, option: str, beside: Path, name: str) -> Path:
    """Return the file to write, by default ``name`` in the folder of ``beside``, and check that it can be written.

    Raises:
        ValueError: a figure's file has a suffix of another kind.
        OSError: the file cannot be written.
    """
    from plainvision.figures.style import check_format

    chosen = path or (beside if beside.is_dir() else beside.parent) / name
    if option == "--figure":
        check_format(chosen)
    check_writable(chosen, option)
    return chosen


def write(claim: str, record: Mapping[str, Any], command: str, json: Path, figure: "Figure | None", to: Path) -> None:
    """Write the record into ``json`` and the figure, where there is one, to its file, and say so."""
    from plainvision.bench import write_record
    from plainvision.figures.style import save

    write_record(json, claim, record, command)
    if figure is None:
        print(f"record in {json}")
        return
    save(figure, to)
    print(f"record in {json}, figure in {to}")


def facts(outcomes: "Outcomes") -> dict[str, Any]:
    """Return what a record says about outcomes."""
    return {
        "network": outcomes.network,
        "fingerprint": outcomes.fingerprint,
        "changes": changed(outcomes),
        "sites": outcomes.sites,
        "permutations": len(outcomes.permutations),
        "left_out": outcomes.left_out,
        "images": len(outcomes.names),
        "classes": outcomes.classes,
        "condition": outcomes.condition,
    }


def _file(path: Path) -> Path:
    if path.is_file() or (path / _FILE).is_file():
        return path if path.is_file() else path / _FILE
    if (path / "evaluation.json").is_file():
        raise ValueError(f"the evaluation in {path} is not finished. Go on with the same command that began it.")
    if path.is_dir():
        near = [file.parent.name for file in sorted(path.glob(f"*/{_FILE}"))]
    else:
        there = path.parent.iterdir() if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, [item.name for item in there], n=3)
    hint = f" {'There are some in' if path.is_dir() else 'Nearby:'} {', '.join(near)}." if near else ""
    raise FileNotFoundError(
        f"no outcomes at {path}.{hint} Give a folder that `plainvision dynamic evaluate` wrote into, or its {_FILE}."
    )


def _labels(files: Sequence[Path], found: "Sequence[Outcomes]") -> list[str]:
    attributes, networks = [changed(one) for one in found], [one.network for one in found]
    if len(set(networks)) == 1:
        tried = [attributes]
    else:
        tried = [networks, [" ".join(pair) for pair in zip(networks, attributes, strict=True)]]
    whole = [file.absolute() for file in files]
    ends = [(file.parent if file.name == _FILE else file.with_suffix("")).parts for file in whole]
    tried += [["/".join(end[-length:]) for end in ends] for length in range(1, max(map(len, ends)) + 1)]
    return next(labels for labels in tried if len(set(labels)) == len(labels))
