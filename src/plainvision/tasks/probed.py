"""A network whose classifier is a linear probe, for a file that every command takes."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.testing import assert_close

from plainvision.data.locations import absolute
from plainvision.data.settings import Data
from plainvision.inspection.eval_mode import eval_mode
from plainvision.models.loading import load_backbone
from plainvision.tasks.features import image_features
from plainvision.tasks.probing import Probe
from plainvision.training.classification import ONE_CLASS
from plainvision.training.weights_file import Origin, build_described

NAME = "linear_probe"


def probed_network(model: nn.Module, origin: Origin, data: Data, found: Probe) -> tuple[nn.Module, Origin]:
    """Return the network of ``model`` with the linear classifier of a probe as its own, and what rebuilds it.

    Args:
        model: the network whose features were probed; it stays as it is.
        origin: what rebuilds it.
        data: the data of the probe.
        found: the probe.

    Raises:
        ValueError: its classifier is no single linear layer behind the features, so that it cannot be the probe's.
    """
    recipe = replace(origin.recipe, name=NAME, data=absolute(data), task=ONE_CLASS)
    origin = replace(origin, recipe=recipe, classes=found.classes)
    network = build_described(origin)
    load_backbone(network, model.state_dict())
    classifier = network.get_classifier()  # type: ignore[operator]  # load_backbone has asked for it
    if not isinstance(classifier, nn.Linear | nn.Conv2d) or classifier.weight[0].numel() != found.features:
        raise ValueError(
            f"the classifier of {type(network).__name__} is a {type(classifier).__name__}, and a linear probe fits a "
            "single linear layer behind the features. Probe its deployed form (:deployed behind the network) where "
            "that has one, or fine-tune it."
        )
    assert classifier.bias is not None
    with torch.no_grad():
        classifier.weight.copy_(torch.from_numpy(found.head.weight).view_as(classifier.weight))
        classifier.bias.copy_(torch.from_numpy(found.head.bias))
    _compare(network, model, data, found)
    return network.eval(), origin


def _compare(network: nn.Module, model: nn.Module, data: Data, found: Probe) -> None:
    """Raise a `ValueError` where a network does not answer as the probe does on features of ``model``."""
    images = torch.randn(2, data.channels, data.image_size, data.image_size, generator=torch.Generator().manual_seed(0))
    with eval_mode(network), eval_mode(model), torch.inference_mode():
        logits = network(images)
        expected = found.head.logits(image_features(model.cpu(), images).numpy())
    try:
        scale = float(np.abs(expected).max())
        assert_close(logits, torch.from_numpy(expected), rtol=1e-3, atol=1e-4 * max(1.0, scale))
    except AssertionError as error:
        raise ValueError(
            f"{type(network).__name__} with the probe as its classifier does not answer as the probe does: more lies "
            f"behind its features than the classifier ({' '.join(str(error).split())[:200]}). Fine-tune it instead."
        ) from error
