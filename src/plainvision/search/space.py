"""What cells may look like: the operations, the nodes, and which cells of a network are one and the same.

Paper    Liu et al. 2019, "DARTS", https://arxiv.org/abs/1806.09055, sections 2.1 and 3.1
         Han et al. 2022, "Learning Features with Parameter-Free Layers", https://arxiv.org/abs/2202.02777, which
         searches with individual cells too
Words    a cell's sources are numbered: 0 is the output of the cell before the last one, 1 that of the last one, 2 and
         up are the cell's own nodes, each the sum of two operations on sources before it

No torch here: the command line reads this before anything heavy is imported.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Operation = Literal[
    "none",
    "skip",
    "max_pool_3x3",
    "avg_pool_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
]
Sharing = Literal["shared", "individual"]

OPERATIONS: tuple[Operation, ...] = get_args(Operation)
NONE: Operation = "none"
INPUTS = 2
"""Sources of a cell that are outputs of other cells."""
EDGES = 2
"""Operations that a node adds up."""
MOST_CELLS = 1000


@dataclass(frozen=True)
class Space:
    """The cells that a search can find.

    Raises:
        ValueError: a network of such cells cannot be built.
    """

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
        twice = [name for place, name in enumerate(self.operations) if name in self.operations[:place]]
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
    """Check that a network of ``depth`` cells has normal and reduction cells.

    Raises:
        ValueError: it has not, or it has more cells than any machine trains.
    """
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
