"""Before the first step of a detector or a segmenter: anchors, the backbone's weights, whether it takes the images."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from plainvision.models.registry import create_model
from plainvision.models.trunk import trunks
from plainvision.tasks.anchors import LEVELS, fit_anchors
from plainvision.tasks.boxes import BoxScenes
from plainvision.tasks.learning import LONGEST, Detection
from plainvision.training.recipe import Recipe
from plainvision.training.starting import load_start


def load_backbone_weights(network: nn.Module, recipe: Recipe) -> None:
    """Load the weights of a classifier that ``recipe`` starts from, if any, into the backbone of ``network``.

    Raises:
        FileNotFoundError, ValueError: there are no such weights, or they are not those of this network.
    """
    if recipe.start_from is None:
        return
    whole = create_model(recipe.model, **recipe.network_options(1))
    load_start(whole, replace(recipe, new_classifier=True))
    state = whole.state_dict()
    (features,) = trunks(network)
    trunk: Any = features.model
    own = trunk.state_dict()
    trunk.load_state_dict({key: state[key] for key in own})


def check_forward(answer: Callable[[Tensor], Any], network: nn.Module, recipe: Recipe) -> None:
    """Pass one image through a network, before the run's folder exists; what it cannot take is a `ValueError`."""
    data = recipe.data
    image = torch.zeros(data.channels, data.image_size, data.image_size, device=next(network.parameters()).device)
    try:
        with torch.no_grad():
            answer(image)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"{recipe.model} cannot take images of {data.channels}x{data.image_size}x{data.image_size}: {error}. Give "
            "another data.image_size, for instance 512."
        ) from error


def with_fitted_anchors(recipe: Recipe) -> Recipe:
    """Return the recipe of a detector with anchors of the sizes that its training boxes have as the network sees them.

    Raises:
        FileNotFoundError, ValueError: there are no such annotations, or no boxes in them.
    """
    task, size = recipe.task, recipe.data.image_size
    assert isinstance(task, Detection), "a segmenter has no anchors"
    boxes = []
    for scene in BoxScenes(recipe.data, "train", masks=False).scenes:
        short, long = sorted((scene.width, scene.height))
        scale = min(size / short, size * LONGEST / long)
        boxes += [[scale * edge for edge in thing.box] for thing in scene.things if not thing.crowd]
    levels = LEVELS[task.kind]
    sizes = fit_anchors(torch.tensor(boxes).reshape(-1, 4), strides=levels.strides, per_level=levels.per_level)
    return replace(recipe, task=replace(task, anchor_sizes=sizes))
