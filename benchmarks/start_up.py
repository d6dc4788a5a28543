"""Claim: `plainvision --help` answers within 0.7 s and `import plainvision` takes less than 0.1 s.

Each run is a new process. The first of each is thrown away: it fills the disk cache. The help is timed from
outside, the interpreter's own start included; the import from inside, without it.

    $ python benchmarks/start_up.py

Writes results/start_up.json. Holds when the medians stay below.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from plainvision.bench import as_table, write_record

CLAIM = "`plainvision --help` answers within 0.7 s and `import plainvision` takes less than 0.1 s"
IMPORT = "import time; start = time.perf_counter(); import plainvision; print(time.perf_counter() - start)"


def seconds_of_help() -> float:
    """Return the seconds that `plainvision --help` takes.

    Raises:
        FileNotFoundError: the command is not installed beside this Python.
    """
    program = Path(sys.executable).with_name("plainvision")
    if not program.exists():
        raise FileNotFoundError(
            "there is no command `plainvision` beside this Python. Install the library into its environment: "
            "pip install --editable ."
        )
    return seconds_of(str(program), "--help")


def seconds_of_python() -> float:
    """Return the seconds that Python takes to start and do nothing."""
    return seconds_of(sys.executable, "-c", "pass")


def seconds_of_import() -> float:
    """Return the seconds of `import plainvision` in a process of its own, as that process sees them."""
    done = subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True)
    return float(done.stdout)


def seconds_of(*command: str) -> float:
    """Return the seconds that a process takes from start to end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure, print a table, write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--runs", type=int, default=15, help="processes of each kind")
    arguments = parser.parse_args()

    # What is timed, and the limit of its median in seconds.
    timed: dict[str, tuple[Callable[[], float], float | None]] = {
        "plainvision --help": (seconds_of_help, 0.7),
        "import plainvision": (seconds_of_import, 0.1),
        "python -c pass": (seconds_of_python, None),
    }
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(arguments.runs + 1):
        for name, (work, _limit) in timed.items():  # in turns, so that a slow spell hits all alike
            seconds[name].append(work())

    rows = []
    for name, (_work, limit) in timed.items():
        counted = seconds[name][1:]
        rows.append(
            {
                "what": name,
                "runs": len(counted),
                "min_s": min(counted),
                "median_s": statistics.median(counted),
                "max_s": max(counted),
                "limit_s": limit,
                "holds": None if limit is None else statistics.median(counted) < limit,
            }
        )
    holds = all(row["holds"] is not False for row in rows)

    print(as_table(rows))
    print(f"\n{CLAIM}: {'holds' if holds else 'does NOT hold'}")
    write_record(
        Path(__file__).parents[1] / "results" / "start_up.json",
        CLAIM,
        {"holds": holds, "rows": rows},
        f"python benchmarks/start_up.py --runs {arguments.runs}",
    )


if __name__ == "__main__":
    main()
