"""Published weights of networks by name: timm's, torchvision's, and how images were prepared for them."""

from typing import Any

import timm
from torch import Tensor

from plainvision.models.registry import create_model, is_known, list_models
from plainvision.models.torchvision_classifiers import is_torchvision, preparation


def published_weights(name: str, **options: Any) -> dict[str, Tensor]:
    """Return the published weights of a network of timm's or torchvision's, with the classifier that they have.

    Args:
        name: the network.
        options: its own; `in_chans` adapts the first layer, as timm does it.

    Raises:
        ValueError: there are none, or nobody answers where they are.
    """
    try:
        return create_model(name, pretrained=True, **options).state_dict()
    except (OSError, RuntimeError) as error:  # RuntimeError is timm's way to say that there are no weights
        why = str(error).split(". ")[0]
        raise ValueError(
            f"cannot get the published weights of {name}: {why}. Download them where there is a network, and give the "
            "file with --start-from FILE."
        ) from error


def published_preparation(name: str) -> dict[str, Any]:
    """Return how images were prepared for a network's published weights, as fields of `Data`.

    Raises:
        ValueError: there is no such network, or nobody says how.
    """
    if is_torchvision(name):
        return {"channels": 3, **preparation(name)}
    list_models()  # ours are registered
    found = timm.models.get_pretrained_cfg(name) if is_known(name) else None
    if found is None:
        raise ValueError(
            f"nobody says how images are prepared for the weights of {name!r}. Name a network of ours, timm's or "
            "torchvision's; `plainvision models` lists ours."
        )
    return preparation_of(found.to_dict())


def preparation_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return how images are prepared by a ``pretrained_cfg``, timm's convention, as fields of `Data`."""
    channels, size, _ = config["input_size"]
    return {
        "image_size": size,
        "channels": channels,
        "crop_ratio": config["crop_pct"],
        "resize": "squash" if config.get("crop_mode") == "squash" else "short",
        "interpolation": "bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
    }
