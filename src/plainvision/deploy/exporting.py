"""Export a network to a folder that a runtime loads: proven, and judged where it loses precision."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from plainvision.deploy.blame import Culprit, layers_that_lose
from plainvision.deploy.delegation import LEAST_DELEGATED
from plainvision.deploy.examination import Examination
from plainvision.deploy.formats import format_called
from plainvision.deploy.forms import Form, with_even_padding
from plainvision.deploy.gate import Gate
from plainvision.deploy.preprocessing import Preprocessing
from plainvision.deploy.running import Precision
from plainvision.deploy.source import Source
from plainvision.deploy.writing import DESCRIPTION, ExportReport, write_form
from plainvision.files import write_json
from plainvision.inspection.dense import Detector
from plainvision.inspection.devices import device_of
from plainvision.inspection.eval_mode import eval_mode


class GateError(ValueError):
    """A form of lower precision did not pass its gate.

    Attributes:
        gate: what was found.
        culprits: the layers that lose most, the worst first; none where nobody looked.
    """

    def __init__(self, message: str, gate: Gate, culprits: Sequence[Culprit]) -> None:
        super().__init__(message)
        self.gate, self.culprits = gate, tuple(culprits)


def export(
    model: nn.Module,
    folder: str | Path,
    *,
    preprocessing: Preprocessing,
    format: str = "onnx",
    precision: Precision = "fp32",
    classes: Sequence[str] = (),
    temperature: float = 1.0,
    threshold: float | None = None,
    sample: Tensor | None = None,
    input: Literal["float32", "uint8"] = "float32",
    any_size: bool = False,
    device: str = "cpu",
    examination: Examination | None = None,
    least_delegated: float = LEAST_DELEGATED,
) -> ExportReport:
    """Write ``model`` into ``folder`` for a runtime, with a description beside it, and return the proof.

    The network is fused where it can be. The file takes any number of images; executorch's takes 8 at once, and `load`
    runs more in parts. It is loaded and run, at two numbers of images, before the folder gets its name: a folder of
    before stays as it was until then. A form of lower precision has to pass the gate of ``examination``; one that does
    not leaves ``FOLDER.refused.json`` instead.

    Args:
        model: images (B, C, H, W) -> logits (B, K); it stays as it is.
        folder: a new folder, or one that `export` wrote.
        preprocessing: how an image becomes what the network takes.
        format: "onnx", "openvino", "torch" (`torch.export`), "compiled" (AOTInductor) or "executorch".
        precision: "fp32", "bf16", "fp16" or "int8"; on a GPU also "tf32".
        temperature: divides the logits where the folder is asked for confidences, see `plainvision.load`.
        threshold: of a network that gives an image a set of labels, from which confidence on, for the same use; such a
            network is exported in fp32 alone.
        classes: names of the K classes, in the order of the logits; none leaves numbers.
        sample: images (B, C, H, W) to compare on; random ones by default.
        input: "uint8" lets the file take bytes (B, H, W, C) and normalise them itself.
        any_size: leave height and width of the images open too.
        device: where the file will run, "cpu" or "cuda".
        examination: images that calibrate int8, and others that judge.
        least_delegated: of executorch, the least share of the operations, from 0 to 1, that XNNPACK has to compute.

    Raises:
        GateError: a form of lower precision loses more than is allowed, or too few images can tell.
        ValueError: the network cannot be exported so, too little of it is delegated, or the file answers differently.
        ImportError: a package that the format needs is not installed.
        OSError: the folder cannot be written.
    """
    form = Form(format, precision, input=input, any_size=any_size, device=device, least_delegated=least_delegated)
    if threshold is not None and (precision != "fp32" or examination is not None):
        raise ValueError(
            f"threshold={threshold} and {precision}: the gate compares the one class of an image, and this network "
            "gives it a set of labels. Export it in fp32 without an examination, which needs no gate: the file is "
            "proven to answer as the network does."
        )
    if threshold is not None and not classes:
        raise ValueError(
            f"threshold={threshold} is for a network that gives an image a set of labels, and no labels are named. "
            "Give their names as classes, in the order of the logits."
        )
    if isinstance(model, Detector):
        raise ValueError(
            f"{type(model).__name__} finds objects, and `export` is for networks that classify images. "
            "`plainvision.deploy.export_detector` writes it."
        )
    format_called(format, precision, device)
    check_free(Path(folder))
    source = Source.of(model, preprocessing, classes, examination, temperature, threshold)
    return _delivered(source, form, Path(folder), sample)


def export_segmenter(
    model: nn.Module,
    folder: str | Path,
    *,
    image_size: int,
    channels: Literal[1, 3] = 3,
    format: str = "onnx",
    classes: Sequence[str] = (),
    least_delegated: float = LEAST_DELEGATED,
) -> ExportReport:
    """Write a network that names the class of each pixel into ``folder``, as `export` does, and return the proof.

    The file takes any number of images, of any height and width that are multiples of 32; executorch's takes squares of
    ``image_size``. `predict.py` makes the map of classes of a photograph.

    Args:
        model: images (B, C, H, W) in [0, 1] -> logits (B, K, H, W), `pv.tasks.segmenter` for instance; it stays as it
            is.
        folder: a new folder, or a deployed one.
        image_size: to which the short side of a photograph is resized, in pixels.
        channels: of the images, 1 or 3.
        format: "onnx", "openvino", "torch", "compiled" or "executorch", in fp32.
        classes: names of the K classes, in the order of the logits; none leaves numbers.
        least_delegated: of executorch, the least share of the operations, from 0 to 1, that XNNPACK has to compute.

    Raises:
        ValueError: the network names no pixels or cannot be exported so, too little of it is delegated, or the file
            answers differently.
        ImportError: a package that the format needs is not installed.
        OSError: the folder cannot be written.
    """
    kind = format_called(format)
    check_free(Path(folder))
    form = Form(format, any_size=kind.any_size, least_delegated=least_delegated)
    as_it_is = Preprocessing(
        image_size,
        channels,
        crop_ratio=1.0,
        resize="squash",
        interpolation="bilinear",
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
    names = _pixel_classes(model, classes, image_size, channels)
    source = Source.of(with_even_padding(model), as_it_is, names, task="segmentation")
    return _delivered(source, form, Path(folder), None)


def _pixel_classes(model: nn.Module, classes: Sequence[str], side: int, channels: int) -> tuple[str, ...]:
    """Return the names of the classes of each pixel, numbers where none are given."""
    images = torch.zeros(1, channels, side, side, device=device_of(model))
    with eval_mode(model), torch.inference_mode():
        shape = tuple(model(images).shape)
    if len(shape) != 4 or shape[2:] != (side, side) or (classes and len(classes) != shape[1]):
        raise ValueError(
            f"{type(model).__name__} answers an image of {side} x {side} by {shape}, and a segmenter of "
            f"{len(classes) or 'K'} classes by (1, {len(classes) or 'K'}, {side}, {side}). Give a network of "
            "`plainvision.tasks.segmenter`, and the name of each of its classes."
        )
    return tuple(classes) or tuple(map(str, range(shape[1])))


def _delivered(source: Source, form: Form, folder: Path, sample: Tensor | None) -> ExportReport:
    """Write a form beside ``folder``, and put it there if it passes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
        made = Path(beside) / "made"
        report = write_form(source, form, made, sample=sample)
        if form.precision != "fp32" and report.gate is not None and report.gate.verdict != "passes":
            _refuse(source, report, folder)
        replace_folder(folder, made)
    return replace(report, folder=folder)


