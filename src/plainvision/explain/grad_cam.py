"""Grad-CAM: the places of a layer's output that raise a class's logit (Selvaraju et al. 2017, arXiv:1610.02391).

Shapes   B batch, C channels, h x w places of the layer, K classes
"""

import difflib
import operator
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from plainvision.inspection.checks import check_images, check_logits, class_indices
from plainvision.inspection.eval_mode import eval_mode
from plainvision.layers.attention_pool import Pooling

# What a layer's output has to be, in words, for messages.
_SPATIAL = "(B, C, H, W) with more than one pixel"


class _Call(NamedTuple):
    """A call of one layer in a forward pass."""

    name: str
    module: nn.Module
    output: Tensor


def gradcam(
    model: nn.Module, images: Tensor, classes: int | Sequence[int] | Tensor, layer: str | nn.Module | None = None
) -> Tensor:
    """Return a map of a class: (B, h, w), at least 0; or (B, n, h, w) for n ``classes``.

    Features are weighted per channel by the mean gradient of the class's logit, summed, and clipped at zero
    (arXiv:1610.02391, equations 1 and 2). Maps are in units of the logit, not normalised, and zero where the logit
    does not depend on the layer.

    Args:
        model: the network, left in the mode that it was in; no gradient of its parameters is touched.
        images: (B, C, H, W), prepared as in its training.
        classes: the index of a class; or a tensor (B,) with each image's own; or a list of n classes, all of them for
            every image.
        layer: a layer of the network or its dotted name, whose output is (B, C, h, w); where it is called several
            times, the last. None is `last_spatial_layer`.

    Raises:
        ValueError: there is no such layer or class, the layer's output is no grid, or ``images`` is no batch.
        ImportError: captum is not installed.
    """
    check_images(images)
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        raise ImportError(
            'Grad-CAM needs the package `captum`, which is not installed. pip install "plainvision[explain]"'
        ) from error

    # A graph cannot grow on tensors of inference mode, so that it is left, and the images are copied.
    with eval_mode(model), torch.inference_mode(False):
        images = images.detach().clone()
        found, count = _choose(model, images[:1], layer)
        targets, several = _targets(classes, len(images), count)

        def scores(batch: Tensor) -> Tensor:
            output = model(batch.clone())  # a pass may write into what it is given, and there is one for each class
            # Logits that depend on nothing are no graph, and captum would fail; their maps are zero.
            return output if output.requires_grad else output.detach().requires_grad_()

        method = LayerGradCam(scores, found)
        how = {"relu_attributions": True, "grad_kwargs": {"allow_unused": True, "materialize_grads": True}}
        maps = [method.attribute(images, target.to(images.device), **how)[:, 0].detach() for target in targets]
    return torch.stack(maps, dim=1) if several else maps[0]


def last_spatial_layer(model: nn.Module, images: Tensor) -> str:
    """Return the name of the last layer before the logits whose output is (B, C, H, W) with more than one pixel.

    Raises:
        ValueError: the network has none: it works on a sequence of tokens, or with channels last.
    """
    check_images(images)
    with eval_mode(model), torch.inference_mode(False):
        found, _ = _choose(model, images[:1].detach().clone(), None)
    return next(name for name, module in model.named_modules() if module is found)


def _choose(model: nn.Module, image: Tensor, layer: str | nn.Module | None) -> tuple[nn.Module, int]:
    """Return the layer to look at, and the number of classes; one image tells."""
    names = {module: name for name, module in model.named_modules() if name}
    calls: list[_Call] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor):
            calls.append(_Call(names[module], module, output))

    handles = [module.register_forward_hook(note) for module in names]
    try:
        with torch.enable_grad():
            # Frozen networks have a graph too; the copy may be changed in place.
            logits = check_logits(model(image.detach().requires_grad_().clone()), model)
    finally:
        for handle in handles:
            handle.remove()
    found = _last_spatial(model, logits, calls) if layer is None else _named_layer(model, layer, calls)
    return found, logits.shape[1]


