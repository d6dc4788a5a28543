"""Networks at another image size than the one that they were built for."""

import copy
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from plainvision.inspection.eval_mode import eval_mode
from plainvision.inspection.tracing import example_input
from plainvision.showing import one_line

_MOST = 200


@runtime_checkable
class _Resizable(Protocol):
    """What timm's transformers offer: it resizes position embeddings, and windows of attention."""

    def set_input_size(self, img_size: tuple[int, int]) -> None: ...


def at_size(
    networks: Mapping[str, nn.Module], image_size: int, channels: int
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Return the networks that run on images of ``image_size`` pixels, and why each of the others does not.

    A network that takes one size alone is copied and given another by timm's ``set_input_size`` where it has that, so
    that its position embeddings are resized. The others are returned as they are.
    """
    found: dict[str, nn.Module] = {}
    refused: dict[str, str] = {}
    for name, network in networks.items():
        why = _refusal(network, image_size, channels)
        if why is not None and isinstance(network, _Resizable):
            network = copy.deepcopy(network)
            try:
                network.set_input_size(img_size=(image_size, image_size))
            except Exception as error:  # windows that do not divide the image are an assertion, or a RuntimeError
                why = one_line(error, _MOST)
            else:
                why = _refusal(network, image_size, channels)
        if why is None:
            found[name] = network
        else:
            refused[name] = why
    return found, refused


def _refusal(network: nn.Module, image_size: int, channels: int) -> str | None:
    try:
        with eval_mode(network), torch.inference_mode():
            network(example_input(network, 1, image_size, channels))
    except Exception as error:  # a forward pass may raise anything
        return one_line(error, _MOST)
    return None
