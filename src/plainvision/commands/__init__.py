"""The command line: one file per verb, each a few lines over a library call.

No torch here, nor in the verbs before they act: help must not wait for it.
"""

import contextlib
import difflib
import importlib
import io
import os
import re
import shlex
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from plainvision.showing import shown, shown_lines

_Arguments = TypeVar("_Arguments")

VERBS = {
    "models": "list the networks and what they cost",
    "data": "look at images before training: classes, sizes, damage, images that are there twice",
    "recipes": "list the recipes and what each trains",
    "train": "train a network by a recipe, or continue a run",
    "evaluate": "score a trained network, in training and deployed form",
    "predict": "name the likeliest classes of photographs",
    "fuse": "write the deployed form of a trained network, with proof",
    "deploy": "export a trained network to a file that a runtime loads, with proof",
    "tune": "find the fastest form of a network that passes its gate",
    "bench": "time networks side by side",
    "explain": "show where networks look, as a figure",
    "probe": "tell how much the frozen features of a network know of other classes",
    "detect": "find objects, their boxes and masks, with any network as backbone",
    "segment": "name the class of each pixel, with any network as backbone",
    "card": "write the model card of a trained network: data, recipe, scores, cost, limits",
    "push": "put a trained network on the Hugging Face Hub, with its card",
    "pull": "get a network from the Hugging Face Hub as a file that every command takes",
    "study": "train each spatial operation in each stage, and weigh accuracy against latency",
    "sweep": "train a recipe with each value of its fields, or a paper's table, once for each seed",
    "frontier": "draw accuracy against cost for several networks, from records, runs and papers",
    "search": "search cells of operations with and without parameters, beside random ones",
    "dynamic": "ask what it would buy to configure a trained network for each image",
    "quickstart": "train, fuse, verify and time a network on embedded data, with a report",
}

# Options that `--help` leaves to `--help-all`: most of those in groups, and the finer ones of training.
_RARE = re.compile(
    r"  --((?!(data\.(root|validation-split|image-size|workers)|machine\.precision|training\.(epochs|seeds))\b"
    r"|techniques\.\d+\.epochs\b|model-options\.)[\w-]+\."
    r"|(min-lr|momentum|betas|optimizer-eps|layer-decay|schedule|decay-epochs|warmup-lr|clip-grad|loss|label-smoothing|show-recipe|with|without"
    r"|bce-threshold|name|num-classes|new-classifier|architecture-\w+|checkpoint-steps|latency-\w+|combine-limit)\b)"
)


@dataclass
class Table:
    """A table of plain text: nothing in it is markup, and `show` escapes what a terminal would obey."""

    heads: tuple[str, ...]
    """Heads of the columns; a head may have several lines."""
    words: int = 1
    """So many columns at the left hold words, which fold; the others hold numbers."""
    caption: str | None = None
    """A sentence below."""
    rows: list[tuple[str, ...]] = field(default_factory=list)
    """The cells, row by row."""
    sections: set[int] = field(default_factory=set)
    """Rows with a line below them, by their numbers."""

    @classmethod
    def of(cls, *groups: Sequence[Mapping[str, str]], words: int = 1) -> "Table":
        """Return the table of some rows, whose keys are its heads; groups of them are parted by a line."""
        table = cls(tuple(groups[0][0]), words)
        for number, group in enumerate(groups, start=1):
            for row in group:
                table.add_row(*row.values())
            if number < len(groups):
                table.add_section()
        return table

    def add_row(self, *cells: str, end_section: bool = False) -> None:
        self.rows.append(cells)
        if end_section:
            self.add_section()

    def add_section(self) -> None:
        """Draw a line below the last row."""
        self.sections.add(len(self.rows) - 1)


