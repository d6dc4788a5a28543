"""Before the first step of a detector or a segmenter: the backbone's weights, and whether it takes the images."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from plainvision.models.registry import create_model
from plainvision.models.trunk import trunks
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
