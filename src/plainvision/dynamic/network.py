"""A trained network whose sites can be configured for each image, its weights untouched (arXiv:2103.09891)."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, fx, nn

from plainvision.dynamic.cost import Costs, feasible
from plainvision.dynamic.levels import Levels, configured
from plainvision.dynamic.sites import Site, find_sites, followers
from plainvision.dynamic.space import Space
from plainvision.inspection.eval_mode import eval_mode
from plainvision.inspection.tracing import example_input, own_copy, replace_layer, trace_graph
from plainvision.layers.dynamic_conv import ATTRIBUTES, DynamicLayer, Option, dynamic_layer


class NotTracedWarning(UserWarning):
    """The network cannot be traced, so that permutations share no work."""


class DynamicNetwork(nn.Module):
    """A network with sites that may change: images (B, C, H, W) -> logits (B, K), as it is configured.

    It begins as it was trained, to the bit. The network given stays as it is. Source: section 3.

    Args:
        model: a trained classifier of ours, timm or torchvision.
        sites: layers by name, or `Site` values; None takes those of a known network, see `plainvision.dynamic.sites`.
        space: the options of each site, or an attribute, "stride", "dilation" or "size", for the paper's options.
        image_size: side or (H, W) of the images in pixels, which decides what permutations cost; None is the network's
            own.
        channels: of the images; None is the network's own.
        name: what to call the network in records; None takes timm's name or that of its class.

    Attributes:
        model: the network itself, with dynamic layers.
        sites: the sites by name.
        space: the options.
        trained: what each site was trained with.
        image_size: (H, W) of the images that permutations are counted for, in pixels.
        default: the permutation of the trained network.
        permutations: every permutation that can be computed, within the space's bound on memory.
        left_out: how many cannot, by reason.
        macs: multiply-adds of each permutation for one image, (P,).
        static_macs: those of the trained network.

    Raises:
        ValueError: a site or layer that does not exist or cannot change so, or no permutation can be computed.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        sites: Mapping[str, str | Site] | Sequence[str] | None = None,
        space: Space | str = "stride",
        image_size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.space = Space.paper(space) if isinstance(space, str) else space
        self.model = own_copy(model)
        cfg = getattr(self.model, "pretrained_cfg", None) or {}  # timm's convention, which other networks do not share
        self.name = name or cfg.get("architecture") or type(self.model).__name__
        self.sites = find_sites(self.model, sites)
        self.trained, self._graph = _make_dynamic(self.model, self.sites, self.space.attributes)
        self.options = self.space.options(self.trained)
        self.default = self.space.default(self.trained)
        images = example_input(self.model, 1, image_size, channels)
        self.image_size = tuple(images.shape[2:])
        costs = self.costs(images)
        static = costs(self.default)
        if static.problem is not None:
            raise ValueError(
                f"{self.name} cannot take images of {'x'.join(map(str, images.shape[1:]))} at all: {static.problem}. "
                "Give the image_size, and the channels, that it was trained for."
            )
        wanted = self.space.permutations(self.trained)
        self.permutations, found, self.left_out = feasible(costs, wanted, self.default, self.space.max_activations)
        if not self.permutations:
            reasons = "; ".join(f"{count}: {reason}" for reason, count in self.left_out.items())
            raise ValueError(
                f"none of {len(wanted)} permutations can be computed ({reasons}). Give other options, or larger images."
            )
        self.macs = np.array([cost.macs for cost in found], dtype=np.int64)
        self.static_macs = static.macs

    @cached_property
    def levels(self) -> Levels:
        """The network's graph, cut at its sites; the first use warns where it has none."""
        levels = Levels(self.model, self._graph)
        if not levels.traced:
            warnings.warn(
                f"{self.name} decides in its pass what to compute, so that its permutations cannot share work: each "
                "takes a whole pass. The results are the same.",
                NotTracedWarning,
                stacklevel=2,
            )
        return levels

    @property
    def fingerprint(self) -> str:
        """A hash of the weights as they are now, by which outcomes know their network."""
        digest = hashlib.sha256()
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def described_sites(self) -> dict[str, str]:
        """The layers that change at each site, in words."""
        layers = {
            label: [name for a in self.space.attributes if (name := getattr(site, a)) is not None]
            for label, site in self.sites.items()
        }
        return {label: " and ".join(dict.fromkeys(names)) for label, names in layers.items()}

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def configure(self, permutation: Mapping[str, float | Option | Mapping[str, float]]) -> AbstractContextManager:
        """Configure the sites from now on, or within ``with`` only; a site that is not named is as it was trained.

        Args:
            permutation: by site the value of the attribute that changes, or where several do an `Option` or values by
                attribute.

        Raises:
            ValueError: an unknown site, or an option that it does not have.
        """
        if unknown := [site for site in permutation if site not in self.sites]:
            raise ValueError(f"unknown site {unknown[0]!r}: {self.name} has {', '.join(self.sites)}.")
        default = dict(zip(self.sites, self.default, strict=True))
        options = default | {site: self._option(site, value) or default[site] for site, value in permutation.items()}
        for site, option in options.items():
            if option not in (*self.options[site], default[site]):
                raise ValueError(
                    f"site {site} has no option {option}: it has {', '.join(map(str, self.options[site]))}. Choose "
                    "one, or make the DynamicNetwork with a space that holds it."
                )
        return configured(self.model, options)

    def costs(self, images: Tensor) -> Costs:
        """Return the costs of permutations for images of that shape."""
        return Costs(Levels(self.model, self._graph), tuple(self.sites), images)

    def _option(self, site: str, value: float | Option | Mapping[str, float]) -> Option | None:
        """Return what a site is to be configured as, None for what it was trained with."""
        if isinstance(value, Option):
            return None if value == Option() else value
        if isinstance(value, Mapping):
            if unknown := [name for name in value if name not in ATTRIBUTES]:
                raise ValueError(
                    f"unknown attribute {unknown[0]!r} at site {site}: it is one of {', '.join(ATTRIBUTES)}."
                )
            return Option(**value)  # type: ignore[arg-type]
        if not isinstance(value, int | float):
            raise ValueError(f"site {site}: {value!r} is no number. Give one, an `Option`, or values by attribute.")
        if len(self.space.attributes) > 1:
            raise ValueError(
                f"site {site}: {value} could be any of {', '.join(self.space.attributes)}. Give them by name, for "
                f"instance {{'{site}': {{'{self.space.attributes[0]}': {value}}}}}."
            )
        return Option(**{self.space.attributes[0]: value})  # type: ignore[arg-type]


