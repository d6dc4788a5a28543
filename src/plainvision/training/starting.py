"""The weights that a run starts from: what is known of them, and how they get into the network."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from plainvision.data.settings import RECORDED
from plainvision.files import nearby
from plainvision.models.loading import classifier_layers, load_backbone, load_checkpoint
from plainvision.models.pretrained import published_preparation, published_weights
from plainvision.models.registry import is_known
from plainvision.training.recipe import PRETRAINED, Option, Recipe
from plainvision.training.techniques import (
    AttentionPooling,
    LinearPairs,
    Plain,
    SeriesActivations,
    SpatialOps,
    Technique,
)
from plainvision.training.weights_file import read_origin

# What gives a network another form before it trains, and nothing afterwards.
_SURGERIES = (AttentionPooling, LinearPairs, Plain, SeriesActivations, SpatialOps)
# The standard deviation of a new classifier's weights, as in DeiT and in the papers' networks.
_DEVIATION = 0.02
_PREPARATION = ("image_size", "channels", "crop_ratio", "resize", "interpolation", "mean", "std")


@dataclass(frozen=True)
class KnownWeights:
    """Trained weights, and what is known of their network."""

    source: str
    """Path or URL of the weights, or `PRETRAINED`."""
    model: str
    """The network's name."""
    preparation: dict[str, Any]
    """How images were prepared for it, as fields of `Data`."""
    options: dict[str, Option] = field(default_factory=dict)
    """Its own options, as far as the weights' file records them."""
    techniques: tuple[Technique, ...] = ()
    """What gave it its form."""
    classes: tuple[str, ...] | None = None
    """Names of its classes, where the weights' file records them."""


def known_weights(source: str, model: str | None) -> KnownWeights:
    """Return what is known of weights: by the header of a file of ours, else by the network's published configuration.

    Args:
        source: path or URL of the weights, or `PRETRAINED`.
        model: the network; None takes that of the header, or that which the file is called like.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: nobody says which network it is, or how its images are prepared.
    """
    path = None if source == PRETRAINED or "://" in source else weights_path(source)
    origin = None if path is None else read_origin(path)
    if origin is not None and model in (None, origin.recipe.model):
        recipe = origin.recipe
        forms = tuple(one for one in recipe.techniques if isinstance(one, _SURGERIES))
        told = {name: value for name, value in asdict(recipe.data).items() if name in _PREPARATION}
        return KnownWeights(source, recipe.model, told, recipe.model_options, forms, origin.classes)
    stem = Path(source.partition("?")[0]).name.rpartition(".")[0]
    name = model or (stem if is_known(stem) else None)
    if name is None:
        raise ValueError(
            f"--start-from {source}: the file does not say which network its weights are of. Name it with --model, "
            "for instance --model tf_efficientnet_lite0."
            if source != PRETRAINED
            else "--pretrained: of which network? Name it with --model, for instance --model tf_efficientnet_lite0."
        )
    return KnownWeights(source, name, published_preparation(name))


def weights_path(source: str) -> Path:
    """Return the file of weights at ``source``, of a run's folder its best.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(source).expanduser()
    path = path / "best.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {path}:{nearby(path)} give the path of a .safetensors or PyTorch file, the folder of a "
            "run, or a URL."
        )
    return path


def load_start(model: nn.Module, recipe: Recipe) -> None:
    """Load the weights that ``recipe`` starts from, if any, into its network.

    Without a new classifier, all of them are loaded; a new one begins with small weights.

    Raises:
        FileNotFoundError, ValueError: there are no such weights, or they are not those of this network.
    """
    source = recipe.start_from
    if source is None:
        return
    if source.startswith(RECORDED):
        raise ValueError(
            f"the recipe's file records that its run started from {source.removeprefix(RECORDED)!r}, and a file opens "
            "nothing by itself. Give the weights with --start-from, or train from new ones with --start-from None"
            f"{' --no-new-classifier' if recipe.new_classifier else ''}."
        )
    load = load_backbone if recipe.new_classifier else load_checkpoint
    if source == PRETRAINED:
        channels = {"in_chans": recipe.data.channels} if recipe.data.channels != 3 else {}
        load(model, published_weights(recipe.model, **channels, **recipe.model_options))
    else:
        load(model, source if "://" in source else weights_path(source))
    if recipe.new_classifier:
        for classifier in classifier_layers(model):
            _soften(classifier)


def _soften(classifier: nn.Module) -> None:
    """Scale the weights of a new classifier down, where they are larger than those of new transformers and of ours.

    timm draws EfficientNet's with a deviation of 0.18: ten classes then begin with a loss of 8.6 instead of 2.3, and
    training unlearns that for epochs, while it disturbs the layers below.
    """
    for name, weight in classifier.named_parameters():
        if name.rpartition(".")[2] == "weight" and weight.ndim > 1:
            with torch.no_grad():
                weight.mul_((_DEVIATION / weight.std(correction=0)).clamp(max=1.0))
