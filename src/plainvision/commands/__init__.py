"""The command line: one file per verb, each a few lines over a library call.

No torch here, nor in the verbs before they act: help must not wait for it.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

VERBS = {
    "models": "list the networks and what they cost",
    "train": "train a network by a recipe, or continue a run",
    "evaluate": "score a trained network, in training and deployed form",
    "fuse": "write the deployed form of a trained network, with proof",
    "bench": "time networks side by side",
    "explain": "show where networks look, as a figure",
    "study": "train each spatial operation in each stage, and weigh accuracy against latency",
    "search": "search cells of operations with and without parameters, beside random ones",
    "dynamic": "ask what it would buy to configure a trained network for each image",
    "quickstart": "train, fuse, verify and time a network on embedded data, with a report",
}


def main(arguments: list[str] | None = None) -> None:
    """Run ``plainvision VERB ...``; bad input ends with a message and exit status 2, Ctrl-C with 130."""
    try:
        try:
            _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()  # while a reader that is gone can still be excused
    except KeyboardInterrupt as error:
        _fail(str(error) or "stopped.", 130)
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
    except (ValueError, OSError, ImportError) as error:
        _fail(str(error))


def check_writable(path: Path, option: str) -> None:
    """Make the folder of ``path``; the verbs ask before the work, whose result would otherwise be lost.

    Raises:
        OSError: the file could not be written.
    """
    there = path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}. Give another file with {option}.") from error
    if not there:
        path.unlink()


def run_verb(words: list[str], verbs: Mapping[str, str], package: str, before: str = "") -> None:
    """Run the module of ``package`` that is called like the first word, with the words behind it.

    Args:
        words: what was typed.
        verbs: the names of the modules.
        package: where they are.
        before: what was typed before these words, with a space at its end.

    Raises:
        ValueError: there is no such verb.
    """
    verb, *rest = words
    if verb not in verbs:
        close = difflib.get_close_matches(verb, verbs, n=2)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"unknown command {before + verb!r}.{hint} `plainvision {before}--help` lists them.")
    importlib.import_module(f"{package}.{verb}").main(rest)


def show(table: "Table") -> None:
    """Print a table, in a file or a pipe at its full width: rich would cut names off at 80 columns."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return
    if words[0] == "--version":
        from plainvision import __version__

        print(f"plainvision {__version__}")
        return
    run_verb(words, VERBS, "plainvision.commands")


def _help() -> str:
    verbs = "\n".join(f"  {verb:<12}{what}" for verb, what in VERBS.items())
    return (
        "plainvision: vision backbones with nothing to spare.\n\n"
        f"usage: plainvision COMMAND [options]\n\n{verbs}\n\n"
        "`plainvision COMMAND --help` explains one, with an example. A first look: plainvision quickstart"
    )


def _fail(message: str, status: int = 2) -> None:
    print(f"plainvision: {message}", file=sys.stderr)
    sys.exit(status)
