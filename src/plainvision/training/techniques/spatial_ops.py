"""Replace the spatial operation of chosen blocks before a network trains (arXiv:2202.02777, section 3)."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from plainvision.training.techniques.technique import NoEffectWarning, Technique

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SpatialOps(Technique):
    """Put another spatial operation into chosen blocks before training."""

    op: str
    """max, avg, identity, depthwise, conv or attention."""
    where: str | int | tuple[str | int, ...] | None = None
    """Which blocks, by name, pattern, number or kind, as `plainvision.surgery.spatial_op` has it; None takes all."""
    drop_norm_act: bool = False
    """Drop the norm and the activation behind a convolution that max, avg or identity replaces, as in the paper."""
    image_size: Annotated[int | None, 8, 1024] = None
    """Side of the image that is passed through once, to see how the network is wired; None is the network's own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.where, list):  # as JSON has it
            object.__setattr__(self, "where", tuple(self.where))

    def build(self, model: "nn.Module") -> "nn.Module":
        from plainvision.surgery.spatial_ops import spatial_op

        changed = spatial_op(model, self.op, self.where, drop_norm_act=self.drop_norm_act, image_size=self.image_size)
        if not changed.report.changed:  # type: ignore[union-attr]
            warnings.warn(
                f"{self} changed nothing in {type(model).__name__}: these blocks have {self.op!r} already. Drop it, or "
                "choose another operation.",
                NoEffectWarning,
                stacklevel=2,
            )
        return changed
