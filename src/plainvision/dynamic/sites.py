"""Sites of known networks, and the layers that follow them (arXiv:2103.09891, section 3.2 and appendix)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

import timm
import torchvision
from timm.models.resnet import Bottleneck
from torch import fx, nn

from plainvision.layers.dynamic_conv import DynamicLayer, dynamic_layer
from plainvision.models.patchconvnet import PatchConvNet
from plainvision.models.resnet_cifar import ResNetCifar
from plainvision.models.vanillanet import VanillaNet


@dataclass(frozen=True)
class Site:
    """The layers at one site, by the attribute that changes them; None where none can."""

    stride: str | None = None
    """Name of the layer whose stride changes."""
    dilation: str | None = None
    """Name of the layer whose dilation changes."""
    size: str | None = None
    """Name of the layer whose kernel size changes."""
    follow: tuple[str, ...] | None = None
    """Layers on parallel paths, which take the same stride; None finds them in the network's graph."""

    @classmethod
    def at(cls, layer: str) -> "Site":
        """Return the site of one convolution, all attributes of which change."""
        return cls(layer, layer, layer)


def find_sites(model: nn.Module, sites: Mapping[str, str | Site] | Sequence[str] | None) -> dict[str, Site]:
    """Return the sites of ``model`` by name: those given, or those of a known network.

    Args:
        model: ResNet (of bottlenecks or basic blocks), ResNeXt, MobileNetV2 or DenseNet of torchvision or timm;
            timm's EfficientNets; VanillaNet, PatchConvNet or our ResNet for CIFAR; any other with ``sites``.
        sites: layers by the site's name, or layers alone, which are then called A, B, C, ...

    Raises:
        ValueError: the network is none of these and no sites are given, or it has no such layer.
    """
    if sites is None:
        for kinds, find in _KNOWN:
            if isinstance(model, kinds) and (known := find(model)):
                return dict(zip(ascii_uppercase, known, strict=False))
        raise ValueError(
            f"no sites are known for {type(model).__name__}. Name them with `sites`, for instance sites={{'A': "
            f"'layer1.0.conv1'}}, or on the command line --sites A=layer1.0.conv1. {_candidates(model)}"
        )
    if isinstance(sites, str):
        raise ValueError(f"sites={sites!r} is one word. Give layers in a list, or by the site's name in a dict.")
    named = sites if isinstance(sites, Mapping) else dict(zip(ascii_uppercase, sites, strict=False))
    if not named or len(named) != len(sites):
        raise ValueError(f"sites={sites!r}: give from one site to {len(ascii_uppercase)}, or names for them.")
    found = {name: Site.at(site) if isinstance(site, str) else site for name, site in named.items()}
    layers = dict(model.named_modules())
    for name, site in found.items():
        for layer in (site.stride, site.dilation, site.size, *(site.follow or ())):
            if layer is not None and layer not in layers:
                raise ValueError(
                    f"site {name} is to be {layer!r}, and {type(model).__name__} has no layer of that name. "
                    f"{_candidates(model)}"
                )
    return found


def followers(model: nn.Module, graph: fx.Graph, layer: str) -> tuple[str, ...]:
    """Return the layers whose output meets that of ``layer`` after its stride, one for each path beside it.

    On each path that is the first layer of the same trained stride. A path without one keeps its size, so that the
    layer's stride cannot change.
    """
    own = dynamic_layer(model.get_submodule(layer)).trained.stride
    begin = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
    behind = _reach(begin, lambda node: node.users)
    before = _reach(begin, lambda node: node.all_input_nodes)
    found: list[str] = []
    for node in (node for node in graph.nodes if node in behind):
        for beside in (value for value in node.all_input_nodes if value not in behind and value not in before):
            path = _reach([beside], lambda node: [n for n in node.all_input_nodes if n not in before])
            layers = [n.target for n in graph.nodes if n in path and n.op == "call_module"]
            strides = {name: _stride(model.get_submodule(name)) for name in layers}
            found += [name for name in layers if strides[name] == own][:1]
    return tuple(dict.fromkeys(found))


def _resnet(model: nn.Module) -> list[Site]:
    names = [f"{name}.0" for name in ("layer1", "layer2", "layer3", "layer4") if hasattr(model, name)]
    three = (Bottleneck, torchvision.models.resnet.Bottleneck)
    # A basic block, which the paper does not use, strides in its first convolution.
    return [Site.at(f"{name}.conv{2 if isinstance(model.get_submodule(name), three) else 1}") for name in names]


def _depthwise(model: nn.Module) -> list[Site]:
    """Return the depthwise convolutions that stride."""
    return [
        Site.at(name)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1 and layer.stride == (2, 2)
    ]


def _densenet(model: nn.Module) -> list[Site]:
    pools = ["features.pool0", *(f"features.transition{stage}.pool" for stage in (1, 2, 3))]
    convs = [f"features.denseblock{stage}.denselayer1.conv2" for stage in (1, 2, 3, 4)]
    return [Site(pool, conv, conv) for pool, conv in zip(pools, convs, strict=True)]


def _resnet_cifar(model: nn.Module) -> list[Site]:
    return [Site.at(name) for name in ("conv1", "layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1")]


def _vanillanet(model: nn.Module) -> list[Site]:
    """Return the stages that halve the map: the pooling strides, and the convolution of the activation sees further."""
    sites = []
    for name, layer in model.named_modules():
        stage, _, own = name.rpartition(".")
        if own == "pool" and stage.count(".") == 1 and _stride(layer):
            behind = model.get_submodule(f"{stage}.act")
            conv = next((f"{stage}.act.{n}" for n, part in behind.named_modules() if isinstance(part, nn.Conv2d)), None)
            sites.append(Site(name, conv, conv))
    return sites


def _patchconvnet(model: nn.Module) -> list[Site]:
    return [Site.at(name) for name, layer in model.named_modules() if name.startswith("stem.") and _stride(layer) == 2]


_KNOWN: tuple[tuple[tuple[type, ...], Callable[[nn.Module], list[Site]]], ...] = (
    ((timm.models.ResNet, torchvision.models.ResNet), _resnet),
    ((timm.models.EfficientNet, torchvision.models.MobileNetV2), _depthwise),
    ((timm.models.DenseNet, torchvision.models.DenseNet), _densenet),
    ((ResNetCifar,), _resnet_cifar),
    ((VanillaNet,), _vanillanet),
    ((PatchConvNet,), _patchconvnet),
)


def _stride(layer: nn.Module) -> float | None:
    """Return the trained stride of a layer that could follow, None of any other."""
    try:
        return dynamic_layer(layer).trained.stride
    except ValueError:
        return None


def _reach(nodes: Sequence[fx.Node], following: Callable[[fx.Node], Iterable[fx.Node]]) -> set[fx.Node]:
    """Return ``nodes`` and all that can be reached from them."""
    reached: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += following(node)
    return reached


def _candidates(model: nn.Module) -> str:
    names = [name for name, layer in model.named_modules() if isinstance(layer, DynamicLayer | nn.Conv2d)]
    if not names:
        return "It has no convolution at all; a layer of its own takes part as a `plainvision.layers.DynamicLayer`."
    return f"Its convolutions: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."
