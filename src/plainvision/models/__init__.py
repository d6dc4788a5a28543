"""Networks, one file per family; importing this registers all of them with timm."""

from plainvision.models import (
    alexnet,
    cells,
    patchconvnet,
    pit_pf,
    resnet_cifar,
    resnet_pf,
    single_bottleneck,
    vanillanet,
    vit_pf,
)
from plainvision.models.loading import load_checkpoint
from plainvision.models.registry import create_model, list_models

__all__ = [
    "alexnet",
    "cells",
    "create_model",
    "list_models",
    "load_checkpoint",
    "patchconvnet",
    "pit_pf",
    "resnet_cifar",
    "resnet_pf",
    "single_bottleneck",
    "vanillanet",
    "vit_pf",
]
