"""Load weights into a network: ours or the official layout, from a path, a URL or a state dict, always strictly.

`load_checkpoint` loads all of them; `load_backbone` leaves the classifier out, to learn other classes.
"""

import abc
import argparse
import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

# Where a file wraps its weights, the averaged ones first: they are what the papers evaluate.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
# What wrappers of distributed and compiled training put before each key.
_PREFIXES = ("module.", "_orig_mod.")
# The files of torchvision's DenseNets are older than the rule that a layer's name has no dot.
_DOTTED = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


class OfficialLayout(nn.Module, abc.ABC):
    """A network that also reads the checkpoints of its paper's official code.

    The translation hangs on `load_state_dict`, so that it works for every way in, timm's ``checkpoint_path`` too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(_translate)

    @abc.abstractmethod
    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``state`` with our keys, unchanged where they are ours already."""


def load_checkpoint(model: nn.Module, source: str | Path | Mapping[str, Any]) -> nn.Module:
    """Load weights strictly into ``model`` and return it.

    Args:
        model: the network, in the form (training or deployed) that the weights have.
        source: a path or URL of a .safetensors or PyTorch file, or a state dict; plain, or wrapped as the official
            files are in ``model`` or ``model_ema``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no weights, or weights with missing, extra or wrongly shaped keys.
    """
    state, origin = _read(model, source)
    _check(model, state, origin)
    model.load_state_dict(state)
    return model


def load_backbone(model: nn.Module, source: str | Path | Mapping[str, Any]) -> nn.Module:
    """Load weights strictly into ``model``, except those of its classifier, and return it.

    The classifier, what timm's `get_classifier` returns, keeps the weights that it has; in ``source`` it may have
    other classes, or be missing.

    Args:
        model: the network, in the form (training or deployed) that the weights have.
        source: as for `load_checkpoint`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the network does not say what its classifier is, the file holds no weights, or weights whose
            other keys are missing, extra or wrongly shaped.
    """
    state, origin = _read(model, source)
    prefixes = _classifier_prefixes(model)
    backbone = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    classifier = {key: value for key, value in model.state_dict().items() if key.startswith(prefixes)}
    _check(model, backbone | classifier, origin)
    model.load_state_dict(backbone | classifier)
    return model


def read_weights(source: str | Path) -> dict[str, Tensor]:
    """Return the state dict in a file or behind a URL; no code in it is run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds something else than weights.
    """
    path = _download(str(source)) if urlparse(str(source)).scheme in ("http", "https") else Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: give the path of a .safetensors or PyTorch file, or a URL.")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(
                f"{path} is not a whole safetensors file ({error}): it may have been cut off while it was copied. "
                "Copy or download it again."
            ) from error
    try:
        # The official files keep their command line as a Namespace, which is plain data.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is a pickle that holds more than weights, and loading it could run code: "
            f"{str(error).splitlines()[0]} Save its state dict alone, best with safetensors, and load that."
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} is not a whole PyTorch file ({str(error).splitlines()[0]}). Copy or download it again."
        ) from error
    return _unwrap(content, str(path))


def _read(model: nn.Module, source: str | Path | Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """Return a source's weights with the network's own keys, and what to call the source in errors."""
    if isinstance(source, Mapping):
        state, origin = _unwrap(source, "the given state dict"), "the given state dict"
    else:
        state, origin = read_weights(source), str(source)
    state = {_DOTTED.sub(r"\1\2", key): value for key, value in state.items()}
    return model.from_official(state) if isinstance(model, OfficialLayout) else state, origin


def _classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Return what the keys of the classifier start with: of one layer, or of several, as distilled networks have."""
    get_classifier = getattr(model, "get_classifier", None)
    if get_classifier is None:
        raise ValueError(
            f"cannot leave the classifier of {type(model).__name__} out: it has no get_classifier() to say which "
            "layers those are. Give it one, or load weights of the same classes with load_checkpoint."
        )
    found = get_classifier()
    classifiers = {id(layer) for layer in (found if isinstance(found, tuple | list) else [found])}
    return tuple(f"{name}." for name, module in model.named_modules() if id(module) in classifiers)


def _translate(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(model, OfficialLayout)
    if not prefix:  # official files hold the network alone
        translated = model.from_official(state)
        if translated is not state:
            state.clear()
            state.update(translated)


def _download(url: str) -> Path:
    # One folder per address: two projects may well call their file model.pth.
    folder = Path(torch.hub.get_dir()) / "checkpoints" / hashlib.sha256(url.encode()).hexdigest()[:16]
    path = folder / Path(urlparse(url).path).name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)  # moves the file there when it is whole
        except OSError as error:
            raise ValueError(f"cannot download {url}: {error}. Check the address, or load the file by path.") from error
    return path


def _unwrap(content: Any, origin: str) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for wrapper in _WRAPPERS:
            if isinstance(content.get(wrapper), Mapping):
                content = content[wrapper]
                break
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(
            f"{origin} holds no weights: expected tensors by name, plain or under one of {', '.join(_WRAPPERS)}. "
            "Give a state dict."
        )
    state = dict(content)
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _check(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in own]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, the network has {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = [("missing", missing), ("extra", extra), ("wrong shape", shapes)]
    said = [f"{len(keys)} {what}: {_few(keys)}" for what, keys in problems if keys]
    if not said:
        return
    if any(key.endswith(".slope") for key in missing):
        advice = (
            "It looks like the deployed form, or one without linear pairs: build the network with deployed=True, or "
            "with linear_pairs=False."
        )
    elif any(key.endswith(".slope") for key in extra):
        advice = (
            "It looks like the training form: build the network without deployed=True, load, then plainvision.fuse."
        )
    elif shapes and not missing and not extra:
        advice = (
            "Build the network with the options it was trained with: num_classes, in_chans, width. To learn other "
            "classes, load_backbone, or new_classifier in a recipe, leaves the classifier out."
        )
    else:
        advice = f"It looks like the weights of another network than this {type(model).__name__}."
    raise ValueError(f"{origin} does not fit this {type(model).__name__}; {'; '.join(said)}. {advice}")


def _few(items: list[str], most: int = 3) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
