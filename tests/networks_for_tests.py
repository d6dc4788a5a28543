"""Networks with statistics that are not those of a new one, and what the official code was recorded with."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

GOLDEN = Path(__file__).parent / "golden"


def golden_fill():
    """Return the module that gives weights by key; it lives beside the records that it belongs to."""
    spec = importlib.util.spec_from_file_location("golden_fill", GOLDEN / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def official_weights(name: str) -> dict[str, torch.Tensor]:
    shapes = json.loads((GOLDEN / "vanillanet_shapes.json").read_text())[name]
    return {key: torch.from_numpy(np.asarray(value)) for key, value in golden_fill().fill(shapes).items()}


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
            elif isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * (2 / fan_in) ** 0.5)
                if module.bias is not None:
                    module.bias.copy_(0.3 * torch.randn(module.bias.shape, generator=generator))
    return model.eval()
