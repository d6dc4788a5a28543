"""The file of outcomes: their arrays as safetensors with a checksum, and all else in its header."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plainvision.dynamic.outcomes import Outcomes
from plainvision.dynamic.space import to_plain
from plainvision.fields import from_plain, typed
from plainvision.files import nearby, plain_object
from plainvision.models.reading import read_safetensors, save_tensors

# In a file's metadata, with the version of its format.
_HEADER, _VERSION = "plainvision_outcomes", 1
_ARRAYS = ("macs", "labels", "predictions", "log_confidences", "log_tops", "static_predictions")
# What is no array.
_PLAIN = [
    field.name for field in dataclasses.fields(Outcomes) if field.name not in (*_ARRAYS, "mean_predictions", "views")
]


def save(outcomes: Outcomes, path: Path) -> None:
    """Write outcomes as `Outcomes.save` says."""
    header = {name: getattr(outcomes, name) for name in _PLAIN} | {
        "version": _VERSION,
        "permutations": to_plain(outcomes.permutations),
        "default": to_plain([outcomes.default])[0],
        "views": [*outcomes.views],
    }
    arrays = {name: getattr(outcomes, name) for name in _ARRAYS}
    arrays |= {f"views.{index}": view for index, view in enumerate(outcomes.views.values())}
    if outcomes.mean_predictions is not None:
        arrays["mean_predictions"] = outcomes.mean_predictions
    # `select` cuts views without a copy, and safetensors would write the memory as it lies.
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    text = json.dumps(header, default=lambda number: number.item())  # numpy's numbers are none of JSON's
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, tensors, {_HEADER: text})


def load(path: Path, fingerprint: str | None) -> Outcomes:
    """Return outcomes as `Outcomes.load` says."""
    wanted = "Give a file that an evaluation, or `Outcomes.save`, wrote."
    if not path.is_file():
        raise FileNotFoundError(f"no outcomes at {path}.{nearby(path)} {wanted}")
    tensors, words = read_safetensors(path)
    if _HEADER not in words:
        raise ValueError(f"{path} holds no outcomes. {wanted}")
    try:
        header = plain_object(words[_HEADER])
        version = typed(int, header.pop("version", None), "header.version")
        found = _outcomes(header, tensors) if version == _VERSION else None
    except (TypeError, ValueError, LookupError) as error:
        why = str(error).rstrip(".")
        raise ValueError(f"{path} is damaged ({why}). Copy it again, or evaluate the network again.") from error
    if found is None:
        raise ValueError(
            f"{path} has version {version} of the format, and this plainvision reads {_VERSION}. Read it with the "
            "plainvision that wrote it."
        )
    if fingerprint is not None and fingerprint != found.fingerprint:
        raise ValueError(
            f"{path} is of another network: {found.network} with fingerprint {found.fingerprint}, and {fingerprint} is "
            "wanted. Give the file of this network, or evaluate it into another."
        )
    return found


def _outcomes(header: dict[str, Any], tensors: dict[str, Any]) -> Outcomes:
    """Return the outcomes that a file's header and arrays describe."""
    if lost := [name for name in _PLAIN if name not in header and name != "skipped"]:  # which older files lack
        raise ValueError(f"header lacks the field {lost[0]!r}")
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    names = typed(tuple[str, ...], header.pop("views", None), "header.views")
    views = [f"views.{index}" for index in range(len(names))]
    if unknown := arrays.keys() - {*_ARRAYS, *views, "mean_predictions"}:
        raise ValueError(f"there is an unknown array {min(unknown)!r}")
    if lost := [name for name in (*_ARRAYS, *views) if name not in arrays]:
        raise ValueError(f"the array {lost[0]!r} is lost")
    if flat := [name for name in (*_ARRAYS, *views) if not arrays[name].ndim]:
        raise ValueError(f"the array {flat[0]!r} is a single number")
    ready = {name: arrays.get(name) for name in (*_ARRAYS, "mean_predictions")}
    ready["views"] = {name: arrays[array] for name, array in zip(names, views, strict=True)}
    return from_plain(Outcomes, header, "header", ready)
