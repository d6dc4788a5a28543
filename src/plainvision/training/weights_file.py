"""Files of weights, whose header describes the network. A header is data: it opens no file and no address."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn

from plainvision.confidences import check_temperature
from plainvision.fields import from_plain
from plainvision.files import nearby
from plainvision.layers.linear_pair import set_slope
from plainvision.models.described import bounded, build_outline, check_description
from plainvision.models.loading import load_checkpoint
from plainvision.models.reading import read_safetensors, save_tensors
from plainvision.surgery.fusing import fold
from plainvision.training.recipe import Recipe, as_recorded

KEY = "plainvision"
_LONGEST_HEADER = 2**24
# Options of timm that say where weights come from; a file brings its own.
_OTHER_WEIGHTS = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")
# So much may a network be larger than its file: pairs of layers that were fused, layers that a surgery replaces.
_GROWTH, _ELEMENTS, _LAYERS = 8, 2**24, 20_000


@dataclass(frozen=True)
class Origin:
    """What a header says: enough to rebuild the network."""

    recipe: Recipe
    """The recipe that trained them."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the logits."""
    epoch: int
    """The epoch whose form the network has, from 0."""
    deployed: bool = False
    """Whether it was fused."""
    temperature: float = 1.0
    """Divides the logits for calibrated confidences."""

    def __post_init__(self) -> None:
        check_temperature(self.temperature, "header.temperature")
        if not 0 <= self.epoch <= 10**9 or not 1 <= len(self.classes) <= 10**6:
            raise ValueError(f"epoch={self.epoch} with {len(self.classes)} classes cannot be")


def build_network(recipe: Recipe, classes: int, epoch: int) -> nn.Module:
    """Return the network of a recipe, with new weights, in the form that it has in ``epoch``.

    Raises:
        ValueError: there is no such network, or it has no such option.
    """
    model = recipe.task.build(recipe, classes)
    for technique in recipe.techniques:
        model = technique.build(model)
    for technique in recipe.techniques:
        model = technique.reshape(model, epoch)
    return model


def build_described(origin: Origin) -> nn.Module:
    """Return the network of an origin, with new weights, in its form; what its words cannot build raises anything."""
    model = build_network(origin.recipe, len(origin.classes), origin.epoch)
    if origin.deployed:
        set_slope(model, 1)
        model = fold(model)
    return model


def save_network(path: Path, weights: Mapping[str, Tensor], origin: Origin) -> None:
    """Write a network's state dict, its origin and a checksum as safetensors.

    Raises:
        OSError: the place cannot be written; an old file is still there.
    """
    own = {key: value for key, value in origin.recipe.model_options.items() if key not in _OTHER_WEIGHTS}
    header: dict[str, Any] = {
        "recipe": dataclasses.replace(origin.recipe, model_options=own).to_dict(),
        "classes": origin.classes,
        "epoch": origin.epoch,
        "deployed": origin.deployed,
    }
    if origin.temperature != 1:
        header["temperature"] = origin.temperature
    save_tensors(path, weights, {KEY: json.dumps(header)})


def save_temperature(path: Path, temperature: float) -> None:
    """Write into the header of a file of weights by what its logits are divided; the file is replaced as a whole.

    Raises:
        ValueError: the file is damaged.
        OSError: it cannot be written.
    """
    tensors, words = read_safetensors(path)
    header = json.loads(words[KEY])
    save_tensors(path, tensors, words | {KEY: json.dumps(header | {"temperature": temperature})})


def load_network(source: str | Path, weights: str = "best") -> tuple[nn.Module, Origin]:
    """Return the network in a run's folder or in a file that plainvision wrote, in eval mode, and its origin.

    The recipe in the origin opens nothing, see `as_recorded`. Of a folder, ``weights`` are "best" or "last".

    Raises:
        FileNotFoundError: there is no such run or file.
        ValueError: the file is damaged, does not say which network it belongs to, or describes another one.
    """
    path = Path(source)
    if path.is_dir():
        path = path / f"{weights}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights at {path}.{nearby(path)} Give the folder of a run, or a .safetensors file that plainvision "
            "wrote."
        )
    tensors, words = read_safetensors(path)
    if KEY not in words:
        raise ValueError(
            f"{path} does not say which network its weights belong to: plainvision did not write it. Build the network "
            "with `plainvision.create_model` and use `plainvision.load_checkpoint`, or on the command line give "
            "its name, and this file with --checkpoint."
        )
    try:
        origin = _origin(words[KEY])
        model = _described(origin, tensors)
    except Exception as error:  # a header may say anything, and networks raise anything about their options
        why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ValueError(
            f"the header of {path} does not describe a network: {why}. It was edited, or another version of "
            "plainvision wrote it. Load its weights with `plainvision.load_checkpoint` into a network that you build."
        ) from error
    try:
        return load_checkpoint(model, tensors).eval(), origin
    except ValueError as error:
        raise ValueError(str(error).replace("the given state dict", str(path), 1)) from error


def read_origin(path: Path) -> Origin | None:
    """Return what the header of a file of weights says of its network; None where plainvision did not write it.

    Raises:
        ValueError: the header does not describe a network.
    """
    try:
        with safe_open(path, "pt") as file:
            words = file.metadata() or {}
    except Exception:  # no safetensors file, or a damaged one: whoever loads it says so
        return None
    try:
        return _origin(words[KEY]) if KEY in words else None
    except ValueError as error:
        raise ValueError(f"the header of {path} does not describe a network: {error}. It was edited.") from error


def _origin(text: str) -> Origin:
    """Return what a header says, checked field by field."""
    if len(text) > _LONGEST_HEADER:
        raise ValueError(f"it has {len(text):,} characters")
    plain: Any = json.loads(text)
    if not isinstance(plain, dict) or "recipe" not in plain:
        raise ValueError("it has no recipe")
    recipe = Recipe.from_dict(plain.pop("recipe"))
    check_description(recipe.model, recipe.model_options)
    return from_plain(Origin, plain, "header", {"recipe": as_recorded(recipe)})


def _described(origin: Origin, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build the network of a header, as long as it is not much larger than the tensors of its file."""
    elements = _GROWTH * sum(value.numel() for value in tensors.values()) + _ELEMENTS
    layers = _GROWTH * len(tensors) + _LAYERS
    with bounded(elements, layers):
        build_outline(origin.recipe.model, origin.recipe.network_options(len(origin.classes)))
    with bounded(2 * elements, 2 * layers):
        return build_described(origin)
