"""torchvision's classifiers, by the names torchvision/NAME."""

import difflib
import functools
from typing import Any

from torch import nn

PREFIX = "torchvision/"


def is_torchvision(name: str) -> bool:
    """Return whether a name is of torchvision; whether there is such a network is another question."""
    return name.startswith(PREFIX)


def is_classifier(name: str) -> bool:
    """Return whether there is a classifier of torchvision of this name."""
    from torchvision import models

    return name.removeprefix(PREFIX) in models.list_models(module=models)


def create_classifier(name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
    """Build a classifier of torchvision, with its first published weights or new ones.

    Raises:
        ValueError: torchvision has no such classifier.
    """
    from torchvision import models

    short = _short(name)
    weights = next(iter(models.get_model_weights(short))) if pretrained else None
    # Without this option some warn that their weights will be others one day, and draw them slowly.
    own = {"init_weights": True} if short in ("googlenet", "inception_v3") and weights is None else {}
    return models.get_model(short, weights=weights, **own, **options)


def preparation(name: str) -> dict[str, Any]:
    """Return how images were prepared for a classifier's first published weights, as fields of `Data`.

    Raises:
        ValueError: torchvision has no such classifier.
    """
    from torchvision import models

    preset = next(iter(models.get_model_weights(_short(name)))).transforms()
    side, whole = preset.crop_size[0], preset.resize_size[0]
    return {
        "image_size": side,
        "crop_ratio": side / whole,
        "interpolation": "bicubic" if preset.interpolation.value == "bicubic" else "bilinear",
        "mean": tuple(preset.mean),
        "std": tuple(preset.std),
    }


def last_layer(model: nn.Module) -> nn.Module | None:
    """Return the layer that makes the logits of one of torchvision's classifiers; None for any other network."""
    if not isinstance(model, _classes()):
        return None
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]


@functools.cache
def _classes() -> tuple[type[nn.Module], ...]:
    from torchvision import models

    return tuple(one for one in vars(models).values() if isinstance(one, type) and issubclass(one, nn.Module))


def _short(name: str) -> str:
    from torchvision import models

    short = name.removeprefix(PREFIX)
    known = models.list_models(module=models)
    if short not in known:
        close = difflib.get_close_matches(short, known, n=3)
        hint = f" Did you mean {' or '.join(PREFIX + one for one in close)}?" if close else ""
        raise ValueError(f"torchvision has no classifier {short!r}.{hint}")
    return short