def _make_dynamic(
    model: nn.Module, sites: Mapping[str, Site], attributes: Sequence[str]
) -> tuple[dict[str, Option], fx.Graph | None]:
    """Put dynamic layers into ``model``; return what each site was trained with, and the graph of the result."""
    takes: dict[str, tuple[str, list[str]]] = {}
    trained = {}
    for label, site in sites.items():
        values = {}
        for attribute in attributes:
            name = getattr(site, attribute)
            if name is None:
                continue
            values[attribute] = getattr(_dynamic(model, name, label).trained, attribute)
            if values[attribute] is None:
                raise ValueError(
                    f"site {label}: {name} ({type(model.get_submodule(name)).__name__}) has no {attribute} that could "
                    "change. Name a convolution, or leave the attribute out."
                )
            _take(takes, name, label, attribute)
        trained[label] = Option(**values)
    for name, (label, _) in takes.items():
        replace_layer(model, name, _dynamic(model, name, label))
    # Now that the sites are nodes of their own. What follows them are nodes already, and stay such.
    with eval_mode(model):  # in training some networks have further outputs
        graph = trace_graph(model)
    for label, site in sites.items():
        if "stride" in attributes and site.stride is not None:
            found = () if graph is None else followers(model, graph, site.stride)
            for name in found if site.follow is None else site.follow:
                _take(takes, name, label, "stride")
    for name, (label, taken) in takes.items():
        layer = _dynamic(model, name, label)
        layer.site, layer.takes = label, tuple(taken)
        replace_layer(model, name, layer)
    return trained, graph


def _take(takes: dict[str, tuple[str, list[str]]], layer: str, label: str, attribute: str) -> None:
    """Let a layer take an attribute of a site."""
    owner, taken = takes.setdefault(layer, (label, []))
    if owner != label:
        raise ValueError(
            f"{layer} would belong to the sites {' and '.join(sorted((owner, label)))}. Let one of them go, or say "
            "with `Site(follow=...)` which layers follow which."
        )
    taken.append(attribute)


def _dynamic(model: nn.Module, name: str, label: str) -> DynamicLayer:
    try:
        return dynamic_layer(model.get_submodule(name))
    except ValueError as error:
        raise ValueError(f"site {label}, {name}: {error}") from error
