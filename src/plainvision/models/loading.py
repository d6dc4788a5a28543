"""Load weights into a network: ours or the official layout, from a path, a URL or a state dict, always strictly.

`load_checkpoint` loads all of them; `load_backbone` leaves the classifier out, to learn other classes.
"""

import abc
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from plainvision.models.downloads import download
from plainvision.models.image_sizes import with_own_positions
from plainvision.models.reading import read_file
from plainvision.models.torchvision_classifiers import last_layer

# Where a file wraps its weights, the averaged ones first: they are what the papers evaluate.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
# What `torch.optim.swa_utils.AveragedModel` counts beside the weights.
_AVERAGED = "n_averaged"
# The files of torchvision's DenseNets are older than the rule that a layer's name has no dot.
_DOTTED = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
_COUNTER = "num_batches_tracked"
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class OfficialLayout(nn.Module, abc.ABC):
    """A network that also reads the checkpoints of its paper's official code.

    `load_state_dict` translates, so that every way in does, timm's ``checkpoint_path`` too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(_translate)

    @abc.abstractmethod
    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``state`` with our keys, unchanged where they are ours already."""


def load_checkpoint(model: nn.Module, source: str | Path | Mapping[str, Any]) -> nn.Module:
    """Load weights strictly into ``model`` and return it.

    What wrappers put before every key is taken off. Position embeddings of another image size are interpolated. Other
    floating point than the network's is converted, with a warning.

    Args:
        model: the network, in the form (training or deployed) that the weights have.
        source: a path or URL of a .safetensors or PyTorch file, or a state dict; plain, or wrapped as the official
            files are in ``model`` or ``model_ema``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds no weights, or has missing, extra or wrongly shaped keys, or tensors
            that cannot mean the same in the network, whole numbers for floating point for instance.
    """
    state, origin = _read(model, source)
    _load(model, state, origin)
    return model


def load_backbone(model: nn.Module, source: str | Path | Mapping[str, Any]) -> nn.Module:
    """Load weights strictly into ``model``, except those of its classifier, and return it.

    The classifier, what timm's `get_classifier` returns, keeps the weights that it has; in ``source`` it may have
    other classes, or be missing.

    Arguments and errors are those of `load_checkpoint`.

    Raises:
        ValueError: also where the network does not say what its classifier is.
    """
    state, origin = _read(model, source)
    prefixes = _classifier_prefixes(model)
    backbone = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    classifier = {key: value for key, value in model.state_dict().items() if key.startswith(prefixes)}
    _load(model, backbone | classifier, origin)
    return model


