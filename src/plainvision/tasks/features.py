"""What a frozen network makes of images in front of its classifier, kept on disk between calls.

A file of features belongs to one network, one set of images and one preparation, whose hash is its name. It holds
tensors alone, is written whole, and one that is damaged is computed anew. The folder keeps the newest up to a bound.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from plainvision.data.batches import EvaluationBatches
from plainvision.data.kept import stamps
from plainvision.data.settings import Data
from plainvision.deploy.preprocessing import Preprocessing
from plainvision.inspection.eval_mode import eval_mode
from plainvision.inspection.fingerprint import weights_fingerprint
from plainvision.models.reading import read_safetensors, save_tensors

_VERSION = 1  # of what is computed: another one finds none of the files before
_LARGEST_FOLDER = 2**31  # bytes; the features of ImageNet-1k's validation split have a tenth of that


@dataclass(frozen=True)
class Features:
    """The features of a split."""

    values: np.ndarray
    """(N, D) float32: what the classifier would be given."""
    labels: np.ndarray
    """(N,) int64, indices into the classes."""
    skipped: tuple[str, ...]
    """Images that could not be read."""
    cached: bool = False
    """Whether they were read from disk."""


def default_cache() -> Path:
    """Return where features are kept unless another folder is given: beside the weights that torch downloads."""
    return Path(torch.hub.get_dir()) / "plainvision" / "features"


def image_features(model: nn.Module, images: Tensor) -> Tensor:
    """Return the features (B, D) of images (B, C, H, W), pooled, in front of the classifier.

    Raises:
        ValueError: the network does not say where its classifier begins, or its features are no vectors.
    """
    network: Any = model
    if not (hasattr(model, "forward_features") and hasattr(model, "forward_head")):
        raise ValueError(
            f"{type(model).__name__} does not say what is in front of its classifier: it has no forward_features() and "
            "forward_head(). Networks of ours and timm's have both; timm has most of torchvision's."
        )
    found = network.forward_head(network.forward_features(images), pre_logits=True)
    if not isinstance(found, Tensor) or found.ndim != 2:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"{type(model).__name__} gives {shape} for its features, and (B, D) is needed. Take another.")
    return found


def frozen_features(
    model: nn.Module,
    data: Data,
    *,
    classes: tuple[str, ...],
    batch_size: int = 64,
    device: str | torch.device | None = None,
    cache: Path | None = None,
) -> Features:
    """Return the features of the validation split of ``data`` by ``model`` in eval mode.

    Args:
        model: a network with timm's `forward_features` and `forward_head`; it stays on its device and in its mode.
        data: where the images are, and how they are prepared.
        classes: names of the classes, whose indices the labels are.
        batch_size: images per pass.
        device: where to compute; None is where the model is.
        cache: the folder in which features are kept; None keeps none.

    Raises:
        ValueError: the images cannot be read, or the network has no features.
    """
    batches = EvaluationBatches(data, batch_size=batch_size, classes=classes)
    file = None if cache is None else cache / f"{_key(model, data, batches, classes)}.safetensors"
    found = None if file is None else _read(file)
    if found is None:
        found = _computed(model, batches, device)
        if file is not None:
            _write(file, found)
    return found


def _computed(model: nn.Module, batches: EvaluationBatches, device: str | torch.device | None) -> Features:
    home = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    values, labels, skipped = [], [], list[str]()
    try:
        model.to(device or home)
        with eval_mode(model), torch.inference_mode():
            for batch in batches:
                skipped += batch.skipped
                values.append(image_features(model, batch.images.to(device or home)).float().cpu())
                labels.append(batch.labels)
    finally:
        model.to(home)
    return Features(torch.cat(values).numpy(), torch.cat(labels).numpy(), tuple(skipped))


def _key(model: nn.Module, data: Data, batches: EvaluationBatches, classes: tuple[str, ...]) -> str:
    """Return the hash of all that decides the features."""
    facts = {
        "version": _VERSION,
        "network": [repr(model), weights_fingerprint(model)],
        "images": [batches.fingerprint, *stamps(data)],
        "classes": classes,
        "preparation": [asdict(Preprocessing.of(data)), data.max_pixels, data.corrupt],
    }
    return hashlib.sha256(json.dumps(facts).encode("utf-8", "surrogatepass")).hexdigest()


def _read(file: Path) -> Features | None:
    """Return what a file holds; None where there is none, or it is damaged."""
    try:
        if file.stat().st_size > _LARGEST_FOLDER:
            return None
        tensors, words = read_safetensors(file)
        values, labels, skipped = tensors["features"], tensors["labels"], json.loads(words["skipped"])
        whole = values.ndim == 2 and values.dtype == torch.float32 and labels.dtype == torch.int64
        if not whole or labels.shape != values.shape[:1] or not all(isinstance(one, str) for one in skipped):
            return None
        os.utime(file)  # the folder keeps what was used last
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Features(values.numpy(), labels.numpy(), tuple(skipped), cached=True)


def _write(file: Path, found: Features) -> None:
    """Write the features, unless they are more than the folder may hold, and remove those that were used longest ago.

    Raises:
        OSError: the folder cannot be written.
    """
    if found.values.nbytes > _LARGEST_FOLDER:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"features": torch.from_numpy(found.values), "labels": torch.from_numpy(found.labels)}
    save_tensors(file, tensors, {"skipped": json.dumps(found.skipped)})
    left = _LARGEST_FOLDER
    kept = [(one, one.stat()) for one in file.parent.glob("*.safetensors")]
    for one, stat in sorted(kept, key=lambda pair: -pair[1].st_mtime_ns):
        left -= stat.st_size
        if left < 0:
            one.unlink(missing_ok=True)
