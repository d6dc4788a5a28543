"""Export a network to a file that a runtime loads, and prove that the file answers as the network does."""

import copy
import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

import plainvision
from plainvision.deploy.formats import Format, format_called
from plainvision.deploy.preprocessing import Preprocessing
from plainvision.files import write_json
from plainvision.layers.linear_pair import LinearPair
from plainvision.surgery.fusing import fuse

DESCRIPTION = "deploy.json"
# Largest difference between two runtimes that rounding explains, relative to the largest output; below 1e-5 measured.
_TOLERANCE = 1e-4
# They are compared as a batch of one and one of the others, so that no file passes that knows one number alone.
_IMAGES = 3


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how near its answers are to the network's."""

    folder: Path
    """Where the file and its description are."""
    format: str
    """onnx, openvino or torch."""
    size_mb: float
    """Size of the model's files, in MB (1e6 bytes)."""
    images: int
    """Images that both answered, random ones where none were given."""
    largest_absolute_error: float
    """Largest difference of an output."""
    largest_relative_error: float
    """The same over the largest output."""
    argmax_agreement: float
    """Share of the images for which both name the same class."""

    def __str__(self) -> str:
        return (
            f"{self.format}, {self.size_mb:.2f} MB in {self.folder}; on {self.images} images the largest difference is "
            f"{self.largest_absolute_error:.2e} ({self.largest_relative_error:.2e} of the largest output), same class "
            f"for {self.argmax_agreement:.0%}"
        )


