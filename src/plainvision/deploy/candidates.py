"""The forms of a network that this machine offers."""

from dataclasses import dataclass, replace

import torch

from plainvision.deploy.formats import format_called
from plainvision.deploy.forms import Form
from plainvision.deploy.quantizing import CONTROL
from plainvision.deploy.running import Precision

PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "cpu": ("fp32", "bf16", "int8"),
    "cuda": ("fp32", "tf32", "bf16", "fp16"),
}
"""What forms may compute in, by device. GPUs compute int8 through TensorRT, which reads the ONNX file."""


@dataclass(frozen=True)
class Candidate:
    """A form that may be tried."""

    form: Form
    missing: str | None = None
    """Why it cannot be, and how to change that."""

    @property
    def slug(self) -> str:
        """Its name as a folder."""
        return str(self.form).replace(" ", "-").replace("/", "-")


def candidates(precisions: tuple[Precision, ...], *, device: str = "cpu", labelled: bool = False) -> list[Candidate]:
    """Return the forms to try on this machine, the likeliest winners first.

    Args:
        precisions: what they may compute in.
        device: where they run, cpu or cuda.
        labelled: whether calibration images have labels, which NNCF's accuracy control asks for.
    """
    forms = _on_cpu(labelled) if device == "cpu" else _on_gpu()
    return [Candidate(form, _missing(form)) for form in forms if form.precision in precisions]


def _on_cpu(labelled: bool) -> list[Form]:
    forms = [
        Form("onnx"),
        Form("openvino"),
        Form("onnx", "int8"),
        Form("openvino", "int8"),
        Form("openvino", "bf16"),
        Form("compiled"),
        Form("compiled", "bf16"),
        Form("torch"),
        Form("torch", channels_last=True),
        Form("torch", "bf16", channels_last=True),
    ]
    return [*forms, Form("openvino", "int8", CONTROL)] if labelled else forms


def _on_gpu() -> list[Form]:
    """Return the forms for a GPU; one image at a time it is launches that cost, so that graphs come first."""
    halves: tuple[Precision, ...] = ("fp16", "bf16")
    forms = [Form("torch"), Form("torch", graph=True), Form("torch", "tf32", graph=True)]
    forms += [Form("torch", half, channels_last=last, graph=True) for half in halves for last in (False, True)]
    forms += [Form("torch", one, compile=True, graph=True) for one in PRECISIONS["cuda"]]
    forms += [Form("onnx"), Form("onnx", "tf32"), Form("onnx", "fp16")]
    return [replace(form, device="cuda") for form in forms]


def _missing(form: Form) -> str | None:
    try:
        format_called(form.format, form.precision, form.device)
    except ImportError as error:
        return str(error)
    if form.device == "cpu" and form.precision == "bf16" and not computes_bf16():
        return "this processor computes no bf16"
    if form.device != "cpu" and form.format == "onnx":
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            return "this ONNX Runtime has no CUDAExecutionProvider. pip install onnxruntime-gpu"
    return None


def computes_bf16() -> bool:
    """Return whether this processor multiplies bfloat16 numbers."""
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
