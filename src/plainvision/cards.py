"""A network's card: what it costs, what it scores, and who says so."""

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from plainvision.inspection.counting import count_macs, count_parameters
from plainvision.models.registry import create_model, family_of, published


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


@cache
def card(name: str) -> Card:
    """Return the card of a network, ours or timm's; it is built without memory, and counted.

    Raises:
        ValueError: there is no such network.
    """
    paper = published(name)
    training = _on_meta(name, {})
    form = _on_meta(name, paper.form) if paper is not None and paper.form else training
    size = paper.image_size if paper is not None else _input_size(training)
    return Card(
        name=name,
        family=family_of(name) or "timm",
        params=count_parameters(form),
        macs=count_macs(form, size),
        training_params=count_parameters(training),
        training_macs=count_macs(training, size),
        image_size=size,
        top1=paper.top1 if paper is not None else None,
        source=paper.source if paper is not None else "",
        note=paper.note if paper is not None else "",
    )


def _input_size(model: nn.Module) -> int:
    config: Any = model.pretrained_cfg  # every network that timm builds has one
    return config["input_size"][-1]


def _on_meta(name: str, options: dict) -> nn.Module:
    with torch.device("meta"), warnings.catch_warnings():
        # Initialising a weight that has no memory is a no-op, of which torch warns.
        warnings.simplefilter("ignore")
        return create_model(name, **options)
