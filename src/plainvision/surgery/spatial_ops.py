"""Replace the spatial operation of a network's blocks by another (arXiv:2202.02777, section 3 and Figure 1)."""

import copy
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from plainvision.inspection.counting import count_macs, count_parameters
from plainvision.inspection.eval_mode import eval_mode
from plainvision.inspection.tracing import example_input, own_copy, replace_layer
from plainvision.surgery.layers_behind import Behind, Dropped, layers_behind
from plainvision.surgery.spatial_layers import TokenGrid, TokenOp
from plainvision.surgery.spatial_places import KINDS, Place, find_places
from plainvision.surgery.spatial_replacements import replacement, why_no_pool

Op = Literal["max", "avg", "identity", "depthwise", "conv", "attention"]
OPS: tuple[Op, ...] = get_args(Op)
PARAMETER_FREE: tuple[Op, ...] = ("max", "avg", "identity")

Where = str | int | Sequence[str | int]


@dataclass(frozen=True)
class SpatialOpReport:
    """Which spatial operations a surgery replaced, and what that saves."""

    op: str
    """The new operation."""
    changed: tuple[str, ...]
    """Names of the replaced layers."""
    dropped: tuple[str, ...]
    """Names of the norms and activations behind them that were dropped."""
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
            f"{f' ({_few(self.changed)})' if self.changed else ''}"
            f"{f', without {len(self.dropped)} norms and activations' if self.dropped else ''}; "
            f"{self.parameters_before:,} parameters -> "
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
    drop_norm_act: bool = False,
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

    The paper's MaxBottleneck has no norm and no activation behind its pooling: ``drop_norm_act`` drops them where
    ``max``, ``avg`` or ``identity`` replaces a convolution, for a network that trains from the beginning; a trained one
    needs them. Another surgery without it puts them back. The paper's transformer learns new and wider projections,
    which here stay as they are.

    Args:
        model: the network; it stays as it is.
        op: max, avg, identity, depthwise, conv or attention.
        where: names of layers, or of what they are in (``layer2``), also as patterns (``layer[23].*.conv2``); numbers
            in the order of the pass, from 0; ``conv``, ``depthwise`` or ``attention`` for all of a kind; or several of
            these, which must all be replaced. None and kinds take all that ``op`` can replace and report the others.
        drop_norm_act: drop the norm and the activation directly behind a replaced convolution, where they are layers.
        image_size: side, or (H, W), of the image that is passed through; the network's own by default.
        channels: of that image; the network's own by default.

    Raises:
        ValueError: an unknown ``op``, a ``where`` that picks nothing, something named that ``op`` cannot replace, or
            logits that would no longer depend on the image.
    """
    _check_op(op, drop_norm_act)
    original = own_copy(model)
    name, model = type(original).__name__, copy.deepcopy(original)
    images = example_input(model, 1, image_size, channels)
    places = find_places(model, images)
    wanted = [where] if isinstance(where, str | int) else where
    chosen = _chosen(places, wanted, name)
    behind = layers_behind(model, images, [place.name for place in chosen])
    refused = {p.name: why for p in chosen if (why := _why_not(p, op, behind[p.name] if drop_norm_act else Behind()))}
    if refused and (len(refused) == len(chosen) or not (wanted is None or all(item in KINDS for item in wanted))):
        _refuse(op, refused, name)
    size, channels = (images.shape[2], images.shape[3]), images.shape[1]
    before = count_parameters(model), count_macs(model, size, channels)
    changed = [
        place
        for place in chosen
        if place.name not in refused and (place.op != op or behind[place.name].differs(drop_norm_act))
    ]
    _replace(model, changed, op)
    dropped = [layer for place in changed for layer in _drop(model, place, behind[place.name], drop_norm_act)]
    if any(place.kind == "attention" for place in changed) and not _sees(model, images) and _sees(original, images):
        raise ValueError(
            f"with {op!r} in all these places {name} no longer sees the image: its head reads class tokens, which "
            "only attention brings together with the patches. Create the network with global_pool='avg', or leave it "
            "some of its attention with `where`."
        )
    model.report = SpatialOpReport(  # type: ignore[assignment]
        op=op,
        changed=tuple(place.name for place in changed),
        dropped=tuple(dropped),
        refused=refused,
        chosen=len(chosen),
        parameters_before=before[0],
        parameters_after=count_parameters(model),
        macs_before=before[1],
        macs_after=count_macs(model, size, channels),
        image_size=size,
    )
    return model


def _check_op(op: str, drop_norm_act: bool) -> None:
    if op not in OPS:
        close = difflib.get_close_matches(op, OPS, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(OPS)}."
        raise ValueError(f"unknown spatial operation {op!r}. {hint}")
    if drop_norm_act and op not in PARAMETER_FREE:
        raise ValueError(
            f"drop_norm_act=True goes with {', '.join(PARAMETER_FREE)}: {op!r} has weights, which learn with the norm "
            "and the activation behind them. Leave it out."
        )


def _refuse(op: str, refused: Mapping[str, str], network: str) -> None:
    """Raise what is said where layers were named, or all are, that ``op`` cannot replace."""
    layer, reason = next(iter(refused.items()))
    more = f" The same goes for {_few(list(refused)[1:])}." if len(refused) > 1 else ""
    raise ValueError(
        f"cannot make {op!r} of {layer} of {network}: {reason}.{more} Leave it out with `where`, or take another "
        "operation."
    )


def _replace(model: nn.Module, places: Sequence[Place], op: str) -> None:
    grids: dict[nn.Module, TokenGrid] = {}
    weight = next(model.parameters(), torch.zeros(()))
    for place in places:
        if place.op != op:
            replace_layer(model, place.name, replacement(place, op, grids).to(weight))
    for patches, grid in grids.items():
        patches.register_forward_hook(grid)


def _drop(model: nn.Module, place: Place, behind: Behind, drop: bool) -> list[str]:
    """Drop the norm and the activation behind a place, or put them back; return what was dropped."""
    if behind.dropped == drop or not isinstance(place.original, nn.Conv2d):
        return []
    for name in behind.names:
        layer = model.get_submodule(name)
        other = layer.original if isinstance(layer, Dropped) else Dropped(layer)
        replace_layer(model, name, other.train(layer.training))
    return list(behind.names) if drop else []


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


def _why_not(place: Place, op: str, behind: Behind) -> str | None:
    """Return why ``op`` cannot stand in this place, what is ``behind`` dropped, and None where it can."""
    if behind.shared is not None:
        return f"{behind.shared} behind it serves other layers too, and can't be dropped"
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
    return None if op == "depthwise" else why_no_pool(original, op)


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
