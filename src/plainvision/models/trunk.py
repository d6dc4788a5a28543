"""A network within another, whose weights may be trained before those around it: the backbone of a detector."""

from torch import nn


class Trunk(nn.Module):
    """Extended by what holds a backbone, in `network`, and makes something of its features by layers of its own."""

    network: nn.Module


def trunks(model: nn.Module) -> list[nn.Module]:
    """Return the networks within ``model`` around which others stand; a plain classifier has none."""
    return [part.network for part in model.modules() if isinstance(part, Trunk)]
