"""The forms of a network that this machine offers."""

from dataclasses import dataclass

import torch

from plainvision.deploy.formats import Precision, format_called
from plainvision.deploy.forms import Form
from plainvision.deploy.quantizing import CONTROL


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


def candidates(precisions: tuple[Precision, ...], *, labelled: bool = False) -> list[Candidate]:
    """Return the forms to try on this machine's processor, the likeliest winners first.

    Args:
        precisions: what they may compute in.
        labelled: whether calibration images have labels, which NNCF's accuracy control asks for.
    """
    kinds: list[tuple[str, Precision, str | None, bool]] = [
        ("onnx", "fp32", None, False),
        ("openvino", "fp32", None, False),
        ("onnx", "int8", None, False),
        ("openvino", "int8", None, False),
        ("openvino", "bf16", None, False),
        ("compiled", "fp32", None, False),
        ("compiled", "bf16", None, False),
        ("torch", "fp32", None, False),
        ("torch", "fp32", None, True),
        ("torch", "bf16", None, True),
    ]
    if labelled:
        kinds.append(("openvino", "int8", CONTROL, False))
    found = []
    for format, precision, scheme, channels_last in kinds:
        if precision in precisions:
            form = Form(format, precision, scheme, channels_last)
            found.append(Candidate(form, _missing(form)))
    return found


def _missing(form: Form) -> str | None:
    try:
        format_called(form.format, form.precision)
    except ImportError as error:
        return str(error)
    if form.precision == "bf16" and not computes_bf16():
        return "this processor computes no bf16"
    return None


def computes_bf16() -> bool:
    """Return whether this processor multiplies bfloat16 numbers."""
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