def check_free(folder: Path) -> None:
    """Check that ``folder`` is new, empty, or a deployed one.

    Raises:
        ValueError: it holds something else.
    """
    if folder.exists() and not (folder / DESCRIPTION).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there and holds no deployed network. Give a new folder, or remove it.")


def _refuse(source: Source, report: ExportReport, folder: Path) -> None:
    """Keep the report of a form that did not pass, and say which layers lose most.

    Raises:
        GateError: always.
    """
    gate = report.gate
    assert gate is not None
    culprits: list[Culprit] = []
    if report.precision == "int8" and gate.verdict == "fails":
        assert source.examination is not None
        culprits = layers_that_lose(source.deployed, source.examination.calibration, report.scheme)
    path = folder.with_name(f"{folder.name}.refused.json")
    kept = {name: value for name, value in vars(report).items() if name not in ("folder", "gate")}
    write_json(path, kept | {"gate": gate.to_dict(), "layers": [asdict(one) for one in culprits]})
    lines = "".join(f"\n  {one}" for one in ("These layers lose most:", *culprits)) if culprits else ""
    raise GateError(
        f"{report.format} in {report.precision} is refused. {gate}.{lines}"
        f"\nThe report is in {path}. Allow a larger loss, give more images, or export in another precision.",
        gate,
        culprits,
    )


def replace_folder(folder: Path, made: Path) -> None:
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
