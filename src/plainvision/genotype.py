"""Cells of a searched network: the space that they come from, and the genotype, which says what they are.

Paper    Liu et al. 2019, "DARTS", https://arxiv.org/abs/1806.09055, sections 2.1 and 3.1
         Han et al. 2022, "Learning Features with Parameter-Free Layers", https://arxiv.org/abs/2202.02777, which
         searches with individual cells too
Sources  of a cell are numbered: 0 is the output of the cell before the last one, 1 that of the last one; 2 and up are
         the cell's own nodes, each the sum of two operations on sources before it
File     JSON: kind, version, space, origin, and each cell as its nodes, a node as two pairs of operation and source

No torch here, and so above no room that imports it: the command line reads this before anything heavy is imported.
"""

import json
import random
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from plainvision.fields import from_plain
from plainvision.files import object_of, write_json

Operation = Literal[
    "none", "skip", "max_pool_3x3", "avg_pool_3x3", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"
]
Sharing = Literal["shared", "individual"]

OPERATIONS: tuple[Operation, ...] = get_args(Operation)
NONE: Operation = "none"
INPUTS = 2
"""Sources of a cell that are outputs of other cells."""
EDGES = 2
"""Operations whose sum a node is."""
MOST_CELLS = 1000
KIND = "plainvision cells"
VERSION = 1


@dataclass(frozen=True)
class CellSpace:
    """The cells that a search can find; a ValueError where no network of such cells can be built."""

    cells: Sharing = "shared"
    """One normal cell for all places, or one for each; the reduction cell is one in both."""
    depth: int = 8
    """Cells of the searched network, one behind the other."""
    nodes: int = 4
    """Nodes of a cell."""
    operations: tuple[Operation, ...] = OPERATIONS
    """The candidates on each edge."""

    def __post_init__(self) -> None:
        if self.cells not in get_args(Sharing):
            raise ValueError(f"cells={self.cells!r} must be {' or '.join(get_args(Sharing))}.")
        check_depth(self.depth)
        if self.nodes < 1:
            raise ValueError(f"nodes={self.nodes}: a cell is made of its nodes. Give 1 or more.")
        unknown = [name for name in self.operations if name not in OPERATIONS]
        if unknown:
            raise ValueError(f"unknown operation {unknown[0]!r}; there are {', '.join(OPERATIONS)}.")
        twice = [name for name in self.operations if self.operations.count(name) > 1]
        if twice or not self.choices:
            what = f"names {twice[0]} twice" if twice else "leaves nothing to choose, because `none` is never chosen"
            raise ValueError(
                f"operations={self.operations} {what}. Give each candidate once, and one beside `none` at least."
            )

    @property
    def choices(self) -> tuple[Operation, ...]:
        """The operations that an edge can end up with: `none` only weakens an edge (DARTS, section 2.4)."""
        return tuple(name for name in self.operations if name != NONE)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Each (node, source) between which a search can choose; a node sees all sources before it."""
        return tuple((node, source) for node in range(self.nodes) for source in range(INPUTS + node))

    @property
    def normal_cells(self) -> int:
        """How many different normal cells there are."""
        return 1 if self.cells == "shared" else self.depth - len(reductions(self.depth))


def check_depth(depth: int) -> None:
    """Raise a ValueError unless ``depth`` cells have room for both kinds and are few enough to train."""
    if depth < 3:
        raise ValueError(f"depth={depth}: a network has two reduction cells and a normal one at least. Give 3 or more.")
    if depth > MOST_CELLS:
        raise ValueError(f"depth={depth}: no machine trains so many cells. Give {MOST_CELLS} or fewer.")


def reductions(depth: int) -> tuple[int, int]:
    """Return the places, from 0, of the reduction cells: a third and two thirds down the network (section 3.1)."""
    return depth // 3, 2 * depth // 3


def has_parameters(operation: str, source: int, *, reduction: bool) -> bool:
    """Return whether an operation on ``source`` has weights to learn.

    In a reduction cell whatever reads an input halves its size, and a skip needs 1x1 convolutions to do that.
    """
    if operation == "skip":
        return reduction and source < INPUTS
    return "conv" in operation


class Edge(NamedTuple):
    """One operation on one source of a cell."""

    operation: str
    source: int
    """0 and 1 are the outputs of the two cells before, 2 and up the nodes of this one."""


Cell = tuple[tuple[Edge, ...], ...]  # the edges of each node


class PlacedCell(NamedTuple):
    """A cell and its places in the network, from 1; a reduction cell halves height and width."""

    reduction: bool
    places: list[int]
    cell: Cell


@dataclass(frozen=True)
class Genotype:
    """The cells of a network; a ValueError where they are not of the space."""

    space: CellSpace
    normal: tuple[Cell, ...]
    """The normal cell, or with individual cells one for each of their places."""
    reduction: Cell
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

    def cells(self, depth: int | None = None) -> list[Cell]:
        """Return the cells of a network of ``depth`` cells, in order; None takes as many as were searched.

        Raises:
            ValueError: there is no network of so many cells, or individual cells belong to one of another depth.
        """
        shared, depth = self.space.cells == "shared", depth or self.space.depth
        check_depth(depth)
        if not shared and depth != self.space.depth:
            raise ValueError(
                f"depth={depth}, but these are the individual cells of a network of {self.space.depth}: each belongs "
                "to its place. Leave depth out, or search with shared cells, which can be repeated."
            )
        normal = iter(self.normal * depth if shared else self.normal)
        return [self.reduction if place in reductions(depth) else next(normal) for place in range(depth)]

    def different_cells(self) -> list[PlacedCell]:
        """Return each different cell with its places: the normal ones in order, the reduction cell last."""
        small = [place + 1 for place in reductions(self.space.depth)]
        large = [place for place in range(1, self.space.depth + 1) if place not in small]
        places = [large] if self.space.cells == "shared" else [[place] for place in large]
        normal = [PlacedCell(False, own, cell) for own, cell in zip(places, self.normal, strict=True)]
        return [*normal, PlacedCell(True, small, self.reduction)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        own = {name: getattr(self, name) for name in ("origin", "normal", "reduction")}
        plain = {"kind": KIND, "version": VERSION, "space": asdict(self.space), **own}
        return json.loads(json.dumps(plain))  # tuples become lists

    def text(self) -> str:
        """Return the genotype as one line, without its origin: a network's option that needs no file."""
        return json.dumps(self.to_dict() | {"origin": {}}, separators=(",", ":"))

    def save(self, path: str | Path) -> None:
        """Write the genotype to a file, whole or not at all; an OSError says why it cannot be written."""
        write_json(path, self.to_dict())


