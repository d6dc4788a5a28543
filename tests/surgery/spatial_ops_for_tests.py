"""Networks with another spatial operation, on images that are not square."""

import timm
from networks_for_tests import trained
from torch import nn

import plainvision as pv
from plainvision.surgery.spatial_layers import SpatialOp

CLASSES = 5
SIZE = (64, 96)


def narrow(name: str, **options) -> nn.Module:
    return timm.create_model(name, num_classes=CLASSES, **options)


def vit(**options) -> nn.Module:
    depth = {"depth": 3, "embed_dim": 12, "num_heads": 3, "img_size": SIZE}
    return trained(timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, **depth, **options))


def replaced(model: nn.Module, op: str, where=None, image_size=SIZE) -> nn.Module:
    return pv.surgery.spatial_op(model, op, where, image_size=image_size)


def operations(model: nn.Module) -> dict[str, SpatialOp]:
    return {name: module for name, module in model.named_modules() if isinstance(module, SpatialOp)}