class ByteImages(nn.Module):
    """A network that normalises by itself: bytes (B, H, W, C) -> what the network returns for (B, C, H, W)."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        for name in ("mean", "std"):
            values = torch.tensor(getattr(preprocessing, name), dtype=torch.float32)
            self.register_buffer(name, values[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std)


def export(
    model: nn.Module,
    folder: str | Path,
    *,
    preprocessing: Preprocessing,
    format: str = "onnx",
    classes: Sequence[str] = (),
    sample: Tensor | None = None,
    input: Literal["float32", "uint8"] = "float32",
    any_size: bool = False,
) -> ExportReport:
    """Write ``model`` into ``folder`` for a runtime, with a description beside it, and return the proof.

    The network is fused where it can be. The file takes any number of images. It is loaded and run, at two numbers of
    images, before the folder gets its name: a folder of before stays as it was until then.

    Args:
        model: images (B, C, H, W) -> logits (B, K); it stays as it is.
        folder: a new folder, or one that `export` wrote.
        preprocessing: how an image becomes what the network takes.
        format: "onnx", "openvino" or "torch" (`torch.export`).
        classes: names of the K classes, in the order of the logits; none leaves numbers.
        sample: images (B, C, H, W) to compare on; random ones by default.
        input: "uint8" lets the file take bytes (B, H, W, C) and normalise them itself.
        any_size: leave height and width of the images open too.

    Raises:
        ValueError: the network cannot be exported so, or the file answers differently.
        ImportError: a package that the format needs is not installed.
        OSError: the folder cannot be written.
    """
    kind, folder = format_called(format), Path(folder)
    if folder.exists() and not (folder / DESCRIPTION).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there and holds no deployed network. Give a new folder, or remove it.")
    network = _deployed(model)
    form = ByteImages(network, preprocessing).eval() if input == "uint8" else network
    images = _images(form, preprocessing, sample)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
        made = Path(beside) / "made"
        made.mkdir()
        try:
            kind.write(form, _example(images), made / kind.file, any_size)
        except OSError:
            raise
        except Exception as error:  # exporters raise nearly anything
            raise ValueError(
                f"{type(model).__name__} cannot be exported to {format}: {_short(error)}. "
                + ("Leave any_size out, or e" if any_size else "E")
                + "xport it to another format."
            ) from error
        report = _compare(form, kind, made, images)
        description = _description(model, kind, made, preprocessing, classes, input, any_size, report)
        write_json(made / DESCRIPTION, description)
        _replace(folder, made)
    return ExportReport(folder, **report)


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in ``folder`` but its description."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != DESCRIPTION
    }


def _deployed(model: nn.Module) -> nn.Module:
    """Return the network in deployed form and eval mode, on the CPU."""
    network = copy.deepcopy(model).cpu().float().eval()
    if any(isinstance(module, LinearPair) for module in network.modules()):
        return fuse(network)  # refuses a slope that is not 1
    try:
        return fuse(network)
    except ValueError:  # nothing to fold: it is exported as it is
        return network


def _images(form: nn.Module, preprocessing: Preprocessing, sample: Tensor | None) -> Tensor:
    """Return the images of the comparison, as the file takes them."""
    side, channels = preprocessing.image_size, preprocessing.channels
    if isinstance(form, ByteImages):
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


def _example(images: Tensor) -> Tensor:
    """Return two images for the exporter, which would fix a size of one."""
    return images[:2] if len(images) > 1 else images.repeat(2, 1, 1, 1)


def _compare(form: nn.Module, kind: Format, made: Path, images: Tensor) -> dict[str, Any]:
    """Run the file beside the network and return the figures of the report.

    Raises:
        ValueError: the file cannot be run, or differs.
    """
    try:
        run = kind.open(made / kind.file, None)
        pairs = [(_answer(form, part), run(part.numpy())) for part in _parts(images)]
    except Exception as error:
        raise ValueError(
            f"the {kind.name} file cannot be compared with the network: {_short(error)}. It was removed; export to "
            "another format."
        ) from error
    absolute = relative = 0.0
    same = seen = 0
    for expected, found in pairs:
        if len(found) != len(expected):
            raise ValueError(f"the {kind.name} file has {len(found)} outputs and the network {len(expected)}.")
        for place, (theirs, ours) in enumerate(zip(found, expected, strict=True)):
            if theirs.shape != ours.shape:
                raise ValueError(
                    f"output {place} of the {kind.name} file is {theirs.shape} where the network's is {ours.shape}. "
                    "The file was removed."
                )
            difference, largest = float(np.abs(theirs - ours).max()), float(np.abs(ours).max())
            absolute, relative = max(absolute, difference), max(relative, difference / max(largest, 1e-30))
            if not difference <= _TOLERANCE * largest:  # so that NaN is caught
                raise ValueError(
                    f"output {place} of the {kind.name} file differs from the network's by {difference:.2e}, "
                    f"{difference / max(largest, 1e-30):.2e} of the largest, where rounding explains {_TOLERANCE:.0e}. "
                    "The file was removed."
                )
        same += int((found[0].argmax(1) == expected[0].argmax(1)).sum())
        seen += len(expected[0])
    return {
        "format": kind.name,
        "size_mb": sum(path.stat().st_size for path in made.iterdir()) / 1e6,
        "images": seen,
        "largest_absolute_error": absolute,
        "largest_relative_error": relative,
        "argmax_agreement": same / seen,
    }


def _parts(images: Tensor) -> list[Tensor]:
    """Return the images in batches of two sizes."""
    return [images[:1], images[1:]] if len(images) > 2 else [images[:1], _example(images)]


def _answer(form: nn.Module, images: Tensor) -> list[np.ndarray]:
    with torch.inference_mode():
        found = form(images.clone())
    outputs = found if isinstance(found, tuple | list) else [found]
    return [one.numpy() for one in outputs]


def _description(
    model: nn.Module,
    kind: Format,
    made: Path,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    input: str,
    any_size: bool,
    report: dict[str, Any],
) -> dict[str, Any]:
    packages = ("torch", *kind.packages)
    return {
        "format": kind.name,
        "input": input,
        "any_size": any_size,
        "preprocessing": asdict(preprocessing),
        "classes": list(classes),
        "network": type(model).__name__,
        "files": file_hashes(made),
        "proof": report,
        "versions": {"plainvision": plainvision.__version__} | {p: importlib.metadata.version(p) for p in packages},
    }


def _replace(folder: Path, made: Path) -> None:
    """Put ``made`` in the place of ``folder``; what was there goes only when the new one is whole."""
    if folder.exists():
        old = made.with_name("old")
        folder.rename(old)
        try:
            made.rename(folder)
        except OSError:
            old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        made.rename(folder)


def _short(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
