"""Fold a trained network into its deployed form, and prove that its output is the same.

VanillaNet's re-parameterisation (arXiv:2305.12972, section 3.1), for any network: linear pairs and series
activations become plain convolutions, and batch norms go into the convolution before them.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from timm.layers import BatchNormAct2d, FrozenBatchNormAct2d
from torch import fx, nn
from torchvision.ops import FrozenBatchNorm2d

from plainvision.inspection.dense import DenseDetector, Detector
from plainvision.inspection.tracing import (
    computes_as,
    example_input,
    is_untouched,
    own_copy,
    read_elsewhere,
    replace_layers,
    trace_parts,
)
from plainvision.layers.fusable import BatchNorm, Fusable, fold_batch_norm
from plainvision.layers.linear_pair import LinearPair
from plainvision.models.family import note_deployed
from plainvision.surgery.same_answers import compare_forms, in_words


def fuse(
    model: nn.Module,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    images: int = 8,
    tolerance: float | None = None,
) -> nn.Module:
    """Return a new network in deployed form, in eval mode, whose ``report`` is a `FusionReport`.

    What cannot be folded stays, and the report says why. timm can rebuild a network of ours from a hub in this form.
    Of a detector of torchvision's, what its layers say is compared, before it chooses boxes by that.

    Args:
        model: a network with linear pairs, series activations or batch norms, also frozen ones; it stays as it is.
            What wraps it for several devices, compiling or averaging is taken off.
        image_size: side, or (H, W), of the random images for the check; the network's own by default.
        channels: of these images; the network's own by default.
        images: how many of them.
        tolerance: largest difference allowed, relative to the largest logit; None takes what the dtype explains.

    Raises:
        ValueError: a slope is not 1, nothing can be fused, the two forms answer differently, or nothing can show
            whether they do.
    """
    before = own_copy(model).eval()
    if isinstance(before, Detector):
        dense = DenseDetector(before)
        found = fuse(dense, image_size=image_size, channels=channels, images=images, tolerance=tolerance)
        found.network.report = found.report  # type: ignore[union-attr]
        return found.network  # type: ignore[return-value]
    folded = _folded(before)
    if not folded.places:
        name = before._get_name()
        if folded.stayed:
            raise ValueError(f"cannot fold anything in {name}: {in_words(folded.stayed)}. Use it as it is.")
        raise ValueError(
            f"nothing to fuse in {name}: it has no linear pair, no series activation and no batch norm. It is in "
            "deployed form already."
        )
    exact = own_copy(before)
    try:
        exact = exact.double()
    except (TypeError, RuntimeError):  # a device without float64
        exact = exact.float()
    folded.model.report = compare_forms(  # type: ignore[assignment]
        before,
        folded.model,
        example_input(before, images, image_size, channels),
        tolerance,
        exact=(exact, _folded(exact).model),
        places=folded.places,
        stayed=folded.stayed,
    )
    note_deployed(folded.model)
    return folded.model


def fold(model: nn.Module) -> nn.Module:
    """Return a new network in deployed form and eval mode, without `fuse`'s check; a ValueError at slopes below 1."""
    return _folded(model).model


def merge_pairs(model: nn.Module) -> nn.Module:
    """Return a new network whose linear pairs are one convolution each, their last batch norm kept for training.

    Each pair and its convolution are compared, as `fuse` compares networks.

    Raises:
        ValueError: a slope is not 1, there is no linear pair, one that others read or that is no plain pair, or one
            whose convolution computes something else.
    """
    model, thawed = _thawed(own_copy(model))
    pairs = {name: module for name, module in model.named_modules() if isinstance(module, LinearPair)}
    if not pairs:
        raise ValueError(f"no linear pair to merge in {type(model).__name__}: it was built, or merged, without them.")
    read = read_elsewhere(model)
    merged: dict[nn.Module, nn.Module] = {}
    for name, pair in pairs.items():
        if reason := _why_whole(pair, read):
            raise ValueError(f"cannot merge the linear pair {name!r} of {type(model).__name__}: {reason}.")
        merged[pair] = pair.merge().train(pair.training)
        conv = pair.first[0]
        assert isinstance(conv, nn.Conv2d)
        size = tuple(8 + d * (k - 1) for k, d in zip(conv.kernel_size, conv.dilation, strict=True))
        images = example_input(conv, 4, size, conv.in_channels)  # type: ignore[arg-type]
        compare_forms(own_copy(pair).eval(), own_copy(merged[pair]).eval(), images)
    return replace_layers(replace_layers(model, merged), thawed)


class _Folded(NamedTuple):
    """A network in deployed form, and how it came about: see `compare_forms`."""

    model: nn.Module
    places: list[tuple[str, str]]
    stayed: dict[str, str]


def _folded(model: nn.Module) -> _Folded:
    model, thawed = _thawed(own_copy(model).eval())
    names = {module: name for name, module in model.named_modules()}
    places, stayed = _fold_whole(model)
    model = replace_layers(model, dict(places))
    norms, why = _fold_norms(model)
    model = replace_layers(model, norms)
    places |= {old: new for old, new in norms.items() if not isinstance(old, nn.Conv2d)}  # that gives the norm's
    after = {module: name for name, module in model.named_modules()}
    found = [(names[old], after[new]) for old, new in places.items() if old in names and new in after]
    model = replace_layers(model, thawed)  # those that stayed
    return _Folded(model.eval(), found, {names[layer]: reason for layer, reason in (stayed | why).items()})


