"""Replace the spatial operation of a network's blocks by another (arXiv:2202.02777, section 3 and Figure 1)."""

import copy
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

import torch
from timm.layers import Attention, Conv2dSame, ScaledStdConv2dSame, StdConv2dSame, create_pool2d
from torch import Tensor, nn

from plainvision.inspection.counting import count_macs, count_parameters
from plainvision.inspection.eval_mode import eval_mode
from plainvision.inspection.tracing import example_input, own_copy, replace_layer
from plainvision.surgery.spatial_layers import FeatureOp, SameAvgPool, Subsample, TokenGrid, TokenOp
from plainvision.surgery.spatial_places import KINDS, Place, find_places

Op = Literal["max", "avg", "identity", "depthwise", "conv", "attention"]
OPS: tuple[Op, ...] = get_args(Op)

Where = str | int | Sequence[str | int]

_TOKEN_KERNEL = 3  # attention has no kernel whose size could be kept; the paper's networks pool 3x3


@dataclass(frozen=True)
class SpatialOpReport:
    """Which spatial operations a surgery replaced, and what that saves."""

    op: str
    """The new operation."""
    changed: tuple[str, ...]
    """Names of the replaced layers."""
    refused: Mapping[str, str]
    """Names of chosen layers that are as they were, and why each cannot be replaced."""
    chosen: int
    """Number of chosen spatial operations; those that are neither changed nor refused were ``op`` already."""
    parameters_before: int
    parameters_after: int
    macs_before: int
    """Multiply-adds of one image of ``image_size``, (H, W)."""
    macs_after: int
    image_size: tuple[int, int]

    def __str__(self) -> str:
        height, width = self.image_size
        text = (
            f"{len(self.changed)} of {self.chosen} spatial operations became {self.op!r}"
            f"{f' ({_few(self.changed)})' if self.changed else ''}; {self.parameters_before:,} parameters -> "
            f"{self.parameters_after:,}, {self.macs_before / 1e6:,.1f} M multiply-adds -> {self.macs_after / 1e6:,.1f} "
            f"M at {height} x {width}"
        )
        reasons: dict[str, list[str]] = {}
        for name, reason in self.refused.items():
            reasons.setdefault(reason, []).append(name)
        return "\n".join([text, *(f"as it was: {_few(names)}, {reason}" for reason, names in reasons.items())])


def spatial_op(
    model: nn.Module,
    op: str,
    where: Where | None = None,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
) -> nn.Module:
    """Return a new network with another spatial operation in its blocks; its ``report`` is a `SpatialOpReport`.

    A spatial operation is a convolution with a kernel above 1x1, or self-attention, in a block; the stem is none.
    Pointwise convolutions, norms and activations stay as they are.

    - A convolution C -> C: ``max`` and ``avg`` pool with its kernel, stride, padding and dilation, over the pixels
      that there are. ``identity`` is the stride alone. ``depthwise`` and ``conv`` are new convolutions of its
      geometry, with He's initial weights.
    - Self-attention of timm's ViTs: values and output projection keep their weights, and the operation stands between
      them, 3x3 over the grid of the patches. Class and register tokens pass it by.

    A replaced layer stays aboard, outside of parameters and state dict. Its own kind as ``op`` puts it back, and the
    network computes what it did, to the last bit. A plain convolution that changes the number of channels stays.

    The paper's MaxBottleneck drops the norm and the activation behind the convolution, and its transformer learns new
    and wider projections; here they stay, because a trained network needs them.

    Args:
        model: the network; it stays as it is.
        op: max, avg, identity, depthwise, conv or attention.
        where: names of layers, or of what they are in (``layer2``), also as patterns (``layer[23].*.conv2``); numbers
            in the order of the pass, from 0; ``conv``, ``depthwise`` or ``attention`` for all of a kind; or several of
            these, which must all be replaced. None and kinds take all that ``op`` can replace and report the others.
        image_size: side, or (H, W), of the image that is passed through; the network's own by default.
        channels: of that image; the network's own by default.

    Raises:
        ValueError: an unknown ``op``, a ``where`` that picks nothing, something named that ``op`` cannot replace, or
            logits that would no longer depend on the image.
    """
    if op not in OPS:
        close = difflib.get_close_matches(op, OPS, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(OPS)}."
        raise ValueError(f"unknown spatial operation {op!r}. {hint}")
    model = own_copy(model)
    name, original = type(model).__name__, model
    model = copy.deepcopy(model)
    images = example_input(model, 1, image_size, channels)
    places = find_places(model, images)
    wanted = [where] if isinstance(where, str | int) else where
    chosen = _chosen(places, wanted, name)
    refused = {place.name: reason for place in chosen if (reason := _why_not(place, op)) is not None}
    named = wanted is not None and not all(item in KINDS for item in wanted)
    if refused and (named or len(refused) == len(chosen)):
        layer, reason = next(iter(refused.items()))
        more = f" The same goes for {_few(list(refused)[1:])}." if len(refused) > 1 else ""
        raise ValueError(
            f"cannot make {op!r} of {layer} of {name}: {reason}.{more} Leave it out with `where`, or take another "
            "operation."
        )
    size, channels = (images.shape[2], images.shape[3]), images.shape[1]
    before = count_parameters(model), count_macs(model, size, channels)
    changed = [place for place in chosen if place.name not in refused and place.op != op]
    grids: dict[nn.Module, TokenGrid] = {}
    weight = next(model.parameters(), torch.zeros(()))
    for place in changed:
        replace_layer(model, place.name, _replacement(place, op, grids).to(weight))
    for patches, grid in grids.items():
        patches.register_forward_hook(grid)
    if grids and not _sees(model, images) and _sees(original, images):
        raise ValueError(
            f"with {op!r} in all these places {name} no longer sees the image: its head reads class tokens, which "
            "only attention brings together with the patches. Create the network with global_pool='avg', or leave it "
            "some of its attention with `where`."
        )
    model.report = SpatialOpReport(  # type: ignore[assignment]
        op=op,
        changed=tuple(place.name for place in changed),
        refused=refused,
        chosen=len(chosen),
        parameters_before=before[0],
        parameters_after=count_parameters(model),
        macs_before=before[1],
        macs_after=count_macs(model, size, channels),
        image_size=size,
    )
    return model