def main(arguments: list[str] | None = None) -> None:
    """Run ``plainvision VERB ...``; bad input ends with a message and exit status 2, Ctrl-C with 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name need be no UTF-8, and a terminal may know ASCII alone
            stream.reconfigure(errors="backslashreplace")
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


def parsed(
    kind: "Callable[..., _Arguments]",
    words: list[str],
    verb: str,
    description: str | None,
    default: _Arguments | None = None,
    *,
    unused: Collection[str] = (),
    said: Mapping[str, str] | None = None,
) -> _Arguments:
    """Return the arguments of ``plainvision VERB`` that the words are; wrong ones and help end the program.

    The arguments are a dataclass ``kind``, whose own defaults count where there is no other; ``description`` is what
    the help says first, with its example. Options that are ``unused`` are in no help, those that are ``said`` always,
    in these words; both are fields with dots.

    Raises:
        ValueError: a value that the dataclasses refuse.
    """
    import tyro

    given: Any = tyro.MISSING_NONPROP if default is None else default
    whole = "--help-all" in words
    helps = whole or not {"-h", "--help"}.isdisjoint(words)
    told, failed = io.StringIO(), io.StringIO()
    redirected = contextlib.redirect_stdout(told) if helps else contextlib.redirect_stderr(failed)
    try:
        with _plain_unless_seen(), redirected:
            return tyro.cli(
                kind,
                args=["--help"] if helps else words,
                prog=f"plainvision {verb}",
                description="",
                default=given,
                config=(tyro.conf.PositionalMetavarFromFieldName,),
            )
    except SystemExit as ended:
        cause: BaseException | None = ended
        while cause is not None:
            # What a recipe says of its values is said as every error is, without a frame.
            if isinstance(cause, ValueError) and _is_ours(cause):
                raise ValueError(str(cause)) from None
            cause = cause.__context__
        print(failed.getvalue(), end="", file=sys.stderr)
        if helps:
            print(_help_of(verb, told.getvalue(), description or "", whole, unused, said or {}))
        raise


@contextlib.contextmanager
def resumable(verb: str, words: list[str], said: str = "") -> Iterator[None]:
    """Tell who stops the work which command goes on with it: ``verb`` and the words that were typed behind it.

    ``said`` is the message where the work has none of its own; without one there is nothing to go on with.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        if not (str(error) or said):
            raise
        again = shlex.join([*words, *([] if "--resume" in words else ["--resume"])])
        raise type(error)(f"{str(error) or said}\n  plainvision {verb} {again}") from None


def check_writable(path: Path, option: str) -> None:
    """Make the folder of ``path``, or raise an `OSError` before the work, whose result would otherwise be lost."""
    try:
        folder = path.resolve().parent  # a link stays, and what it leads to is written
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError("you may not write it")
        if path.is_file() or not path.exists():  # else a device or a pipe, which has no folder to write into
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError) as error:  # RuntimeError is a circle of links
        why = getattr(error, "strerror", None) or error
        raise OSError(f"cannot write {path}: {why}. Give another file with {option}.") from error


def run_verb(words: list[str], verbs: Mapping[str, str], package: str, before: str = "") -> None:
    """Run the module of ``package`` that is called like the first word, with the words behind it.

    Messages begin with what was typed ``before`` these words, a space at its end.

    Raises:
        ValueError: there is no such verb.
    """
    verb, *rest = words
    if verb not in verbs:
        close = difflib.get_close_matches(verb, verbs, n=2)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"unknown command {before + verb!r}.{hint} `plainvision {before}--help` lists them.")
    importlib.import_module(f"{package}.{verb}").main(rest)


def run_group(
    words: list[str], verbs: Mapping[str, str], package: str, description: str | None, more: str = ""
) -> None:
    """Run a verb of a ``package`` of them, or print what its ``description`` says and which there are.

    ``more`` is said behind the sentence on their help.
    """
    name = package.rpartition(".")[2]
    if words and words[0] not in ("-h", "--help", "--help-all"):
        run_verb(words, verbs, package, before=f"{name} ")
        return
    what, example = (description or "").strip().split("\n\n")
    listed = "\n".join(f"  {verb:<13}{said}" for verb, said in verbs.items())
    print(
        f"{example}\n\n{what}\n\nusage: plainvision {name} COMMAND [options]\n\n{listed}\n\n"
        f"`plainvision {name} COMMAND --help` explains one, with an example.{more}"
    )