def _read(model: nn.Module, source: str | Path | Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """Return a source's weights with the network's own keys, and what to call the source in errors."""

    def read(path: Path) -> dict[str, Tensor]:
        return _tensors(read_file(path), str(path))

    origin = "the given state dict" if isinstance(source, Mapping) else str(source)
    if isinstance(source, Mapping):
        state = _tensors(source, origin)
    elif origin.lower().startswith(("http://", "https://")):
        state = download(origin, read)
    elif (path := Path(source)).is_file():
        state = read(path)
    else:
        raise FileNotFoundError(f"no checkpoint at {path}: give the path of a .safetensors or PyTorch file, or a URL.")
    own = model.state_dict()
    state = {_DOTTED.sub(r"\1\2", key): value for key, value in _without_prefixes(state, own).items()}
    state = model.from_official(state) if isinstance(model, OfficialLayout) else state
    state = with_own_positions(model, state)
    # Files from before torch 0.4.1 lack the counters of batch norms, which are read by none that has a momentum.
    counters = {
        key: value
        for key, value in own.items()
        if key.endswith(f".{_COUNTER}") and f"{key.removesuffix(_COUNTER)}running_mean" in state
    }
    return counters | state, origin


def classifier_layers(model: nn.Module) -> list[nn.Module]:
    """Return the classifier of ``model``: one layer, or several, as distilled networks have.

    Raises:
        ValueError: the network does not say what its classifier is.
    """
    get_classifier = getattr(model, "get_classifier", None)
    found: Any = last_layer(model) if get_classifier is None else get_classifier()
    if found is None:
        raise ValueError(
            f"cannot leave the classifier of {type(model).__name__} out: it has no get_classifier() to say which "
            "layers those are. Give it one, or load weights of the same classes with load_checkpoint."
        )
    return list(found) if isinstance(found, tuple | list) else [found]


def _classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Return what the keys of the classifier start with."""
    classifiers = {id(layer) for layer in classifier_layers(model)}
    return tuple(f"{name}." for name, module in model.named_modules() if id(module) in classifiers)


def _translate(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(model, OfficialLayout)
    if not prefix:  # official files hold the network alone
        translated = model.from_official(state)
        if translated is not state:
            state.clear()
            state.update(translated)


def _tensors(content: Any, origin: str) -> dict[str, Tensor]:
    """Return the state dict in what a file holds."""
    while isinstance(content, Mapping):
        found = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if found is None:
            break
        content = found
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    ):
        raise ValueError(
            f"{origin} holds no weights: expected tensors by name, plain or under one of {', '.join(_WRAPPERS)}. "
            "Give a state dict."
        )
    return dict(content)


def _without_prefixes(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``state`` without what wrappers put before every key: DDP, torch.compile, Lightning and their like."""
    firsts = {key.partition(".")[0] for key in own}
    while True:
        inner = {key: value for key, value in state.items() if key != _AVERAGED or key in own}
        first = {key.partition(".")[0] for key in inner}
        if len(first) != 1 or first <= firsts or not all("." in key for key in inner):
            return state
        state = {key.partition(".")[2]: value for key, value in inner.items()}


def _load(model: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    own = model.state_dict()
    _check(type(model).__name__, own, state, origin)
    converted = {
        f"{state[key].dtype} to {value.dtype}".replace("torch.", "")
        for key, value in own.items()
        if value.is_floating_point() and state[key].dtype != value.dtype
    }
    if converted:
        warnings.warn(
            f"weights of {origin} are converted from {', '.join(sorted(converted))}; their values have the precision "
            "of the former.",
            stacklevel=3,
        )
    model.load_state_dict(state)


def _check(name: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor], origin: str) -> None:
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in own]
    both = [key for key in own if key in state]
    odd = {key: what for key in both if (what := _odd(key, state[key], own[key])) is not None}
    kinds = [f"{key} is {what}, the network has {own[key].dtype}".replace("torch.", "") for key, what in odd.items()]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, the network has {tuple(own[key].shape)}"
        for key in both
        if key not in odd and state[key].shape != own[key].shape
    ]
    problems = [("missing", missing), ("extra", extra), ("wrong kind", kinds), ("wrong shape", shapes)]
    said = [f"{len(keys)} {what}: {_few(keys)}" for what, keys in problems if keys]
    if not said:
        return
    if any(_is_other_form(key, state) for key in missing):
        advice = (
            "It looks like the deployed form, or one without linear pairs: build the network with deployed=True, or "
            "with linear_pairs=False."
        )
    elif any(_is_other_form(key, own) for key in extra):
        advice = (
            "It looks like the training form: build the network without deployed=True, load, then plainvision.fuse."
        )
    elif prefix := _hiding_prefix(own, state):
        advice = f"All its keys are there behind the prefix {prefix!r}, beside others: give the part with that prefix."
    elif missing or extra:
        advice = f"It looks like the weights of another network than this {name}."
    elif kinds:
        advice = (
            "Such values do not mean the same in this network. Give weights in floating point, as they were trained."
        )
    else:
        advice = (
            "Build the network with the options it was trained with: num_classes, in_chans, width. To learn other "
            "classes, load_backbone, or new_classifier in a recipe (--new-classifier), leaves the classifier out."
        )
    raise ValueError(f"{origin} does not fit this {name}; {'; '.join(said)}. {advice}")


def _odd(key: str, value: Tensor, own: Tensor) -> str | None:
    """Return what kind of tensor ``value`` is, when it cannot mean the same as ``own``."""
    if value.is_quantized or value.layout != torch.strided or (value.is_meta and not own.is_meta):
        return "quantised" if value.is_quantized else "without values" if value.is_meta else "sparse"
    if own.dtype in _FLOATS:
        fits = value.dtype in _FLOATS
    elif key.endswith(_COUNTER):
        fits = not value.is_complex()  # averages of weights average it too
    else:
        fits = not value.is_floating_point() and not value.is_complex()
    return None if fits else str(value.dtype)


def _is_other_form(key: str, there: Mapping[str, Tensor]) -> bool:
    """Return whether ``key`` is the slope of a linear pair that ``there`` is a single layer."""
    pair, _, last = key.rpartition(".")
    return last == "slope" and any(other.startswith(f"{pair}.") for other in there)


def _hiding_prefix(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str | None:
    prefixes = dict.fromkeys(f"{key.partition('.')[0]}." for key in state if "." in key)
    return next((prefix for prefix in prefixes if all(f"{prefix}{key}" in state for key in own)), None)


def _few(items: list[str], most: int = 3) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