def _chosen(places: Sequence[Place], wanted: Sequence[str | int] | None, network: str) -> list[Place]:
    """Return the places that ``wanted`` picks, in their own order."""
    if not places:
        raise ValueError(
            f"no spatial operation in {network}: it has no convolution above 1x1 behind its stem, and no "
            "self-attention as timm's ViTs have it. Give a network of blocks, such as a ResNet, a MobileNet, a "
            "ConvNeXt or a ViT."
        )
    if wanted is None:
        return list(places)
    if not wanted:
        raise ValueError("where is empty and picks nothing. Give names, patterns or numbers; None takes all.")
    picked: set[int] = set()
    for item in wanted:
        found = {number for number, place in enumerate(places) if _matches(item, number, place, len(places))}
        if not found:
            names = [place.name for place in places]
            close = difflib.get_close_matches(item, names, n=1, cutoff=0.8) if isinstance(item, str) else []
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"where={item!r} picks none of the {len(places)} spatial operations of {network}.{hint} There are "
                f"{_few(names)}; stems and 1x1 convolutions are none. Give names, or patterns such as "
                f"'{names[-1].rpartition('.')[0] or names[-1][:2]}*', numbers from 0 to {len(places) - 1}, or a kind "
                f"of them: {', '.join(sorted({place.kind for place in places}))}."
            )
        picked |= found
    return [places[number] for number in sorted(picked)]


def _matches(item: str | int, number: int, place: Place, count: int) -> bool:
    if isinstance(item, int):
        return item in (number, number - count)
    if item in KINDS:
        return place.kind == item
    parts = place.name.split(".")
    return any(fnmatchcase(".".join(parts[:end]), item) for end in range(1, len(parts) + 1))


def _why_not(place: Place, op: str) -> str | None:
    """Return why ``op`` cannot stand in this place, and None where it can."""
    if op == place.kind:
        return None
    original = place.original
    if op == "attention":
        return "attention only goes back to where it was"
    if not isinstance(original, nn.Conv2d):
        tokens = isinstance(place.layer, TokenOp) or place.patches is not None
        return None if tokens else "its tokens are not those of one grid of patches"
    if op == "conv":
        return None
    if original.in_channels != original.out_channels:
        return (
            f"it makes {original.out_channels} channels of {original.in_channels}, and {op!r} gives as many as it is "
            "given"
        )
    return None if op == "depthwise" else _why_no_pool(original, op)


