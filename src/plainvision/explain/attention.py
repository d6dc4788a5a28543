"""Attention maps: the softmax weight of each patch in a network's last pooling.

Shapes   B batch, C channels, H height, W width, h x w patches, N = h w, K classes
"""

from collections.abc import Sequence
from typing import Any, Literal

import timm
import torch
import torchvision
from timm.layers import Attention
from torch import Tensor, nn

from plainvision.inspection.checks import check_images, check_logits, class_indices
from plainvision.inspection.eval_mode import eval_mode
from plainvision.layers.attention_pool import Pooling

_TimmViT = timm.models.VisionTransformer
_TorchvisionViT = torchvision.models.VisionTransformer


def attention_maps(model: nn.Module, images: Tensor, classes: Sequence[int] | Tensor | None = None) -> Tensor:
    """Return the attention weight of each patch: (B, h, w), or (B, n, h, w) for n ``classes``. Each map sums to 1.

    - Attention pooling (arXiv:2112.13692, Figures 1 and 2): the weights of the single class token, or of the token of a
      class where each has its own.
    - A vision transformer of timm or torchvision: the class token's attention in the last block, the mean over heads
      (arXiv:2104.14294, Figure 1). What goes to the token itself and to registers is left out.

    Args:
        model: the network, left in the mode that it was in.
        images: (B, C, H, W), prepared as in its training.
        classes: with one token per class, whose maps; None is the class that the network names for each image. A
            single token has one map for all classes.

    Raises:
        ValueError: the network has no such maps, or none per class; a class is out of range; or ``images`` is no batch.
    """
    check_images(images)
    kind = attention_kind(model)
    if kind is None:
        raise ValueError(
            f"{type(model).__name__} has no attention maps: nothing in it weighs patches by one softmax. Networks that "
            "have them are PatchConvNet, vision transformers of timm and torchvision, and others after "
            "`plainvision.surgery.attention_pooling` and training. `plainvision.explain.gradcam` works without."
        )
    if classes is not None and kind != "per class":
        raise ValueError(
            f"{type(model).__name__} has a single class token, whose map serves all classes. Leave classes out, build "
            "the network with per_class=True, or use `plainvision.explain.gradcam`."
        )
    with eval_mode(model), torch.no_grad():
        if pools := _parts(model, Pooling):
            return _pooling_maps(model, pools[-1], images, classes)
        if transformers := _parts(model, _TimmViT):
            return _timm_maps(model, transformers[-1], images)
        return _torchvision_maps(model, _parts(model, _TorchvisionViT)[-1], images)


def attention_kind(model: nn.Module) -> Literal["single", "per class"] | None:
    """Return whether ``model`` has one attention map for all classes, one per class, or none."""
    if pools := _parts(model, Pooling):
        return "single" if pools[-1].classes is None else "per class"
    return "single" if _parts(model, _TimmViT) or _parts(model, _TorchvisionViT) else None


def _parts(model: nn.Module, kind: type) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, kind)]


def _run_and_catch(model: nn.Module, images: Tensor, part: nn.Module) -> tuple[Any, Tensor]:
    """Return the network's output, and the last input of ``part``."""
    caught: list[Tensor] = []
    handle = part.register_forward_pre_hook(lambda _, given: caught.append(given[0].clone()))
    try:
        output = model(images.clone())  # a pass may write into what it is given
    finally:
        handle.remove()
    if not caught:
        raise ValueError(
            f"the forward pass of {type(model).__name__} does not come by its {type(part).__name__}, which has the "
            "attention maps. Call `attention_maps` on the part of the network that is used."
        )
    return output, caught[-1]


def _pooling_maps(model: nn.Module, pool: Any, images: Tensor, classes: Sequence[int] | Tensor | None) -> Tensor:
    chosen = None if classes is None else class_indices(classes, pool.classes)
    output, features = _run_and_catch(model, images, pool)
    maps = pool.attend(features)
    if pool.classes is None:
        return maps[:, 0]
    if chosen is not None:
        return maps[:, chosen.to(maps.device)]
    predicted = check_logits(output, model, pool.classes).argmax(1)
    return maps[torch.arange(len(maps), device=maps.device), predicted]


def _timm_maps(model: nn.Module, transformer: Any, images: Tensor) -> Tensor:
    if not transformer.has_class_token:
        raise ValueError(
            "this vision transformer has no class token: it averages its patches (or pools them otherwise), so that no "
            "row of its attention says which of them count. Use one with a class token."
        )
    layers = _parts(transformer.blocks[-1], Attention)
    if len(layers) != 1:
        raise ValueError(
            f"the last block of this vision transformer is a {type(transformer.blocks[-1]).__name__}, whose attention "
            "is not a single softmax over patches. Use one of plain blocks."
        )
    (attention,) = layers
    fused, attention.fused_attn = attention.fused_attn, False  # the fused kernel never forms the weights
    try:
        _, weights = _run_and_catch(model, images, attention.attn_drop)
    finally:
        attention.fused_attn = fused
    grid = transformer.patch_embed.dynamic_feat_size(tuple(images.shape[2:]))
    return _class_token_map(weights.mean(1), transformer.num_prefix_tokens, grid)


def _torchvision_maps(model: nn.Module, transformer: Any, images: Tensor) -> Tensor:
    attention = transformer.encoder.layers[-1].self_attention
    _, tokens = _run_and_catch(model, images, attention)
    _, weights = attention(tokens, tokens, tokens, need_weights=True, average_attn_weights=True)
    side = transformer.image_size // transformer.patch_size  # it takes images of one size alone
    return _class_token_map(weights, 1, (side, side))


def _class_token_map(weights: Tensor, others: int, grid: tuple[int, int]) -> Tensor:
    """Return the first token's row of (B, tokens, tokens), without the ``others`` in front, as (B, h, w) of sum 1."""
    patches = weights[:, 0, others:]
    return (patches / patches.sum(1, keepdim=True)).unflatten(1, grid)
