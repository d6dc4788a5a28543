"""Outcomes that `plainvision dynamic evaluate` wrote, as arguments."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from plainvision.commands.options.output import KeptOutputOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from plainvision.dynamic.outcomes import Outcomes

_FILE = "outcomes.safetensors"


@dataclass(frozen=True, kw_only=True)
class OutcomesOptions:
    """Outcomes to look at, and where what they say is written."""

    outcomes: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that `plainvision dynamic evaluate` wrote into, or outcomes.safetensors files; results go beside the
    first."""
    output: Annotated[KeptOutputOptions, tyro.conf.arg(name="")] = field(default_factory=KeptOutputOptions)
    """What is written."""

    def read(self, verb: str) -> "dict[str, Outcomes]":
        """Return outcomes by what tells them apart: what changes, the network, or the end of their path.

        Raises:
            ValueError: there is none, one is given twice, or a folder's evaluation is not finished.
            OSError: there is no such file, or the results can't be written.
        """
        from plainvision.dynamic.outcomes import Outcomes

        self.output.check()
        if not self.outcomes:
            raise ValueError(
                f"no outcomes. Give a folder that `plainvision dynamic evaluate` wrote into, for instance: plainvision "
                f"dynamic {verb} runs/stride"
            )
        files = [_file(path) for path in self.outcomes]
        if len({file.resolve() for file in files}) < len(files):
            raise ValueError(f"{' '.join(map(str, self.outcomes))} has the same outcomes twice. Give each once.")
        found = [Outcomes.load(file) for file in files]
        return dict(zip(_labels(files, found), found, strict=True))

    def write(
        self,
        command: list[str],
        claim: str,
        found: "Mapping[str, Outcomes]",
        figures: Mapping[str, Any],
        drawn: "Figure | None",
        names: tuple[str, str],
    ) -> None:
        """Write the record, ``figures`` beside the facts of the outcomes, and what is drawn, if anything.

        ``names`` are those of the figure's and the record's file, where none are given.
        """
        from plainvision.dynamic.tables import facts

        record = {"outcomes": {name: facts(one) for name, one in found.items()}, **figures}
        output = self.output.beside(self.outcomes[0], *names)
        output.write(claim, record, f"plainvision dynamic {shlex.join(command)}", drawn)


def _file(path: Path) -> Path:
    if path.is_file() or (path / _FILE).is_file():
        return path if path.is_file() else path / _FILE
    if (path / "evaluation.json").is_file():
        raise ValueError(f"the evaluation in {path} is not finished. Go on with the same command that began it.")
    from plainvision.files import nearby

    below = ", ".join(file.parent.name for file in sorted(path.glob(f"*/{_FILE}")))
    hint = (below and f" There are some in {below}.") if path.is_dir() else nearby(path)
    raise FileNotFoundError(
        f"no outcomes at {path}.{hint} Give a folder that `plainvision dynamic evaluate` wrote into, or its {_FILE}."
    )


def _labels(files: Sequence[Path], found: "Sequence[Outcomes]") -> list[str]:
    from plainvision.dynamic.tables import changed

    attributes, networks = [changed(one) for one in found], [one.network for one in found]
    if len(set(networks)) == 1:
        tried = [attributes]
    else:
        tried = [networks, [" ".join(pair) for pair in zip(networks, attributes, strict=True)]]
    whole = [file.absolute() for file in files]
    ends = [(file.parent if file.name == _FILE else file.with_suffix("")).parts for file in whole]
    tried += [["/".join(end[-length:]) for end in ends] for length in range(1, max(map(len, ends)) + 1)]
    return next(labels for labels in tried if len(set(labels)) == len(labels))
