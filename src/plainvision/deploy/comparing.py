"""Run a file beside its network, on batches of two sizes."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from plainvision.deploy.formats import Format
from plainvision.deploy.forms import Form
from plainvision.deploy.preprocessing import Preprocessing
from plainvision.deploy.running import Run

# Largest difference between two runtimes that rounding explains, relative to the largest output; below 1e-5 measured.
_TOLERANCE = 1e-4
# They are compared as a batch of one and one of the others, so that no file passes that knows one number alone.
_IMAGES = 3


def images_to_compare(form: Form, preprocessing: Preprocessing, sample: Tensor | None) -> Tensor:
    """Return the images of the comparison, as the file takes them."""
    side, channels = preprocessing.image_size, preprocessing.channels
    if form.input == "uint8":
        if sample is not None:
            raise ValueError("input='uint8' takes bytes and the sample is normalised. Leave the sample out.")
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, 256, (_IMAGES, side, side, channels), dtype=torch.uint8, generator=generator)
    if sample is None:
        return torch.randn(_IMAGES, channels, side, side, generator=torch.Generator().manual_seed(0))
    if sample.ndim != 4 or sample.shape[1] != channels or not sample.is_floating_point():
        raise ValueError(
            f"the sample is {tuple(sample.shape)} {sample.dtype}, and must be images (B, {channels}, H, W) of floats, "
            "normalised as in training."
        )
    return sample.float().cpu()


def example(images: Tensor) -> Tensor:
    """Return two images for the exporter, which would fix a size of one."""
    return images[:2] if len(images) > 1 else images.repeat(2, 1, 1, 1)


def compare(truth: nn.Module, kind: Format, form: Form, made: Path, images: Tensor) -> tuple[dict[str, Any], Run]:
    """Run the file beside the network, and return the figures of the report and the file, loaded.

    Raises:
        ValueError: the file cannot be run, has other outputs, or, in fp32, differs.
    """
    try:
        run = kind.open(made / kind.file, form.running)
        pairs = [(_answer(truth, part), run(part.numpy())) for part in _parts(images, form)]
    except Exception as error:
        raise ValueError(
            f"the {kind.name} file cannot be compared with the network: {short(error)}. It was removed; export to "
            f"another format{', or leave any_size out' if form.any_size else ''}."
        ) from error
    largest = [0.0, 0.0]
    same = seen = 0.0
    for expected, found in pairs:
        differences = differences_of(kind.name, found, expected, _TOLERANCE if form.precision == "fp32" else None)
        largest = [max(pair) for pair in zip(largest, differences, strict=True)]
        same += float((found[0].argmax(1) == expected[0].argmax(1)).mean() * len(expected[0]))
        seen += len(expected[0])
    figures = {
        "size_mb": sum(path.stat().st_size for path in made.iterdir()) / 1e6,
        "images": int(seen),
        "largest_absolute_error": largest[0],
        "largest_relative_error": largest[1],
        "argmax_agreement": same / seen,
    }
    return figures, run


def differences_of(
    name: str, found: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float | None = _TOLERANCE
) -> tuple[float, float]:
    """Return the largest difference of the outputs of the file called ``name``, and the largest over its output's own.

    Raises:
        ValueError: other outputs, or one that differs by more than ``tolerance`` of the largest; None takes any number.
    """
    if len(found) != len(expected):
        raise ValueError(f"the {name} file has {len(found)} outputs and the network {len(expected)}.")
    absolute = relative = 0.0
    for place, (theirs, ours) in enumerate(zip(found, expected, strict=True)):
        if theirs.shape != ours.shape:
            raise ValueError(
                f"output {place} of the {name} file is {theirs.shape} where the network's is {ours.shape}. "
                "The file was removed."
            )
        difference, largest = float(np.abs(theirs - ours).max()), float(np.abs(ours).max())
        absolute, relative = max(absolute, difference), max(relative, difference / max(largest, 1e-30))
        allowed = np.finfo(np.float32).max if tolerance is None else tolerance * largest
        if not difference <= allowed:  # so that NaN is caught
            raise ValueError(
                f"output {place} of the {name} file differs from the network's by {difference:.2e}, "
                f"{difference / max(largest, 1e-30):.2e} of the largest, where rounding explains {_TOLERANCE:.0e}. "
                "The file was removed."
            )
    return absolute, relative


def _parts(images: Tensor, form: Form) -> list[Tensor]:
    """Return the images in batches of two sizes, and some that are larger where the file takes any height and width."""
    parts = [images[:1], images[1:]] if len(images) > 2 else [images[:1], example(images)]
    return [*parts, _larger(images[:2], 1 if form.input == "uint8" else 2)] if form.any_size else parts


def _larger(images: Tensor, axis: int) -> Tensor:
    """Return images with their first rows and twice as many columns once more, so that they are no square."""
    for place, more in ((axis, 32), (axis + 1, 64)):
        images = torch.cat([images, images.narrow(place, 0, min(more, images.shape[place]))], place)
    return images


def _answer(form: nn.Module, images: Tensor) -> list[np.ndarray]:
    with torch.inference_mode():
        found = form(images.clone())
    outputs = found if isinstance(found, tuple | list) else [found]
    return [one.numpy() for one in outputs]


def short(error: Exception) -> str:
    """Return the line in which an exporter says what it lacks, or its first."""
    lines = [re.sub(r"\x1b\[\d+m", "", line).strip(" -") for line in str(error).splitlines()]
    lines = [line for line in lines if line] or [type(error).__name__]
    return next((line for line in lines if re.search(r"No (conversion rule|ONNX function) found", line)), lines[0])[
        :300
    ]
