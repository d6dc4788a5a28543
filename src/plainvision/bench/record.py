"""Records of measured numbers: claim, figures, command, host; and tables of them."""

import html
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import plainvision
from plainvision.files import write_json
from plainvision.showing import shown


def write_record(
    path: str | Path,
    claim: str,
    figures: Mapping[str, Any],
    command: str,
    *,
    columns: Sequence[str] | None = None,
) -> None:
    """Write a record of ``figures`` into a JSON file, whole or not at all.

    It also holds the day (UTC) and the facts of the host. Absolute paths in ``command`` are cut to their last part, so
    that nothing tells whose machine that was.

    Args:
        path: the file.
        claim: what the figures show, or are to show.
        figures: lists of rows, or single values, by name; or rows by name, which are one table.
        command: the command that reproduces the figures.
        columns: those that documentation shows of the table called "rows", or of rows by name; None shows all.

    Raises:
        ValueError: ``figures`` holds something that JSON cannot, a NaN or an infinity included.
    """
    path = Path(path)
    record = {
        "claim": claim,
        "date": datetime.now(UTC).date().isoformat(),
        "command": _without_folders(command),
        "columns": None if columns is None else list(columns),
        "figures": dict(figures),
        "host": host_facts(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_json(path, record)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"cannot write the figures of {path.name} as JSON: {error}. Give finite numbers, strings, lists "
            "and dicts; `Measurement.to_dict()` returns such."
        ) from error


def host_facts() -> dict[str, Any]:
    """Return processor, memory, GPU and versions, on which numbers depend; no names of hosts, users or folders."""
    # What this process may use, where the system can tell: a container often has fewer than the machine.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu_name(),
        "vector_extensions": _vector_extensions(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "memory_gb": _memory_gb(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": importlib.metadata.version("timm"),
        "plainvision": plainvision.__version__,
        "commit": _commit(),
    }


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return ``rows`` as a Markdown table: columns in the order of first appearance, numbers to the right.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("a table needs at least one row, to know its columns. Give a list of dicts.")
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(3, *(len(line[place]) for line in lines)) for place in range(len(columns))]
    numeric = [all(isinstance(row.get(column), int | float | None) for row in rows) for column in columns]
    rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, numeric, strict=True)]
    sides = [f"{'>' if right else '<'}{width}" for width, right in zip(widths, numeric, strict=True)]
    padded = [map(format, line, sides) for line in (lines[0], rule, *lines[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def _cell(value: object) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return html.escape(shown(str(value).replace("\n", " ")), quote=False).replace("|", r"\|")


def _without_folders(command: str) -> str:
    # A slash that begins a path, so neither one inside a relative path nor one of a URL's.
    return re.sub(r"(?<![\w.~:/-])/(?:[^\s/'\"]+/)+", "", command)


def _cpu_name() -> str:
    mac = _output("sysctl", "-n", "machdep.cpu.brand_string") if platform.system() == "Darwin" else platform.processor()
    return _cpu_field("model name") or mac or platform.machine()


def _vector_extensions() -> list[str] | None:
    """Return the widest vector instructions, on which the speed of products depends; None where unknown."""
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "sve")
    flags = _cpu_field("flags|Features")
    return None if flags is None else [name for name in wanted if name in flags.split()]


def _cpu_field(names: str) -> str | None:
    """Return what Linux says of the processor; None elsewhere."""
    try:
        found = re.search(rf"^(?:{names})\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return found[1] if found else None


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _commit() -> str | None:
    """Return the short hash of plainvision's own checkout, marked when tracked files differ from it."""
    package = Path(plainvision.__file__).resolve().parent
    root = _output("git", "-C", str(package), "rev-parse", "--show-toplevel")
    # Installed into someone else's repository, the hash would be that repository's.
    if root is None or Path(root).resolve() / "src" / "plainvision" != package:
        return None
    return _output("git", "-C", str(package), "describe", "--always", "--dirty", "--exclude=*")


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