def show(table: Table) -> None:
    """Print a table, in a file or a pipe at its full width: rich would cut names off at 80 columns."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawn

    # One space less between many columns, for 80 columns in all.
    padding = 0 if len(table.heads) > 8 else (0, 1, 0, 0)
    drawn = Drawn(caption=table.caption and shown(table.caption), box=box.SIMPLE_HEAD, padding=padding)
    for place, head in enumerate(table.heads):
        if place < table.words:
            drawn.add_column(shown_lines(head), overflow="fold")
        else:
            drawn.add_column(shown_lines(head), justify="right", no_wrap=True)
    for number, row in enumerate(table.rows):
        drawn.add_row(*map(shown, row), end_section=number in table.sections)
    width = None if sys.stdout.isatty() else 200
    Console(width=width, markup=False, emoji=False, highlight=False).print(drawn)


def speed_cells(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return how much faster a row's network is and the interval of that; nothing where it is compared with none."""
    if row["speed_ratio"] is None:
        return "", ""
    interval = "too few" if row["ratio_low"] is None else f"{row['ratio_low']:.2f}–{row['ratio_high']:.2f}"
    return f"{row['speed_ratio']:.2f} x", interval


def say(text: str) -> None:
    """Print lines, without what a terminal would obey in them."""
    print(shown_lines(text))


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
        f"plainvision: vision backbones with nothing to spare.\n\nusage: plainvision COMMAND [options]\n\n{verbs}\n\n"
        "`plainvision COMMAND --help` explains one, with an example. A first look: plainvision quickstart"
    )


def _help_of(
    verb: str, options: str, description: str, whole: bool, unused: Collection[str], said: Mapping[str, str]
) -> str:
    """Return a verb's help: its example, what it does, and its options by group, the rare ones left out."""
    (example,) = re.findall(r"^Example: .+$", description, re.MULTILINE)
    usage, *groups = re.split(r"\n\s*\n", re.sub(r" +$|^ +-{9,}\s*\n", "", options.strip(), flags=re.MULTILINE))
    shown = [example, description.replace(example, "").strip(), usage]
    left_out = 0
    for group in groups:
        head, *entries = re.split(r"\n(?=  --?\w)", re.sub(r"\n  -h, --help\s+show this.*", "", group))
        used = {name: entry for entry in entries if (name := _field(entry)) not in unused}
        kept = [
            _resaid(entry, said[name]) if name in said else entry
            for name, entry in used.items()
            if whole or name in said or not _RARE.match(entry)
        ]
        left_out += len(used) - len(kept)
        if kept or not entries:
            shown.append("\n".join([head, *kept]))
    if left_out:
        shown.append(f"`plainvision {verb} --help-all` shows {left_out} more.")
    return "\n\n".join(shown)


def _field(entry: str) -> str:
    """Return which field, with dots, an option in the help stands for."""
    return re.sub(r"  -+([\w.-]+).*", r"\1", entry, flags=re.DOTALL).replace("-", "_")


def _resaid(entry: str, words: str) -> str:
    """Return an option's help with other words than its own, its default behind them unless they say (required)."""
    option, own = entry.split("\n", 1)
    default = re.search(r"\((default:.*|required)\)\s*$", own, re.DOTALL)
    text = words if default is None or words.endswith("(required)") else f"{words} {' '.join(default[0].split())}"
    return f"{option}\n{textwrap.fill(text, 80, initial_indent=' ' * 8, subsequent_indent=' ' * 8)}"


def _fail(message: str, status: int = 2) -> None:
    print(f"plainvision: {shown_lines(message)}", file=sys.stderr)
    sys.exit(status)


def _is_ours(error: BaseException) -> bool:
    """Return whether this package raised an error."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(Path(__file__).parents[1])


@contextlib.contextmanager
def _plain_unless_seen() -> Iterator[None]:
    """Let tyro colour its words only where both outputs are a terminal: it asks one, and writes to the other too."""
    if sys.stdout.isatty() and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        yield
        return
    terminal = os.environ.get("TERM")
    os.environ["TERM"] = "dumb"
    try:
        yield
    finally:
        os.environ.pop("TERM")
        if terminal is not None:
            os.environ["TERM"] = terminal
