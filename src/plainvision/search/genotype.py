"""A genotype: the cells that were found, or drawn at random, and the file that holds them.

The file is JSON: what kind it is and of which version, the space and the settings of the search, and for each cell
its nodes, each with its two operations and their sources.
"""

import json
import random
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from plainvision.fields import from_plain
from plainvision.files import object_of, write_json
from plainvision.search.space import EDGES, INPUTS, NONE, OPERATIONS, Space, reductions

KIND = "plainvision cells"
VERSION = 1


@dataclass(frozen=True)
class Edge:
    """One operation on one source of a cell."""

    operation: str
    """One of the space's choices."""
    source: int
    """0 and 1 are the outputs of the two cells before, 2 and up the nodes of this one."""


Cell = tuple[tuple[Edge, ...], ...]  # the edges of each node


@dataclass(frozen=True)
class Genotype:
    """The cells of a network.

    Raises:
        ValueError: they are not of the space.
    """

    space: Space
    """Where they were looked for."""
    normal: tuple[Cell, ...]
    """The normal cell, or with individual cells one for each of their places."""
    reduction: Cell
    """The reduction cell."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Where they come from: the settings of the search and its epoch, or the seed of a random choice."""

    def __post_init__(self) -> None:
        if len(self.normal) != self.space.normal_cells:
            raise ValueError(
                f"{len(self.normal)} normal cells, where a network of {self.space.depth} {self.space.cells} cells has "
                f"{self.space.normal_cells} to tell apart. Take the genotype and the space of one search."
            )
        for number, cell in enumerate(self.normal):
            _check_cell(cell, self.space, f"normal cell {number + 1}")
        _check_cell(self.reduction, self.space, "the reduction cell")

    def cell(self, place: int, depth: int) -> Cell:
        """Return the cell at ``place``, from 0, of a network of ``depth`` cells.

        Raises:
            ValueError: individual cells have their places in a network of another depth.
        """
        if self.space.cells == "individual" and depth != self.space.depth:
            raise ValueError(
                f"depth={depth}, but these are the individual cells of a network of {self.space.depth}: each belongs "
                "to its place. Leave depth out, or search with shared cells, which can be repeated."
            )
        small = reductions(depth)
        if place in small:
            return self.reduction
        return self.normal[0 if self.space.cells == "shared" else place - sum(other < place for other in small)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {
            "kind": KIND,
            "version": VERSION,
            "space": json.loads(json.dumps(asdict(self.space))),
            "origin": self.origin,
            "normal": [_plain(cell) for cell in self.normal],
            "reduction": _plain(self.reduction),
        }

    def text(self) -> str:
        """Return the genotype as one line, without its origin: a network's option that needs no file."""
        return json.dumps(self.to_dict() | {"origin": {}}, separators=(",", ":"))

    def save(self, path: str | Path) -> None:
        """Write the genotype to a file, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        write_json(Path(path), self.to_dict())


def load_genotype(source: str | Path, *, space: Space | None = None) -> Genotype:
    """Return the genotype in a file, or in the text that `Genotype.text` returned.

    Args:
        source: path of the file, or the text itself.
        space: the space that it has to be of; None takes any.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, of another kind or version, or of another search.
    """
    inline = str(source).lstrip().startswith("{")
    name = "the genotype" if inline else str(source)
    if not inline and not Path(source).is_file():
        raise FileNotFoundError(f"no genotype at {source}. Give the genotype.json of a search, or its text.")
    found = object_of(str(source) if inline else Path(source).read_bytes(), name)
    if found.get("kind") != KIND:
        raise ValueError(f"{name} is JSON of another kind, not a genotype. Give the genotype.json of a search.")
    if found.get("version") != VERSION:
        raise ValueError(
            f"{name} has version {found.get('version')!r} of the format, and this is plainvision's version {VERSION}. "
            "Load it with the version of plainvision that wrote it."
        )
    genotype = _from_dict(found, name)
    if space is not None and genotype.space != space:
        there, here = asdict(genotype.space), asdict(space)
        what = ", ".join(f"{key} ({there[key]} there, {here[key]} here)" for key in here if there[key] != here[key])
        raise ValueError(f"{name} belongs to another search; it differs in {what}. Give this search's own genotype.")
    return genotype


def random_genotype(space: Space, seed: int) -> Genotype:
    """Return cells drawn uniformly: for each node two different sources, for each of them an operation."""
    chance = random.Random(seed)

    def draw() -> Cell:
        return tuple(
            tuple(Edge(chance.choice(space.choices), source) for source in sorted(chance.sample(range(INPUTS + i), 2)))
            for i in range(space.nodes)
        )

    return Genotype(space, tuple(draw() for _ in range(space.normal_cells)), draw(), {"random": seed})


def _from_dict(found: dict[str, Any], name: str) -> Genotype:
    try:
        plain = from_plain(_File, found, "it")
        if lost := [field.name for field in fields(Space) if field.name not in found["space"]]:
            raise ValueError(f"its space lacks the field {lost[0]!r}.")  # and would take the default
        return Genotype(plain.space, tuple(map(_cell, plain.normal)), _cell(plain.reduction), plain.origin)
    except ValueError as error:
        raise ValueError(f"{name} is damaged: {error}") from error


@dataclass(frozen=True)
class _File:
    """The file, as JSON has it."""

    kind: str
    version: int
    space: Space
    origin: dict[str, Any]
    normal: tuple[tuple[tuple[tuple[str, int], ...], ...], ...]
    reduction: tuple[tuple[tuple[str, int], ...], ...]


def _cell(plain: tuple[tuple[tuple[str, int], ...], ...]) -> Cell:
    return tuple(tuple(Edge(operation, source) for operation, source in node) for node in plain)


def _plain(cell: Cell) -> list[list[list[Any]]]:
    return [[[edge.operation, edge.source] for edge in node] for node in cell]


def _check_cell(cell: Cell, space: Space, name: str) -> None:
    if len(cell) != space.nodes:
        raise ValueError(f"{name} has {len(cell)} nodes, and cells of this search have {space.nodes}.")
    for number, node in enumerate(cell):
        where = f"node {number + 1} of {name}"
        for edge in node:
            if edge.operation not in OPERATIONS:
                raise ValueError(f"{where} has the unknown operation {edge.operation!r}; there are {_list(space)}.")
            if edge.operation not in space.choices:
                why = "means no edge at all" if edge.operation == NONE else "was no candidate of this search"
                raise ValueError(f"{where} has {edge.operation!r}, which {why}; there are {_list(space)}.")
        sources = [edge.source for edge in node]
        if len(set(sources)) != EDGES or len(sources) != EDGES or not set(sources) <= set(range(INPUTS + number)):
            raise ValueError(
                f"{where} reads the sources {sources}; it needs {EDGES} different ones of 0 to {INPUTS + number - 1}."
            )


def _list(space: Space) -> str:
    return ", ".join(space.choices)