def _why_no_pool(conv: nn.Conv2d, op: str) -> str | None:
    if op == "avg" and any(dilation > 1 for dilation in conv.dilation):
        return "it is dilated, and an average has no dilation"
    if _pads_by_size(conv):
        return None
    padding, spans = _padding(conv), _spans(conv)
    if padding is None:
        return f"it is padded by more on one side than on the other, and {op!r} is not"
    if op == "identity" and any(2 * pad != span for pad, span in zip(padding, spans, strict=True)):
        # Else its output would not have the size of the convolution's for every image.
        return (
            f"with kernel {conv.kernel_size} and padding {padding} it does not give one pixel for each step of its "
            f"stride {conv.stride}"
        )
    if any(pad > (span + 1) // 2 for pad, span in zip(padding, spans, strict=True)):
        return f"it is padded by {padding}, more than half of its kernel {conv.kernel_size}, and {op!r} cannot be"
    return None


def _pads_by_size(conv: nn.Conv2d) -> bool:
    """Return whether ``conv`` is one of timm's with TensorFlow's padding, which depends on the image."""
    return isinstance(conv, Conv2dSame) or (isinstance(conv, StdConv2dSame | ScaledStdConv2dSame) and conv.same_pad)


def _spans(conv: nn.Conv2d) -> list[int]:
    """Return how far the kernel's ends lie apart, in height and width."""
    return [d * (k - 1) for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]


def _padding(conv: nn.Conv2d) -> tuple[int, int] | None:
    """Return the padding at each end of height and width, or None where two ends have different ones."""
    if not isinstance(conv.padding, str):
        return conv.padding[0], conv.padding[1]
    if conv.padding == "valid":
        return 0, 0
    spans = _spans(conv)
    return None if any(span % 2 for span in spans) else (spans[0] // 2, spans[1] // 2)


def _replacement(place: Place, op: str, grids: dict[nn.Module, TokenGrid]) -> nn.Module:
    """Return what stands in this place instead; ``grids`` are those of the layers that make patches."""
    original, training = place.original, place.layer.training
    if op == place.kind:
        return original.train(training)
    if isinstance(original, nn.Conv2d):
        return FeatureOp(op, _on_features(op, original), original).train(training)
    assert isinstance(original, Attention)
    if isinstance(place.layer, TokenOp):
        projections, grid, prefix = place.layer.projections(), place.layer.grid, place.layer.prefix
    else:
        assert place.patches is not None
        grid = grids.setdefault(place.patches, TokenGrid(place.grid))
        projections, prefix = _projections(original), place.prefix
    values = projections["v"]
    assert isinstance(values, nn.Linear)
    channels, padding = values.out_features, _TOKEN_KERNEL // 2
    like = nn.Conv2d(channels, channels, _TOKEN_KERNEL, padding=padding, device="meta")  # for its geometry
    layer = _on_features(op, like)
    return TokenOp(op, layer, original, projections=projections, grid=grid, prefix=prefix).train(training)


def _on_features(op: str, conv: nn.Conv2d) -> nn.Module:
    """Return the operation with the geometry of ``conv``."""
    kernel, stride, dilation = ((pair[0], pair[1]) for pair in (conv.kernel_size, conv.stride, conv.dilation))
    if op == "identity":
        return nn.Identity() if stride == (1, 1) else Subsample(stride)
    if op in ("depthwise", "conv"):
        return _new_conv(conv, conv.in_channels if op == "depthwise" else 1)
    if _pads_by_size(conv):
        if op == "avg":
            return SameAvgPool(kernel, stride)
        return create_pool2d("max", kernel, stride, padding="same", dilation=dilation)
    padding = _padding(conv)
    assert padding is not None
    if op == "avg":
        return nn.AvgPool2d(kernel, stride, padding, count_include_pad=False)
    if all(2 * pad <= side for pad, side in zip(padding, kernel, strict=True)):
        return nn.MaxPool2d(kernel, stride, padding, dilation)
    (height, width), least = padding, -float("inf")  # a dilated kernel is wider than the padding that torch allows it
    return nn.Sequential(
        nn.ConstantPad2d((width, width, height, height), least), nn.MaxPool2d(kernel, stride, 0, dilation)
    )


def _new_conv(like: nn.Conv2d, groups: int) -> nn.Conv2d:
    """Return a convolution of the geometry of ``like``, with new weights."""
    channels = (like.in_channels, like.out_channels)
    geometry = {"stride": like.stride, "padding": like.padding, "dilation": like.dilation, "groups": groups}
    bias = like.bias is not None
    if _pads_by_size(like):
        conv: nn.Conv2d = Conv2dSame(*channels, like.kernel_size, **geometry, bias=bias)
    else:
        conv = nn.Conv2d(*channels, like.kernel_size, **geometry, bias=bias, padding_mode=like.padding_mode)  # type: ignore[arg-type]
    with torch.no_grad():
        # He's, by the values that a weight contributes to; torch's own forgets the groups.
        nn.init.normal_(conv.weight, std=(2 / (conv.weight[:, 0].numel() / groups)) ** 0.5)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    return conv


def _projections(attention: Attention) -> dict[str, nn.Module]:
    """Return copies of what stays of attention: its values, and all behind its operation."""
    parts = dict(attention.named_children())
    qkv, channels = parts["qkv"], parts["proj"].in_features
    v = nn.Linear(qkv.in_features, channels, bias=qkv.bias is not None, device=qkv.weight.device)
    v.to(qkv.weight.dtype)
    with torch.no_grad():
        v.weight.copy_(qkv.weight[-channels:])
        if qkv.bias is not None:
            v.bias.copy_(qkv.bias[-channels:])
    v.requires_grad_(qkv.weight.requires_grad)
    return {"v": v} | {
        name: copy.deepcopy(parts[name]) for name in ("norm", "gate", "proj", "proj_drop") if name in parts
    }


def _sees(model: nn.Module, images: Tensor) -> bool:
    """Return whether the logits depend on the images at all; on the meta device, where nobody knows, True."""
    if images.is_meta:
        return True
    images = images.clone().requires_grad_()
    with eval_mode(model), torch.enable_grad():
        (gradient,) = torch.autograd.grad(model(images.clone()).square().sum(), images)
    return bool(gradient.any())


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:2])}, ..., {names[-1]}"
