"""Settings of a cell search, and of the training that follows it.

No torch here; the words beneath the fields are the command line's help.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from plainvision.fields import Ranges, check_ranges
from plainvision.genotype import MOST_CELLS, OPERATIONS, CellSpace, Operation, Sharing
from plainvision.training.recipe import RANGES, Augment, Data

# Least and largest value of each number, the bounds included: those of a recipe, and of what only cells have.
_BOTH = {"channels": (1, 10_000)} | {
    key: RANGES[key] for key in ("epochs", "batch_size", "lr", "weight_decay", "clip_grad")
}
_BUDGET: Ranges = _BOTH | {
    "label_smoothing": RANGES["label_smoothing"],
    "depth": (1, MOST_CELLS),
    "seeds": (1, 10**6),
}
_SEARCH: Ranges = _BOTH | {
    "momentum": RANGES["momentum"],
    "nodes": (1, 100),
    "architecture_lr": RANGES["lr"],
    "architecture_betas": RANGES["betas"],
    "architecture_weight_decay": RANGES["weight_decay"],
    "seed": (0, 2**63 - 1),
    "checkpoint_steps": (1, 10**9),
}


@dataclass(frozen=True)
class CellSearch:
    """Everything that decides the result of a search (DARTS, arXiv:1806.09055, first order).

    The defaults are the paper's for CIFAR-10 (section 3.1 and appendix A.1.1), but for data and augmentation. The
    gradient's limit is that of the authors' code.

    Raises:
        ValueError: a value that cannot work.
    """

    data: Data = field(default_factory=lambda: Data(image_size=32, crop_ratio=1.0))
    """Where the images come from. The search reads the training split only."""
    augment: Augment = field(default_factory=lambda: Augment(scale=(0.5, 1.0)))
    """What the search does to an image; without Mixup, CutMix and repeats."""
    cells: Sharing = "shared"
    """One normal cell for all places, or one for each of them; the reduction cell is one in both."""
    depth: int = 8
    """Cells of the network, one behind the other; those at one and two thirds reduce."""
    nodes: int = 4
    """Nodes of a cell."""
    channels: int = 16
    """Channels of a node in the first cell; reduction cells double them."""
    stem_stride: Literal[1, 2, 4, 8] = 1
    """By how much the image is made smaller before the first cell: 1 for small images, 8 for 224 pixels."""
    operations: tuple[Operation, ...] = OPERATIONS
    """The candidates on each edge."""
    epochs: int = 50
    """Passes over the half of the training images that the weights learn from."""
    batch_size: int = 64
    """Images of each half per step."""
    lr: float = 0.025
    """First learning rate of the weights; falls to zero along a cosine."""
    momentum: float = 0.9
    """Momentum of the weights."""
    weight_decay: float = 3e-4
    """Weight decay of the weights."""
    clip_grad: float | None = 5.0
    """Largest norm of the weights' gradient; None does not clip."""
    architecture_lr: float = 3e-4
    """Learning rate of the architecture, by Adam. Short searches need a higher one."""
    architecture_betas: tuple[float, float] = (0.5, 0.999)
    """Adam's betas for the architecture."""
    architecture_weight_decay: float = 1e-3
    """Weight decay of the architecture."""
    seed: int = 0
    """Decides the halves, the initial weights, order and augmentation."""
    checkpoint_steps: int | None = 100
    """Save the full state every so many steps too, beside the end of each epoch."""

    def __post_init__(self) -> None:
        check_ranges(self, _SEARCH, "")
        if self.augment.mixup or self.augment.cutmix or self.augment.repeats > 1:
            raise ValueError(
                "a search learns from single images: augment.mixup and augment.cutmix must be 0 and augment.repeats 1. "
                "The networks that are trained afterwards may have them."
            )
        _ = self.space  # which raises what is wrong with it

    @property
    def space(self) -> CellSpace:
        """The cells that the search can find."""
        return CellSpace(self.cells, self.depth, self.nodes, self.operations)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values that JSON can hold."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


@dataclass(frozen=True)
class Budget:
    """What each network is trained with after the search: the same for the found cells and for random ones.

    Raises:
        ValueError: a value that cannot work.
    """

    channels: int = 16
    """Channels of a node in the first cell."""
    depth: int | None = None
    """Cells of the network; None is as many as were searched. Only shared cells can be repeated."""
    epochs: int = 100
    """Passes over the training images, of which both halves are used now."""
    batch_size: int = 96
    """Images per step."""
    lr: float = 0.025
    """Peak learning rate of SGD with momentum; falls to zero along a cosine."""
    weight_decay: float = 3e-4
    """Weight decay."""
    clip_grad: float | None = 5.0
    """Largest norm of the gradient; None does not clip."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    augment: Augment = field(default_factory=lambda: Augment(scale=(0.5, 1.0)))
    """What training does to an image."""
    seeds: int = 3
    """Trains the found cells so often, and as many random ones, each drawn anew."""

    def __post_init__(self) -> None:
        check_ranges(self, _BUDGET, "training.")