def _named_layer(model: nn.Module, layer: str | nn.Module, calls: list[_Call]) -> nn.Module:
    modules = dict(model.named_modules())
    found = modules.get(layer) if isinstance(layer, str) else layer
    if not isinstance(layer, str) and all(module is not layer for module in modules.values()):
        raise ValueError(f"{type(layer).__name__} is not a layer of this {type(model).__name__}. Give one of its own.")
    if found is None or found is model:
        close = difflib.get_close_matches(str(layer), modules, n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else "`model.named_modules()` lists them."
        raise ValueError(f"{type(model).__name__} has no layer {layer!r}. {hint}")
    outputs = [call.output for call in calls if call.module is found]
    if not outputs or not _is_spatial(outputs[-1]):
        did = f"returns {tuple(outputs[-1].shape)}" if outputs else "is not called by itself, or returns no tensor"
        raise ValueError(
            f"the layer {layer if isinstance(layer, str) else type(layer).__name__!r} {did}, and Grad-CAM needs "
            f"{_SPATIAL}. Give a convolution or a block, or leave the layer out."
        )
    _check_channels_first(model)
    return found


def _last_spatial(model: nn.Module, logits: Tensor, calls: list[_Call]) -> nn.Module:
    # Their output is named after the layer in front.
    passing = nn.Identity | nn.Dropout | nn.Dropout2d | nn.AdaptiveAvgPool2d
    places = [i for i, call in enumerate(calls) if _is_spatial(call.output) and not isinstance(call.module, passing)]
    if not places:
        raise ValueError(
            f"{type(model).__name__} has no layer whose output is {_SPATIAL}, which Grad-CAM needs: it is no "
            "convolutional network, or the images are too small for it."
        )
    _check_channels_first(model)
    leading = (place for place in reversed(places) if _leads_to(calls[place].output, logits))
    last = next(leading, places[-1])  # logits that depend on nothing still have a layer to be zero on
    if _works_on_tokens(calls, last):
        raise ValueError(
            f"behind {calls[last].name!r}, its last layer of image shape, {type(model).__name__} works on a sequence "
            "of patches, so that Grad-CAM there would say little of the answer. `plainvision.attention_maps` shows "
            "vision transformers; or name a layer yourself."
        )
    return calls[last].module


def _is_spatial(output: Tensor) -> bool:
    return output.ndim == 4 and output.shape[2] * output.shape[3] > 1


def _leads_to(output: Tensor, logits: Tensor) -> bool:
    if not (output.requires_grad and logits.requires_grad):
        return False
    return torch.autograd.grad(logits.sum(), output, retain_graph=True, allow_unused=True)[0] is not None


def _works_on_tokens(calls: list[_Call], last: int) -> bool:
    """Return whether layers with weights work on (B, N, C) behind the call at ``last``, other than inside a pooling."""
    behind = calls[last + 1 :]
    # A part that begins behind it and ends with vectors (B, C) pools, whatever it does inside.
    ends = [f"{call.name}." for call in behind if call.output.ndim == 2 or isinstance(call.module, Pooling)]
    pooling = tuple(name for name in ends if not calls[last].name.startswith(name))
    for call in behind:
        if isinstance(call.module, Pooling):
            return False
        weighted = next(call.module.parameters(), None) is not None
        if call.output.ndim == 3 and weighted and not call.name.startswith(pooling):
            return True
    return False


def _check_channels_first(model: nn.Module) -> None:
    if getattr(model, "output_fmt", "NCHW") == "NHWC":  # timm's convention
        raise ValueError(
            f"the features of {type(model).__name__} are (B, H, W, C), and Grad-CAM reads (B, C, H, W). Use a network "
            "that keeps channels first."
        )


def _targets(classes: int | Sequence[int] | Tensor, batch: int, count: int) -> tuple[list[Tensor], bool]:
    """Return the classes of each map, each (B,), and whether there are several maps per image."""
    if isinstance(classes, Tensor) and classes.ndim == 1:
        if len(classes) != batch:
            raise ValueError(
                f"classes is a tensor of {len(classes)} for {batch} images: a tensor holds each image's own class. For "
                "several classes of every image give a list, `classes.tolist()`."
            )
        return [class_indices(classes, count).clone()], False  # of inference mode, they could not enter the graph
    try:
        chosen, several = [operator.index(classes)], False  # type: ignore[arg-type]  # a TypeError answers
    except TypeError:
        chosen, several = classes, True  # type: ignore[assignment]
    return [index.repeat(batch) for index in class_indices(chosen, count)], several
