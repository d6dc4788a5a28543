"""Options of the sites of a network, and their permutations (arXiv:2103.09891, section 3.1)."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plainvision.layers.dynamic_conv import ATTRIBUTES, Option, Permutation

# Section 3.1.
_PAPER: dict[str, tuple[float, ...]] = {
    "stride": (0.5, 1, 2, 3, 4),
    "dilation": (1, 2, 3, 4, 5),
    "size": (1, 3, 5, 7, 9),
}
# Of ResNet-50's 400 permutations at 224 pixels this leaves the 361 of the paper, which does not state its bound.
_MAX_ACTIVATIONS = 2.25
# A and B have no stride of 1/2, for the same reason.
_UPSAMPLE_FROM = 2

Values = Sequence[float] | Mapping[str, Sequence[float]] | None


@dataclass(frozen=True)
class Space:
    """Options of every site, and so all permutations: the product of the options over attributes and sites.

    Raises:
        ValueError: there is nothing that could change, or an attribute has no value.
    """

    stride: Values = None
    """Strides of all sites, or of each by its name; a site that is not named keeps its own. None keeps all."""
    dilation: Values = None
    """Dilations, likewise."""
    size: Values = None
    """Kernel sizes, likewise."""
    max_activations: float | None = None
    """Drop permutations whose activations exceed this multiple of the trained network's."""
    upsample_from: int = 0
    """Drop the stride 1/2 at the sites before this one, counted from 0."""
    chosen: tuple[Permutation, ...] | None = None
    """These permutations alone, which are no product."""

    def __post_init__(self) -> None:
        if self.chosen is not None and any(getattr(self, name) is not None for name in ATTRIBUTES):
            raise ValueError("a space is a product of options or a list of permutations: give one of them.")
        if not self.attributes:
            raise ValueError(
                "nothing changes in this space. Give stride, dilation or size, for instance Space(dilation=(1, 2, 3)), "
                "or Space.paper('stride')."
            )
        for name in self.attributes if self.chosen is None else ():
            values = getattr(self, name)
            for options in values.values() if isinstance(values, Mapping) else [values]:
                if isinstance(options, str | int | float) or not 0 < len(options) == len(set(options)):
                    raise ValueError(
                        f"{name}={options!r}: give one value or more, each once, for instance {name}=(1, 2, 3)."
                    )

    @classmethod
    def paper(cls, attribute: str) -> "Space":
        """Return the paper's space of one attribute, "stride", "dilation" or "size", for any number of sites.

        A stride of 1/2 is left out at the first two sites, and so is what needs too much memory; both are its rules,
        but not its figures (section 3.1).

        Raises:
            ValueError: there is no such attribute.
        """
        if attribute not in ATTRIBUTES:
            raise ValueError(f"unknown attribute {attribute!r}: it is one of {', '.join(ATTRIBUTES)}.")
        if attribute == "stride":
            return cls(stride=_PAPER["stride"], max_activations=_MAX_ACTIVATIONS, upsample_from=_UPSAMPLE_FROM)
        return cls(**{attribute: _PAPER[attribute]})  # type: ignore[arg-type]

    @classmethod
    def combined(cls, parts: Iterable[Sequence[Permutation]]) -> "Space":
        """Return the product of permutations that change different attributes of the same sites (eq. 2)."""
        return cls(chosen=tuple(_merged(permutations) for permutations in itertools.product(*parts)))

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that change."""
        if self.chosen is not None:
            given = [option for permutation in self.chosen for option in permutation]
            return tuple(name for name in ATTRIBUTES if any(getattr(o, name) is not None for o in given))
        return tuple(name for name in ATTRIBUTES if getattr(self, name) is not None)

    def options(self, trained: Mapping[str, Option]) -> dict[str, tuple[Option, ...]]:
        """Return the options of each site, in the order of the values given.

        Args:
            trained: what each site was trained with, in the order of the sites.

        Raises:
            ValueError: a site that does not exist is named, or a listed permutation has another number of sites.
        """
        if self.chosen is not None:
            if any(len(permutation) != len(trained) for permutation in self.chosen):
                raise ValueError(
                    f"the permutations of this space are for {len(self.chosen[0])} sites, and the network has "
                    f"{len(trained)}: {', '.join(trained)}. Use the sites that they were chosen for."
                )
            return {site: tuple(dict.fromkeys(p[i] for p in self.chosen)) for i, site in enumerate(trained)}
        values = {name: self._values(name, trained) for name in self.attributes}
        products = {site: itertools.product(*(by_site[site] for by_site in values.values())) for site in trained}
        return {
            site: tuple(Option(**dict(zip(values, combined, strict=True))) for combined in product)
            for site, product in products.items()
        }

    def permutations(self, trained: Mapping[str, Option]) -> tuple[Permutation, ...]:
        """Return every permutation, the last site's options changing fastest."""
        options = self.options(trained)
        return self.chosen if self.chosen is not None else tuple(itertools.product(*options.values()))

    def default(self, trained: Mapping[str, Option]) -> Permutation:
        """Return the permutation of the trained network."""
        return tuple(Option(**{name: getattr(own, name) for name in self.attributes}) for own in trained.values())

    def _values(self, name: str, trained: Mapping[str, Option]) -> dict[str, tuple[Any, ...]]:
        """Return one attribute's values of each site."""
        given = getattr(self, name)
        without = [site for site, own in trained.items() if getattr(own, name) is None]
        if not isinstance(given, Mapping):
            given = {site: given for site in trained if site not in without}
        if unknown := [site for site in given if site not in trained]:
            raise ValueError(f"unknown site {unknown[0]!r} in {name}: the sites are {', '.join(trained)}.")
        if wrong := [site for site in without if site in given]:
            raise ValueError(f"site {wrong[0]} has no layer whose {name} could change. Leave it out of {name}.")
        values = {site: tuple(given.get(site, (getattr(own, name),))) for site, own in trained.items()}
        if name == "stride":
            for site in list(values)[: self.upsample_from]:
                values[site] = tuple(value for value in values[site] if value != 0.5)
        return values


def to_plain(permutations: Sequence[Permutation]) -> list[list[dict[str, float]]]:
    """Return permutations as plain values that JSON can hold."""
    return [
        [{name: value for name, value in vars(option).items() if value is not None} for option in permutation]
        for permutation in permutations
    ]


def _merged(permutations: Sequence[Permutation]) -> Permutation:
    """Return one permutation with the attributes of several, site by site."""
    return tuple(
        Option(**{name: value for option in site for name, value in vars(option).items() if value is not None})
        for site in zip(*permutations, strict=True)
    )
