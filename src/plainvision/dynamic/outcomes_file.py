"""The file of outcomes: their arrays as safetensors with a checksum, and all else in its header."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plainvision.dynamic.outcomes import Outcomes
from plainvision.dynamic.space import to_plain
from plainvision.fields import from_plain
from plainvision.files import nearby
from plainvision.layers.dynamic_conv import Option
from plainvision.models.reading import read_safetensors, save_tensors

# In a file's metadata, with the version of its format.
_HEADER, _VERSION = "plainvision_outcomes", 1
_ARRAYS = ("macs", "labels", "predictions", "log_confidences", "log_tops", "static_predictions")


@dataclass(frozen=True)
class _Header:
    """What is no array; fields mean what those of `Outcomes` do."""

    network: str
    fingerprint: str
    sites: dict[str, str]
    static_macs: int
    classes: int
    condition: dict[str, float]
    left_out: dict[str, int]
    permutations: tuple[tuple[Option, ...], ...]
    default: tuple[Option, ...]
    names: tuple[str, ...]
    views: tuple[str, ...]
    version: int
    skipped: tuple[str, ...] = ()


def save(outcomes: Outcomes, path: Path) -> None:
    """Write outcomes as `Outcomes.save` says."""
    plain = {field.name: getattr(outcomes, field.name, None) for field in dataclasses.fields(_Header)}
    header = plain | {
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
    if not path.is_file():
        raise FileNotFoundError(
            f"no outcomes at {path}.{nearby(path)} Give a file that an evaluation, or `Outcomes.save`, wrote."
        )
    tensors, words = read_safetensors(path)
    if _HEADER not in words:
        raise ValueError(f"{path} holds no outcomes. Give a file that an evaluation, or `Outcomes.save`, wrote.")
    try:
        plain = json.loads(words[_HEADER])
        version = plain.get("version") if isinstance(plain, dict) else None
        if type(version) is int and version != _VERSION:
            raise _OtherVersionError(
                f"{path} has version {version} of the format, and this plainvision reads {_VERSION}. Read it with the "
                "plainvision that wrote it."
            )
        found = _outcomes(from_plain(_Header, plain, "header"), tensors)
    except _OtherVersionError:
        raise
    except (TypeError, ValueError, LookupError, RecursionError) as error:
        why = str(error).rstrip(".")
        raise ValueError(f"{path} is damaged ({why}). Copy it again, or evaluate the network again.") from error
    if fingerprint is not None and fingerprint != found.fingerprint:
        raise ValueError(
            f"{path} is of another network: {found.network} with fingerprint {found.fingerprint}, and {fingerprint} is "
            "wanted. Give the file of this network, or evaluate it into another."
        )
    return found


class _OtherVersionError(ValueError):
    """The file is whole, but of another version."""


def _outcomes(header: _Header, tensors: dict[str, Any]) -> Outcomes:
    """Return the outcomes that a file's header and arrays describe."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    views = [f"views.{index}" for index in range(len(header.views))]
    if unknown := arrays.keys() - {*_ARRAYS, *views, "mean_predictions"}:
        raise ValueError(f"there is an unknown array {min(unknown)!r}")
    if lost := [name for name in (*_ARRAYS, *views) if name not in arrays]:
        raise ValueError(f"the array {lost[0]!r} is lost")
    if flat := [name for name in (*_ARRAYS, *views) if not arrays[name].ndim]:
        raise ValueError(f"the array {flat[0]!r} is a single number")
    plain = {field.name: getattr(header, field.name) for field in dataclasses.fields(header)}
    del plain["version"]
    return Outcomes(
        **plain
        | {name: arrays[name] for name in _ARRAYS}
        | {
            "mean_predictions": arrays.get("mean_predictions"),
            "views": {name: arrays[array] for name, array in zip(header.views, views, strict=True)},
        }
    )
