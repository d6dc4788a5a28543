"""Sites and their options, as words: ``--stride A=1/2,1,2 B=1``, or ``--stride 1,2,3`` for all sites."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

    from plainvision.dynamic.network import DynamicNetwork
    from plainvision.dynamic.space import Space

Values = tuple[float, ...] | dict[str, tuple[float, ...]]

_HALF = ("1/2", "½")


@dataclass(frozen=True)
class ValuesOptions:
    """The values of what changes."""

    stride: tuple[str, ...] = ()
    """Change strides over these values: `1,2,3` at all sites, or site by site `A=1/2,1,2 B=1,2`; other sites keep
    their own."""
    dilation: tuple[str, ...] = ()
    """Dilations, likewise."""
    size: tuple[str, ...] = ()
    """Kernel sizes, likewise."""

    def values(self) -> dict[str, Values]:
        """Return the values of each attribute that has some; words that are none are a ValueError."""
        words = {"stride": self.stride, "dilation": self.dilation, "size": self.size}
        return {name: _values(given, f"--{name}") for name, given in words.items() if given}


@dataclass(frozen=True)
class SpaceOptions(ValuesOptions):
    """What changes, and where."""

    attribute: Literal["stride", "dilation", "size"] | None = None
    """Change this attribute over the values of arXiv:2103.09891; stride, when nothing else says what changes."""
    sites: tuple[str, ...] = ()
    """The layers that change, as `A=conv1 B=layer1.0.conv1`; by default those of a known network."""

    def values(self) -> dict[str, Values]:
        found = super().values()
        if found and self.attribute is not None:
            raise ValueError(
                f"--attribute {self.attribute} takes the values of the paper, and --{next(iter(found))} gives others. "
                "Give one of them."
            )
        return found

    def space(self) -> "Space":
        """Return the space of these options; what is wrong with them is a ValueError, as of `values`."""
        from plainvision.dynamic.space import Space

        values = self.values()
        return Space(**values) if values else Space.paper(self.attribute or "stride")  # type: ignore[arg-type]

    def network(
        self, model: "nn.Module", image_size: int, name: str | None, space: "Space | None" = None
    ) -> "DynamicNetwork":
        """Return the network with its sites, for images of that side; ``space`` goes before these options'."""
        from plainvision.dynamic.network import DynamicNetwork

        layers, space = self.layers(), space or self.space()
        return DynamicNetwork(model, sites=layers, space=space, image_size=image_size, name=name)

    def layers(self) -> dict[str, str] | None:
        """Return the layer of each site, None for those of a known network; one that is named twice is a ValueError."""
        if not self.sites:
            return None
        named = [word.partition("=") for word in self.sites]
        if not any(sign for _, sign, _ in named) and len(named) <= len(ascii_uppercase):
            return dict(zip(ascii_uppercase, self.sites, strict=False))
        if not all(site and layer for site, _, layer in named) or len({site for site, _, _ in named}) < len(named):
            raise ValueError(
                f"--sites {' '.join(self.sites)}: give each site once with its layer, for instance A=conv1 "
                "B=layer1.0.conv1, or layers alone, which are then called A, B, ..."
            )
        return {site: layer for site, _, layer in named}


def _values(words: Sequence[str], option: str) -> Values:
    """Return the values in words, of all sites or by site."""
    by_site: dict[str, tuple[float, ...]] = {}
    for word in words:
        site, sign, values = word.rpartition("=")
        if (sign and not site) or site in by_site or (not sign and len(words) > 1):
            raise ValueError(
                f"{option} {' '.join(words)}: give values without spaces for all sites, such as 1,2,3, or for each "
                "site once, such as A=1,2,3 B=1."
            )
        by_site[site] = _numbers(values, option)
    return by_site.get("") or by_site


def _numbers(word: str, option: str) -> tuple[float, ...]:
    try:
        numbers = [0.5 if part in _HALF else float(part) for part in word.split(",")]
    except ValueError as error:
        raise ValueError(
            f"{option}: {word!r} are no numbers. Give them with commas and without spaces, such as 1/2,1,2."
        ) from error
    if len(set(numbers)) < len(numbers) or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{option}: {word!r} has a value twice, or one that is no number. Give each one once.")
    return tuple(int(number) if number == int(number) else number for number in numbers)
