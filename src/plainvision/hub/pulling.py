"""Get a network from the Hugging Face Hub as a file of ours. What lies there is a stranger's data: nothing in it runs.

Weights are read from safetensors alone. Their header, where plainvision wrote it, or timm's configuration beside them
says which network they belong to; both are checked field by field, and the network may be no larger than its file.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from timm.models._hub import load_model_config_from_path
from torch import Tensor

from plainvision.data.settings import Data
from plainvision.fields import typed
from plainvision.files import plain_object, write_whole
from plainvision.hub.asking import asking
from plainvision.hub.trained import CONFIG, WEIGHTS
from plainvision.models.described import check_description
from plainvision.models.reading import read_safetensors
from plainvision.training.network_words import NO_RUN
from plainvision.training.recipe import Recipe
from plainvision.training.weights_file import KEY, Origin, load_network, save_network

_MOST_BYTES = {CONFIG: 2**24, WEIGHTS: 64 * 2**30}
# What a recipe is called that only names the network of a configuration.
_FROM_CONFIG = "from the hub"


def pull(repo: str, out: str | Path, *, revision: str | None = None) -> Origin:
    """Write the network in a repository of the Hub to a weights file of ours, and return what its header says.

    It is one that `push` put there, or any of timm's or ours in timm's form.

    Args:
        repo: OWNER/NAME, or OWNER/NAME@REVISION.
        out: the file to write; an old one is replaced when the new one is whole and was loaded.
        revision: a branch, a tag or a commit; None is the main branch.

    Raises:
        ValueError: there is no such repository, or what it holds describes no network that timm or we have.
        OSError: the Hub cannot be reached, or the file cannot be written.
    """
    name, _, at = repo.partition("@")
    revision = revision or at or None
    weights = _fetched(name, WEIGHTS, revision)
    found: list[Origin] = []

    def write(file: Path, fill: Callable[[Path], object]) -> None:
        fill(file)
        found[:] = [load_network(file)[1]]  # which checks that it fits, within the bounds of any file of ours

    try:
        tensors, words = read_safetensors(weights)
        if KEY in words:
            write_whole(out, lambda file: write(file, lambda place: shutil.copyfile(weights, place)))
        else:
            origin = _origin_of(_fetched(name, CONFIG, revision), tensors)
            write_whole(out, lambda file: write(file, lambda place: save_network(place, tensors, origin)))
    except ValueError as error:
        raise ValueError(f"cannot use {repo} of the Hub: {error}") from error
    return found[0]


def _fetched(repo: str, name: str, revision: str | None) -> Path:
    """Return a file of a repository, in the Hub's cache on this machine, after a look at its size."""
    with asking(repo, f"get {name} of"):
        try:
            size = get_hf_file_metadata(hf_hub_url(repo, name, revision=revision)).size or 0
        except Exception:  # without the Hub the cache may have it; else the download says what is wrong
            size = 0
        path = Path(hf_hub_download(repo, name, revision=revision)) if size <= _MOST_BYTES[name] else None
    if path is None or path.stat().st_size > _MOST_BYTES[name]:
        raise ValueError(
            f"{name} of {repo} has more than {_MOST_BYTES[name]:,} bytes, and is not read. Give another repository."
        )
    return path


def _origin_of(file: Path, tensors: Mapping[str, Tensor]) -> Origin:
    """Return what timm's configuration says of a network, checked."""
    try:
        plain_object(file.read_bytes())
        config, name, options = load_model_config_from_path(file.parent)
        classes, named = _classes(config)
        channels, data = _data(config)
        options = {key: value for key, value in options.items() if key not in ("num_classes", "in_chans")}
        check_description(name, {**options, "num_classes": len(classes), "in_chans": channels})
        recipe = Recipe(_FROM_CONFIG if named else NO_RUN, name, options, data=data)
        return Origin(recipe, classes, 0)
    except Exception as error:  # a stranger's configuration may say anything, and timm raises anything about it
        why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ValueError(
            f"its {CONFIG} does not describe a network of timm or plainvision: {why}. Networks of other libraries are "
            "for those libraries"
        ) from error


def _classes(config: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    """Return the names of the classes, and whether the configuration has them."""
    count = typed(int, config["num_classes"], "num_classes")
    if not 1 <= count <= 10**6:
        raise ValueError(f"num_classes is {count}, and there is nothing to name")
    names = config.get("label_names")
    if isinstance(names, dict):
        names = [names.get(str(index), f"class {index}") for index in range(count)]
    if names is None:
        return tuple(f"class {index}" for index in range(count)), False
    found = typed(tuple[str, ...], names, "label_names")
    if len(found) != count:
        raise ValueError(f"it has {len(found)} label_names for {count} classes")
    return found, True


def _data(config: Mapping[str, Any]) -> tuple[int, Data]:
    """Return the channels of the images, and how they are prepared."""
    channels, height, width = typed(tuple[int, int, int], config["input_size"], "input_size")
    if height != width or channels not in (1, 3):
        raise ValueError(f"it takes images of {channels} x {height} x {width}, and we read squares of 1 or 3 channels")
    return channels, Data(
        image_size=height,
        channels=1 if channels == 1 else 3,
        crop_ratio=typed(float, config.get("crop_pct", 0.875), "crop_pct"),
        resize="squash" if config.get("crop_mode") == "squash" else "short",
        interpolation="bilinear" if config.get("interpolation") == "bilinear" else "bicubic",
        mean=typed(tuple[float, ...], config["mean"], "mean"),
        std=typed(tuple[float, ...], config["std"], "std"),
    )
