"""What stands in the place of a convolution or of attention: the layer of a spatial operation, of the same geometry."""

import copy

import torch
from timm.layers import Attention, Conv2dSame, ScaledStdConv2dSame, StdConv2dSame, create_pool2d
from torch import nn

from plainvision.surgery.spatial_layers import FeatureOp, SameAvgPool, Subsample, TokenGrid, TokenOp
from plainvision.surgery.spatial_places import Place

_TOKEN_KERNEL = 3  # attention has no kernel whose size could be kept; the paper's networks pool 3x3


def why_no_pool(conv: nn.Conv2d, op: str) -> str | None:
    """Return why ``op`` cannot have the geometry of ``conv``, and None where it can."""
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


def replacement(place: Place, op: str, grids: dict[nn.Module, TokenGrid]) -> nn.Module:
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
