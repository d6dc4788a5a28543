"""What the scripts here end with: a table, whether the claim holds, and a record in results/."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plainvision.bench import as_table, write_record

# What is printed of a claim; None: the machine was too noisy to tell.
_VERDICTS = {True: "holds", False: "does NOT hold", None: "undecided, the machine is too noisy: give more --runs"}


def at_least(rows: Sequence[dict[str, Any]], ratio: float) -> bool | None:
    """Return whether each row's speed is at least ``ratio`` times that of its first, None where the noise hides it."""
    if any(row["ratio_low"] is None for row in rows):  # too few rounds for an interval
        return None
    if any(row["ratio_high"] < ratio for row in rows):
        return False
    return True if all(row["ratio_low"] >= ratio for row in rows) else None


def conclude(
    claim: str,
    holds: bool | None,
    rows: Sequence[dict[str, Any]],
    columns: Sequence[str],
    *,
    device: str,
    **further: Sequence[dict[str, Any]],
) -> None:
    """Print the ``columns`` of ``rows`` and the verdict, and write results/SCRIPT.json; on a GPU SCRIPT_cuda.json.

    The documentation shows the same columns. ``further`` tables, narrow ones, go into the record by their names.
    """
    script = Path(sys.argv[0])
    print(as_table([{column: row[column] for column in columns} for row in rows]))
    print(f"\n{claim}: {_VERDICTS[holds]}")
    write_record(
        Path(__file__).parents[1] / "results" / f"{script.stem}{'' if device == 'cpu' else '_cuda'}.json",
        claim,
        {"holds": holds, "rows": list(rows), **further},
        shlex.join(["python", f"benchmarks/{script.name}", *sys.argv[1:]]),
        columns=columns,
    )
