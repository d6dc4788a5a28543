"""Networks with statistics that are not those of a new one, and what the official code was recorded with."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import torch
from torch import nn

from plainvision.layers.attention_pool import AttentionPool
from plainvision.models.patchconvnet import ColumnBlock

GOLDEN = Path(__file__).parent / "golden"

# Options that make a family's networks small enough to test; a family without an entry fails here, on purpose.
TINY = {
    "vanillanet": {"width": 1 / 64},
    "alexnet": {"width": 1 / 16},
    "patchconvnet": {"embed_dim": 16, "depth": 3},
    "resnet_cifar": {"width": 1 / 2, "depths": (1, 2, 1)},
    "resnet_pf": {"width": 1 / 8, "depths": (1, 2, 1, 1)},
    "vit_pf": {"width": 1 / 16, "depth": 3},
    "pit_pf": {"width": 1 / 16, "depths": (1, 2, 1)},
}


def golden_fill():
    """Return the module that gives weights by key; it lives beside the records that it belongs to."""
    spec = importlib.util.spec_from_file_location("golden_fill", GOLDEN / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def official_weights(name: str, family: str = "vanillanet") -> dict[str, torch.Tensor]:
    """Return the state dict that the official code's logits were recorded with; ``name`` is the official one."""
    shapes = json.loads((GOLDEN / f"{family}_shapes.json").read_text())[name]
    return {key: torch.from_numpy(np.asarray(value)) for key, value in golden_fill().fill(unfold(shapes)).items()}


def unfold(shapes: dict[str, list[int]]) -> dict[str, list[int]]:
    """Write out each key with a ``*60``, which stands for the numbers 0 to 59."""
    whole = {}
    for key, shape in shapes.items():
        repeated = re.search(r"\*(\d+)", key)
        for i in range(int(repeated[1]) if repeated else 1):
            whole[re.sub(r"\*\d+", str(i), key)] = shape
    return whole


def trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """Move every weight and statistic off its initial value: fusing a new network would succeed by luck."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
                module.weight.copy_(0.5 + torch.rand(module.num_features, generator=generator))
                module.bias.copy_(0.3 * torch.randn(module.num_features, generator=generator))
            elif isinstance(module, AttentionPool):
                nn.init.normal_(module.token, generator=generator)
                for scale in (module.scale1, module.scale2):
                    nn.init.uniform_(scale, 0.5, 1.5, generator=generator)
            elif isinstance(module, ColumnBlock):
                nn.init.uniform_(module.scale, 0.5, 1.5, generator=generator)
            elif isinstance(module, nn.LayerNorm | nn.Linear):
                nn.init.normal_(module.bias, std=0.3, generator=generator)
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=module.in_features**-0.5, generator=generator)
            elif isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * (2 / fan_in) ** 0.5)
                if module.bias is not None:
                    module.bias.copy_(0.3 * torch.randn(module.bias.shape, generator=generator))
    return model.eval()
