"""Cards of networks: counted costs, and accuracies with their source."""

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from plainvision.inspection.counting import count_macs, count_parameters
from plainvision.inspection.depth import count_depth
from plainvision.models.registry import Measured, Published, create_model, family_of, published


@dataclass(frozen=True)
class Card:
    """Facts about one network; costs are counted, accuracies quoted."""

    name: str
    """The network's name."""
    family: str
    """Its family, "timm" for timm's."""
    params: int
    """Parameters, in the form that the paper counts: the deployed one, for VanillaNet."""
    macs: int
    """Multiply-adds of one image in that form; papers call them FLOPs."""
    training_params: int
    """Parameters of the training form."""
    training_macs: int
    """Multiply-adds of one image in the training form."""
    image_size: int
    """Side of that image, in pixels."""
    top1: float | None
    """Published ImageNet-1k top-1 accuracy, per cent; None where we know of none."""
    source: str
    """Where the accuracy is published."""
    note: str
    """What else a user should know."""
    latency: Measured | None = None
    """Published milliseconds of a pass in that form, and where they were measured."""
    memory: Measured | None = None
    """Published peak memory of a pass in that form, with weights and images, in MB (1e6 bytes)."""


@cache
def card(name: str) -> Card:
    """Return the card of a network, ours or timm's; it is built without memory, and counted.

    Raises:
        ValueError: there is no such network.
    """
    training = _on_meta(name, {})
    cfg: Any = training.pretrained_cfg  # every network that timm builds has one
    paper = published(name) or Published(top1=None, source="", image_size=cfg["input_size"][-1])
    form = _on_meta(name, paper.form) if paper.form else training
    return Card(
        name=name,
        family=family_of(name) or "timm",
        params=count_parameters(form),
        macs=count_macs(form, paper.image_size),
        training_params=count_parameters(training),
        training_macs=count_macs(training, paper.image_size),
        image_size=paper.image_size,
        top1=paper.top1,
        source=paper.source,
        note=paper.note,
        latency=paper.latency,
        memory=paper.memory,
    )


@cache
def depth(name: str) -> int | None:
    """Return the layers in a row of the form that the card of a network counts, as `count_depth` does.

    Raises:
        ValueError: there is no such network.
    """
    paper = published(name)
    return count_depth(_on_meta(name, paper.form if paper else {}), card(name).image_size)


def _on_meta(name: str, options: dict) -> nn.Module:
    with torch.device("meta"), warnings.catch_warnings():
        # Initialising a weight that has no memory is a no-op, of which torch warns.
        warnings.simplefilter("ignore")
        return create_model(name, **options)
