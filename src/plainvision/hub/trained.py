"""A trained network as files for the Hugging Face Hub, which plainvision and, where it can, timm load."""

import copy
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models._hub import save_config_for_hf

from plainvision.data.settings import RECORDED, Data
from plainvision.inspection.eval_mode import eval_mode
from plainvision.training.network_words import Network, network_words
from plainvision.training.recipe import with_files
from plainvision.training.weights_file import Origin, save_network

# What a published network's configuration says of its own weights and images.
_OF_OTHER_WEIGHTS = (
    *("tag", "url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "origin_url", "notes", "description"),
    *("test_input_size", "min_input_size", "test_crop_pct", "pool_size", "test_pool_size"),
    *("label_names", "label_descriptions", "label_offset"),
)

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
# Roots that name a data set rather than a place on this machine.
_DATA_SET = re.compile(r"hfi?ds/\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


def trained_network(source: str | Path, *, weights: str = "best") -> Network:
    """Return the network of a run's folder or of a weights file of ours; ``:deployed`` behind it is its fused form.

    Raises:
        ValueError, OSError: there is no such network, or it is none that plainvision trained or fused.
    """
    words = network_words(str(source))
    if not words.is_ours:
        raise ValueError(
            f"{str(source)!r} is no run and no weights file. Give a run's folder; `plainvision models` and "
            "`plainvision.card` have the facts about networks by name."
        )
    found = words.load(weights=weights)
    found.refuse_sets("the model card")
    if found.origin is None:
        raise ValueError(
            f"{source} is a deployed folder, whose model no Hub rebuilds. Give the run or the weights file that it was "
            "made from; :deployed behind it is its fused form."
        )
    return found


def published(origin: Origin | None) -> Origin:
    """Return an origin for others to read: of each place on this machine, the last part of its path."""
    assert origin is not None, "trained_network refuses what has none"
    data = origin.recipe.data
    data = replace(
        data,
        root=_name(data.root),
        train_split=_name(data.train_split),
        validation_split=_name(data.validation_split),
        validation_root=None,
        labels=data.labels and _name(data.labels),
        class_map=data.class_map and _name(data.class_map),
    )
    recipe = with_files(origin.recipe, lambda _, __, text: _name(text))
    return replace(origin, recipe=replace(recipe, data=data, start_from=None, new_classifier=False))


def write_files(found: Network, folder: Path, licence: str | None = None) -> bool:
    """Write the weights, with what plainvision needs in their header, and timm's configuration where timm rebuilds it.

    Returns whether it does: timm has loaded the files, and its network answers the same.
    """
    save_network(folder / WEIGHTS, found.model.state_dict(), published(found.origin))
    if _write_config(found, folder / CONFIG, licence) and _answers_alike(found, folder):
        return True
    (folder / CONFIG).unlink(missing_ok=True)
    return False


def timm_rebuilds(found: Network) -> bool:
    """Return whether timm rebuilds the network from files: by trying it."""
    with tempfile.TemporaryDirectory() as folder:
        return write_files(found, Path(folder))


def _write_config(found: Network, file: Path, licence: str | None) -> bool:
    config: Any = getattr(found.model, "pretrained_cfg", None)
    if not isinstance(config, Mapping) or found.origin is None:
        return False  # surgery has made another kind of network of it
    data, origin = found.data, found.origin
    described = copy.copy(found.model)  # its layers are the same, its configuration is not
    kept = {key: value for key, value in config.items() if key not in _OF_OTHER_WEIGHTS}
    described.pretrained_cfg = {**kept, **_prepared(data), "license": licence}  # type: ignore[assignment]
    options = dict(origin.recipe.model_options)
    if data.channels != 3:
        options.setdefault("in_chans", data.channels)
    if origin.deployed:
        options["deployed"] = True
    words: dict[str, Any] = {"label_names": list(found.classes)} if found.classes else {}
    try:
        save_config_for_hf(described, str(file), model_config=words, model_args=options)
    except ValueError:  # an option that JSON has no word for
        return False
    return True


def _prepared(data: Data) -> dict[str, Any]:
    """Return how images are prepared, in timm's words."""
    return {
        "input_size": (data.channels, data.image_size, data.image_size),
        "mean": data.mean,
        "std": data.std,
        "crop_pct": data.crop_ratio,
        "crop_mode": "squash" if data.resize == "squash" else "center",
        "interpolation": data.interpolation,
    }


def _answers_alike(found: Network, folder: Path) -> bool:
    data = found.data
    images = torch.randn(2, data.channels, data.image_size, data.image_size)
    try:
        rebuilt = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        with eval_mode(found.model), torch.no_grad():
            return torch.allclose(rebuilt(images), found.model.cpu()(images), rtol=1e-4, atol=1e-5)
    except Exception:  # it is a trial: what other layers than its own make timm raise has no end
        return False


def _name(place: str) -> str:
    """Return a place as others may read it: a data set by its name, of a path the last part."""
    if not place.startswith(RECORDED):
        return place  # the embedded digits, or the plain name of a split
    plain = place.removeprefix(RECORDED)
    return place if _DATA_SET.fullmatch(plain) else RECORDED + (Path(plain.rstrip("/")).name or plain)
