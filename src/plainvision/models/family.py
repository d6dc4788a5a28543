"""A family of networks made known to timm and to the registry."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from plainvision.layers.spatial_pool import check_output_stride
from plainvision.models.backbone import Backbone
from plainvision.models.registry import Published, add_family


class Features(FeatureGetterNet):
    """What ``features_only`` returns: images (B, in_chans, H, W) -> a list of features (B, C, H', W')."""

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        self.model.set_grad_checkpointing(enable)


@dataclass(frozen=True)
class Variant:
    """One network of a family."""

    options: dict[str, Any]
    """What its name says of its class's arguments."""
    published: Published
    """What its paper says of it."""
    cfg: dict[str, Any] = field(default_factory=dict)
    """What its configuration for timm has beside the family's: the address of weights, for instance."""


def register_family(
    family: str,
    network: type[Backbone],
    variants: Mapping[str, Variant],
    *,
    tag: str,
    cfg: Mapping[str, Any],
    out_indices: Sequence[int],
    fit: Callable[[dict[str, Any], Any], dict[str, Tensor]] | None = None,
) -> None:
    """Register the networks of a family with timm and with `list_models`.

    Args:
        family: its name.
        network: its class.
        variants: its networks by name.
        tag: timm's word for the weights, such as "in1k"; "" for none.
        cfg: timm's configuration, as far as it is the same for all.
        out_indices: which features ``features_only`` returns by default.
        fit: turns the content of a file of published weights into a state dict for a network, for ``pretrained``.
    """
    module = sys.modules[network.__module__]
    whole = {f"{name}.{tag}" if tag else name: {**_CFG, **cfg, **variant.cfg} for name, variant in variants.items()}
    module.default_cfgs = generate_default_cfgs(whole)  # type: ignore[attr-defined]  # where timm looks for it
    features = {"out_indices": tuple(out_indices), "feature_cls": Features}
    for name, variant in variants.items():
        register_model(_builder(name, network, variant, features, fit))
    add_family(family, {name: variant.published for name, variant in variants.items()})


_CFG = {
    "url": "",
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "pool_size": (7, 7),
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}


def _builder(
    name: str, network: type[Backbone], variant: Variant, features: Mapping[str, Any], fit: Any
) -> Callable[..., nn.Module]:
    dilates = "output_stride" in inspect.signature(network).parameters

    def build(pretrained: bool = False, device: Any = None, dtype: Any = None, **options: Any) -> nn.Module:
        wanted = None if dilates else options.pop("output_stride", None)
        how = {"feature_cfg": {**features}, "pretrained_filter_fn": fit}  # timm takes things out of the former
        with nullcontext() if device is None else torch.device(device):
            model = build_model_with_cfg(network, name, pretrained, **how, **{**variant.options, **options})
        if wanted is not None:
            _check_stride(name, model, wanted)
        if isinstance(model, Backbone):
            # An option, such as the deployed form, may give the first and the last layer other names.
            model.pretrained_cfg.update(_ends(model))
        return model.to(dtype=dtype)

    build.__name__, build.__module__ = name, network.__module__
    return build


def _check_stride(name: str, model: Any, output_stride: int) -> None:
    """Raise a ValueError where a network without dilation makes features smaller than ``output_stride`` allows."""
    check_output_stride(output_stride)
    whole = model.model if isinstance(model, Features) else model
    smallest = max(info["reduction"] for info in whole.feature_info)
    if smallest > output_stride:
        raise ValueError(
            f"{name} has no output_stride {output_stride}: it cuts the image into patches at {smallest} times smaller, "
            "and behind that is no stride that dilation could replace. Leave output_stride out, or take a network with "
            "stages: a VanillaNet, resnet50_max, or pit_s_max."
        )


def note_deployed(model: nn.Module) -> None:
    """Let timm rebuild ``model`` in deployed form, where it is one of ours that is built so with ``deployed``."""
    if isinstance(model, Backbone) and "deployed" in inspect.signature(type(model)).parameters:
        model.pretrained_cfg.update(_ends(model))
        recorded: Any = getattr(model, "_model_args", None)  # for a hub, from timm 1.0.31 on
        if recorded is not None:
            model._model_args = {**recorded, "deployed": True}  # type: ignore[assignment]


def _ends(model: Backbone) -> dict[str, Any]:
    """Return the names of the first convolution and of the classifier's layers, as timm's configurations have them."""
    names = {id(module): name for name, module in model.named_modules()}
    convolution = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    last = [module for module in model.get_classifier().modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    classifier = tuple(names[id(module)] for module in last)
    ends = {"first_conv": names[id(convolution)]}
    return ends | ({"classifier": classifier[0] if len(classifier) == 1 else classifier} if classifier else {})