def load_genotype(source: str | Path, *, space: CellSpace | None = None) -> Genotype:
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
    try:
        own = {key: value for key, value in found.items() if key not in ("kind", "version")}
        needed = fields(CellSpace) if isinstance(own.get("space"), dict) else ()
        if lost := [field.name for field in needed if field.name not in own["space"]]:
            raise ValueError(f"its space lacks the field {lost[0]!r}.")  # and would take the default
        genotype = from_plain(Genotype, own, "it")
    except ValueError as error:
        raise ValueError(f"{name} is damaged: {error}") from error
    if space is not None and genotype.space != space:
        there, here = asdict(genotype.space), asdict(space)
        what = ", ".join(f"{key} ({there[key]} there, {here[key]} here)" for key in here if there[key] != here[key])
        raise ValueError(f"{name} belongs to another search; it differs in {what}. Give this search's own genotype.")
    return genotype


def random_genotype(space: CellSpace, seed: int) -> Genotype:
    """Return cells drawn uniformly: for each node two different sources, for each of them an operation."""
    chance = random.Random(seed)

    def draw() -> Cell:
        return tuple(
            tuple(Edge(chance.choice(space.choices), source) for source in sorted(chance.sample(range(INPUTS + i), 2)))
            for i in range(space.nodes)
        )

    return Genotype(space, tuple(draw() for _ in range(space.normal_cells)), draw(), {"random": seed})


def _check_cell(cell: Cell, space: CellSpace, name: str) -> None:
    if len(cell) != space.nodes:
        raise ValueError(f"{name} has {len(cell)} nodes, and cells of this search have {space.nodes}.")
    for number, node in enumerate(cell):
        where = f"node {number + 1} of {name}"
        for operation in (edge.operation for edge in node if edge.operation not in space.choices):
            why = "means no edge at all" if operation == NONE else "was no candidate of this search"
            raise ValueError(f"{where} has {operation!r}, which {why}; there are {', '.join(space.choices)}.")
        sources = [edge.source for edge in node]
        if len(set(sources)) != EDGES or len(sources) != EDGES or not set(sources) <= set(range(INPUTS + number)):
            raise ValueError(
                f"{where} reads the sources {sources}; it needs {EDGES} different ones of 0 to {INPUTS + number - 1}."
            )
