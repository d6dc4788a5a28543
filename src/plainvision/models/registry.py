"""Names of networks: ours by family, and every one of timm's."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import timm
from torch import nn

from plainvision.models.torchvision_classifiers import create_classifier, is_classifier, is_torchvision


class Measured(NamedTuple):
    """A cost that a paper measured."""

    value: float
    """Milliseconds of a pass, or MB (1e6 bytes)."""
    device: str
    """Where it was measured."""
    batch_size: int
    """Images per pass."""
    precision: str
    """no, amp, fp16 or bf16, as `plainvision bench` calls it."""
    source: str
    """Where that is written."""


@dataclass(frozen=True)
class Published:
    """What a paper says of one network."""

    top1: float | None
    """ImageNet-1k top-1 accuracy, per cent."""
    source: str
    """Where that is written."""
    form: dict[str, Any] = field(default_factory=dict)
    """Options of the form whose parameters and multiply-adds the paper counts."""
    image_size: int = 224
    """Side of the images, in pixels."""
    note: str = ""
    """What a user should know beside the figures."""
    latency: Measured | None = None
    """How long a pass takes."""
    memory: Measured | None = None
    """The peak memory of a pass, with weights and images."""


_FAMILIES: dict[str, dict[str, Published]] = {}


def add_family(family: str, networks: dict[str, Published]) -> None:
    """Add a family's networks; a ValueError where a name is taken, or timm does not know it."""
    for name in networks:
        taken = [other for other, names in _FAMILIES.items() if name in names]
        if taken or not timm.is_model(name):
            reason = f"the family {taken[0]!r} has it" if taken else "timm does not know it"
            raise ValueError(f"cannot add the network {name!r} of the family {family!r}: {reason}.")
    _FAMILIES[family] = networks


def list_models(family: str | None = None) -> list[str]:
    """Return the names of our networks, all or one family's.

    Raises:
        ValueError: there is no such family.
    """
    import plainvision.models  # noqa: F401  # registers every family

    if family is None:
        return [name for networks in _FAMILIES.values() for name in networks]
    if family not in _FAMILIES:
        raise ValueError(f"unknown family {family!r}; there are {', '.join(_FAMILIES)}.")
    return list(_FAMILIES[family])


def family_of(name: str) -> str | None:
    """Return the family of one of our networks, None for timm's."""
    list_models()
    return next((family for family, networks in _FAMILIES.items() if name in networks), None)


def published(name: str) -> Published | None:
    """Return what the paper says of one of our networks, None for timm's."""
    family = family_of(name)
    return None if family is None else _FAMILIES[family][name]


def is_known(name: str) -> bool:
    """Return whether there is a network of ours, timm's or torchvision's called ``name``."""
    list_models()  # registers ours
    return is_classifier(name) if is_torchvision(name) else timm.is_model(name.split(".")[0])


def create_model(name: str, **options: Any) -> nn.Module:
    """Build the network called ``name``, ours, timm's or torchvision/NAME; ``options`` are its own keyword arguments.

    Raises:
        ValueError: there is no such network, or it has no such option.
    """
    if is_torchvision(name):
        return _built(create_classifier, name, options)
    ours = list_models()
    if not timm.is_model(name.split(".")[0]) and not name.startswith(("hf-hub:", "hf_hub:", "local-dir:")):
        close = difflib.get_close_matches(name, ours, n=3) or difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else "`plainvision models` lists ours."
        raise ValueError(f"unknown model {name!r}. {hint}")
    return _built(timm.create_model, name, options)


def _built(build: Callable[..., nn.Module], name: str, options: dict[str, Any]) -> nn.Module:
    try:
        return build(name, **options)
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown is None:
            raise
        raise ValueError(
            f"{name} has no option {unknown[1]!r}. Leave it out; the signature of its class lists those it has."
        ) from error