def _thawed(model: nn.Module) -> tuple[nn.Module, dict[nn.Module, nn.Module]]:
    """Put batch norms in the place of frozen ones, which compute the same in eval mode; return which stood where."""
    frozen: dict[nn.Module, nn.Module] = {}
    for layer in model.modules():
        if isinstance(layer, FrozenBatchNorm2d | FrozenBatchNormAct2d):
            norm = (BatchNormAct2d if isinstance(layer, FrozenBatchNormAct2d) else nn.BatchNorm2d)(len(layer.weight))
            norm.load_state_dict(layer.state_dict(), strict=False)  # a frozen one does not count batches
            norm.to(layer.weight).train(layer.training)
            norm.eps = layer.eps
            if isinstance(layer, FrozenBatchNormAct2d):
                norm.drop, norm.act = layer.drop, layer.act
            frozen[norm] = layer
    return replace_layers(model, {layer: norm for norm, layer in frozen.items()}), frozen


def _fold_whole(model: nn.Module) -> tuple[dict[nn.Module, nn.Module], dict[nn.Module, str]]:
    """Return the deployed form of each layer that has one of its own, and why others stay."""
    new: dict[nn.Module, nn.Module] = {}
    stayed: dict[nn.Module, str] = {}
    whole = [layer for layer in model.modules() if isinstance(layer, Fusable)]
    read = read_elsewhere(model) if whole else set()
    within: set[nn.Module] = set()
    for layer in whole:
        if layer in within:
            continue
        within.update(layer.modules())
        if reason := _why_whole(layer, read):
            stayed[layer] = reason
        else:
            new[layer] = layer.fuse()
    return new, stayed


def _why_whole(layer: Fusable, read: set[nn.Module]) -> str | None:
    """Return why a layer cannot be replaced by its deployed form."""
    owners = [next(c for c in type(layer).__mro__ if name in vars(c)) for name in ("fuse", "forward")]
    if not issubclass(*owners):
        return f"{owners[1].__name__} computes something else than the class whose deployed form it would get"
    if not all(is_untouched(part) for part in layer.modules()):
        return "it has hooks or a forward pass of its own"
    return "others read its weights" if read & set(layer.modules()) else None


def _fold_norms(model: nn.Module) -> tuple[dict[nn.Module, nn.Module], dict[nn.Module, str]]:
    """Return what replaces each batch norm that alone reads a convolution, and the convolution; and why others stay.

    An `nn.Sequential` of the two becomes the convolution.
    """
    within = {part for layer in model.modules() if isinstance(layer, Fusable) for part in layer.modules()}
    norms = [module for module in model.modules() if isinstance(module, BatchNorm) and module not in within]
    if not norms:
        return {}, {}
    parts = trace_parts(model)
    sources, readers = _wires(model, parts)
    read = read_elsewhere(model, parts)
    new: dict[nn.Module, nn.Module] = {}
    stayed: dict[nn.Module, str] = {}
    for norm in norms:
        if reason := _why_apart(norm, sources, readers, read):
            stayed[norm] = reason
            continue
        (conv,) = sources[norm]
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, BatchNorm)
        try:
            folded = fold_batch_norm(conv, norm)
        except ValueError as error:
            stayed[norm] = str(error)
            continue
        new |= {conv: folded, norm: norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()}
    for module in model.modules():
        if computes_as(module, nn.Sequential) and len(module) == 2:  # type: ignore[arg-type]
            first, second = module.children()
            if sources.get(second) == {first} and type(new.get(second)) is nn.Identity:
                new[module] = new[first]
    return new, stayed


def _wires(
    model: nn.Module, parts: Sequence[tuple[str, fx.Graph]]
) -> tuple[dict[nn.Module, set[object]], dict[nn.Module, set[object]]]:
    """Return the sources and the readers of each layer: layers, or nodes of the graph."""
    sources: dict[nn.Module, set[object]] = defaultdict(set)
    readers: dict[nn.Module, set[object]] = defaultdict(set)
    for name, graph in parts:
        part = model.get_submodule(name)

        def caller(node: fx.Node, part: nn.Module = part) -> object:
            return part.get_submodule(str(node.target)) if node.op == "call_module" else node

        for node in graph.nodes:
            if node.op == "call_module":
                sources[caller(node)].update(map(caller, node.all_input_nodes))  # type: ignore[index]
                readers[caller(node)].update(map(caller, node.users))  # type: ignore[index]
    return sources, readers


def _why_apart(
    norm: nn.Module, sources: dict[nn.Module, set[object]], readers: dict[nn.Module, set[object]], read: set[nn.Module]
) -> str | None:
    """Return why a batch norm cannot go into the convolution before it."""
    if norm not in sources:
        return "what calls it decides on shapes or values, or nothing does"
    convolutions = [layer for layer in sources[norm] if isinstance(layer, nn.Conv2d)]
    if len(convolutions) != 1 or len(sources[norm]) != 1:
        return "no convolution alone stands right before it"
    (conv,) = convolutions
    if not computes_as(norm, nn.BatchNorm2d, nn.SyncBatchNorm, BatchNormAct2d):
        return f"{type(norm).__name__} extends a batch norm, or has hooks or a forward pass of its own"
    if not computes_as(conv, nn.Conv2d):
        return f"the {type(conv).__name__} before it extends a convolution, or has hooks or a forward pass of its own"
    if readers[conv] != {norm}:
        return "others read the convolution before it too"
    return "others read a weight of it or of the convolution before it" if {norm, conv} & read else None
