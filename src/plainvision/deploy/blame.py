"""Which module is to blame: the one that a format cannot hold, and the layers that int8 loses most by."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from plainvision.deploy.formats import FORMATS, Format, layer_of
from plainvision.deploy.quantizing import SCHEMES, Calibration, quantizable, quantize
from plainvision.deploy.running import Running

_MOST_TRIES = 64
_GROUPS, _NAMED, _IMAGES = 16, 5, 32


@dataclass(frozen=True)
class Culprit:
    """A layer that int8 loses by."""

    layer: str
    """Path of the module in the deployed network."""
    error: float
    """Share of the squared error of the logits that goes when this layer alone stays in float."""

    def __str__(self) -> str:
        return f"{self.layer}: {self.error:.0%} of the logits' squared error goes when it stays in float"


def layers_that_lose(network: nn.Module, calibration: Sequence[np.ndarray], scheme: str | None = None) -> list[Culprit]:
    """Return the layers whose quantization costs most, the worst first: each in turn stays in float.

    They are found with ONNX Runtime's int8, also for other formats. Where there are many, runs of neighbours stay in
    float first, and then each layer of the worst two.

    Args:
        network: a deployed network on the CPU, in eval mode.
        calibration: images (1, C, H, W), normalised.
        scheme: one of `quantizing.SCHEMES` for ONNX; another one means its first.
    """
    kind = FORMATS["onnx"]
    scheme = scheme if scheme in SCHEMES["onnx"] else SCHEMES["onnx"][0]
    images = list(calibration[:_IMAGES])
    with tempfile.TemporaryDirectory() as beside:
        source, target = Path(beside) / "fp32.onnx", Path(beside) / "int8.onnx"
        kind.write(network, torch.from_numpy(np.concatenate([images[0], images[-1]])), source, False)

        def logits(path: Path) -> np.ndarray:
            return np.concatenate([run[0] for run in map(kind.open(path, Running()), images)])

        wanted = logits(source)

        def error(floats: Sequence[Any]) -> float:
            quantize("onnx", source, target, Calibration(images), scheme, [node.name for node in floats])
            return float(np.square(logits(target) - wanted).sum())

        nodes, whole = quantizable(source), error([])
        if not nodes or not whole:
            return []
        size = -(-len(nodes) // _GROUPS)
        runs = [nodes[start : start + size] for start in range(0, len(nodes), size)]
        errors = sorted(((error(run), place) for place, run in enumerate(runs)), key=lambda pair: pair[0])
        if size > 1:
            worst = [node for _, place in errors[:2] for node in runs[place]]
            alone = [(error([node]), node) for node in worst]
        else:
            alone = [(found, runs[place][0]) for found, place in errors]
    alone.sort(key=lambda pair: pair[0])
    return [Culprit(layer_of(node), 1 - found / whole) for found, node in alone[:_NAMED] if found < whole]


def failing_module(kind: Format, network: nn.Module, images: Tensor, path: Path) -> str:
    """Return the path of the smallest module that cannot be written either; nothing where each part can.

    Each module is written by itself, with the inputs that it gets for ``images``, until none of its parts fails.

    Args:
        kind: the format that refuses the network.
        network: the network.
        images: images (2, C, H, W).
        path: a file to try with.
    """
    found, held, tries = "", images, 0
    while True:
        inputs = _inputs(network.get_submodule(found), held)
        for name, given in inputs.items():
            tries += 1
            if tries > _MOST_TRIES:
                return found
            full = f"{found}.{name}" if found else name
            if _fails(kind, network.get_submodule(full), given, path):
                found, held = full, given
                break
        else:
            return found


def _inputs(module: nn.Module, given: Tensor) -> dict[str, Tensor]:
    """Return what each child of a module gets, where that is one tensor."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            if len(arguments) == 1 and isinstance(arguments[0], Tensor):
                seen.setdefault(name, arguments[0].detach().clone())

        return hook

    hooks = [child.register_forward_pre_hook(keep(name)) for name, child in module.named_children()]
    try:
        with torch.no_grad():
            module(given.clone())
    except Exception:  # what cannot run on these images has no inputs to tell
        return {}
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _fails(kind: Format, module: nn.Module, given: Tensor, path: Path) -> bool:
    try:
        kind.write(module, given, path, False)
    except OSError:
        raise
    except Exception:  # exporters raise nearly anything
        return True
    return False
