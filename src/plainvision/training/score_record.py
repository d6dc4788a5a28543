"""What a record of an evaluation holds of a network: its scores, on which images, and what it costs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from plainvision.data.settings import RECORDED, Data
from plainvision.inspection.counting import count_macs, count_parameters
from plainvision.inspection.depth import count_depth


def score_record(name: str, form: str, scores: Mapping[str, float], model: nn.Module, data: Data) -> dict[str, Any]:
    """Return a row of plain values: the ``scores``, such as top-1, what images ``data`` are, and the costs."""
    return {"name": name, "form": form, **scores, "images_of": images_of(data), "image_size": data.image_size} | costs(
        model, data
    )


def costs(model: nn.Module, data: Data) -> dict[str, int | None]:
    """Return parameters, multiply-adds of an image of ``data``, and depth in layers; None where it is unknown."""
    return {
        "parameters": count_parameters(model),
        "macs": count_macs(model, data.image_size, data.channels),
        "depth": count_depth(model, data.image_size, data.channels),
    }


def images_of(data: Data) -> str:
    """Return what to call the images that score; folders stay out, for they tell whose machine that was."""
    root = data.validation_root or data.root
    return f"{Path(root.removeprefix(RECORDED)).name} {data.validation_split.removeprefix(RECORDED)}"
