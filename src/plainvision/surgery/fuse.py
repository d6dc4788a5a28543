"""Fold a trained network into its deployed form, and prove that it still answers the same.

VanillaNet's re-parameterisation (arXiv:2305.12972, section 3.1), for any network: linear pairs and series
activations become plain convolutions, and batch norms go into the convolution before them.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from plainvision.layers.fusable import Fusable, fold_batch_norm, fold_sequence
from plainvision.layers.linear_pair import LinearPair
from plainvision.surgery.tracing import example_input, replace_layer, trace

# Largest difference that rounding explains, relative to the largest logit. Measured in float32: below 1e-5.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.bfloat16: 1e-1, torch.float16: 2e-2}


@dataclass(frozen=True)
class FusionReport:
    """What fusing changed and how far the answers moved, on random images."""

    layers_before: int
    """Layers with weights in the training form: convolutions, linear layers, norms."""
    layers_after: int
    """The same in the deployed form."""
    parameters_before: int
    """Parameters of the training form."""
    parameters_after: int
    """Parameters of the deployed form."""
    images: int
    """Random images that both forms answered."""
    largest_absolute_error: float
    """Largest difference of a logit."""
    largest_relative_error: float
    """The same over the largest logit."""
    argmax_agreement: float
    """Share of the images for which both forms choose the same class."""

    def __str__(self) -> str:
        return (
            f"{self.layers_before} layers with weights -> {self.layers_after}, {self.parameters_before:,} parameters "
            f"-> {self.parameters_after:,}; on {self.images} random images the largest difference is "
            f"{self.largest_absolute_error:.2e} ({self.largest_relative_error:.2e} of the largest logit), same class "
            f"for {self.argmax_agreement:.0%}"
        )


def fuse(
    model: nn.Module,
    *,
    image_size: int | tuple[int, int] | None = None,
    images: int = 8,
    tolerance: float | None = None,
) -> nn.Module:
    """Return a new network in deployed form, in eval mode, whose ``report`` is a `FusionReport`.

    Args:
        model: a network with linear pairs, series activations or batch norms; it stays as it is.
        image_size: side, or (H, W), of the random images for the check; the network's own by default.
        images: how many of them.
        tolerance: largest difference allowed, relative to the largest logit; None takes what the dtype explains.

    Raises:
        ValueError: a slope is not 1, nothing can be fused, or the two forms answer differently.
    """
    before = copy.deepcopy(model).eval()
    fused = fold(before)
    if fused.state_dict().keys() == before.state_dict().keys():
        raise ValueError(
            f"nothing to fuse in {type(model).__name__}: it has no linear pair, no series activation and no batch norm "
            "behind a convolution. It is in deployed form already, or its forward pass hides how its layers are wired."
        )
    fused.report = compare_forms(before, fused, example_input(before, images, image_size), tolerance)  # type: ignore
    return fused


def fold(model: nn.Module) -> nn.Module:
    """Return a new network in deployed form and eval mode, without the check that `fuse` makes.

    Raises:
        ValueError: a slope is not 1.
    """
    folded = _replace(copy.deepcopy(model).eval(), _fold)
    return _fold_scattered_batch_norms(folded).eval()


def merge_pairs(model: nn.Module) -> nn.Module:
    """Return a new network whose linear pairs are one convolution each, their last batch norm kept for training.

    Raises:
        ValueError: a slope is not 1, or there is no linear pair.
    """
    if not any(isinstance(module, LinearPair) for module in model.modules()):
        raise ValueError(f"no linear pair to merge in {type(model).__name__}: it was built, or merged, without them.")
    return _replace(copy.deepcopy(model), lambda m: m.merge().train(m.training) if isinstance(m, LinearPair) else None)


def compare_forms(before: nn.Module, after: nn.Module, images: Tensor, tolerance: float | None = None) -> FusionReport:
    """Return how far the answers of two forms of a network lie apart on ``images`` (B, C, H, W).

    Raises:
        ValueError: further than ``tolerance``, relative to the largest logit.
    """
    if tolerance is None:
        tolerance = _TOLERANCE.get(images.dtype, 1e-4)
    with torch.no_grad():
        expected, found = before(images).double(), after(images).double()
    error, largest = (found - expected).abs().max().item(), expected.abs().max().item()
    report = FusionReport(
        layers_before=_weighted_layers(before),
        layers_after=_weighted_layers(after),
        parameters_before=sum(p.numel() for p in before.parameters()),
        parameters_after=sum(p.numel() for p in after.parameters()),
        images=len(images),
        largest_absolute_error=error,
        largest_relative_error=error / largest if largest else error,
        argmax_agreement=(found.flatten(1).argmax(1) == expected.flatten(1).argmax(1)).double().mean().item(),
    )
    if not report.largest_relative_error <= tolerance:  # also when it is not a number
        raise ValueError(
            f"fusing {type(before).__name__} changes its answers by {report.largest_relative_error:.2e} of the largest "
            f"logit, more than the tolerance of {tolerance:.0e}. A batch norm with a tiny running variance or a weight "
            "that is not finite does that: look for them, or fuse a copy in float64 (`model.double()`)."
        )
    return report


def _fold(module: nn.Module) -> nn.Module | None:
    if isinstance(module, Fusable):
        return module.fuse()
    if type(module) is nn.Sequential and [type(layer) for layer in module] == [nn.Conv2d, nn.BatchNorm2d]:
        return fold_sequence(module)[0]
    return None


def _replace(model: nn.Module, change: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """Return ``model`` with each layer for which ``change`` returns another one replaced, whole subtrees at once."""
    changed = change(model)
    if changed is not None:
        return changed
    for name, child in list(model.named_children()):
        setattr(model, name, _replace(child, change))
    return model


def _fold_scattered_batch_norms(model: nn.Module) -> nn.Module:
    """Fold each batch norm that alone reads a convolution's output, wherever the two are written in the network."""
    graph = trace(model) if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()) else None
    if graph is None:
        return model
    calls = [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]
    for node in graph.graph.nodes:
        if node.op != "call_module" or not node.args or getattr(node.args[0], "op", None) != "call_module":
            continue
        name, source = str(node.target), str(node.args[0].target)
        norm, conv = model.get_submodule(name), model.get_submodule(source)
        if type(norm) not in (nn.BatchNorm2d, BatchNormAct2d) or type(conv) is not nn.Conv2d:
            continue
        if len(node.args[0].users) > 1 or calls.count(name) > 1 or calls.count(source) > 1:
            continue  # somebody else reads the convolution, or one of the two works in several places
        assert isinstance(norm, nn.BatchNorm2d)
        replace_layer(model, source, fold_batch_norm(conv, norm))
        replace_layer(model, name, norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity())
    return model


def _weighted_layers(model: nn.Module) -> int:
    return sum(isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.LayerNorm) for m in model.modules())
