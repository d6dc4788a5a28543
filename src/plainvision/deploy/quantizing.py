"""int8 by post-training quantization: a network's file becomes one whose convolutions and products are of 8 bits.

ONNX Runtime's own tool (QDQ nodes) and NNCF for OpenVINO. Which scheme keeps the classes best differs between networks
(onnxruntime#11415 lost 15 points by the one that usually wins), so each is tried.
"""

import contextlib
import io
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plainvision.deploy.running import quiet

_MOST_LAYERS_BACK = 10
CONTROL = "accuracy control"

SCHEMES: dict[str, tuple[str, ...]] = {
    "onnx": ("channel/minmax", "channel/entropy", "tensor/minmax", "tensor/entropy"),
    "openvino": ("performance", "mixed"),
}
"""By format: scales per channel or per tensor of weights and how the range of activations is found; NNCF's presets."""


@dataclass(frozen=True)
class Calibration:
    """What an int8 form is made with."""

    images: Sequence[np.ndarray]
    """As the file takes them, one array (1, ...) each."""
    labels: Sequence[int] | None = None
    """Their classes."""
    allow_loss: float = 1.0
    """Points of accuracy that NNCF's accuracy control may lose on them."""


def quantize(
    format: str, source: Path, target: Path, calibration: Calibration, scheme: str, floats: Sequence[str] = ()
) -> None:
    """Write ``target``, an int8 form of the file ``source``.

    Args:
        format: "onnx" or "openvino".
        source: a file of that format, in fp32; for ONNX, its ranges are kept beside it and used again.
        target: the file to write.
        calibration: the images.
        scheme: one of `SCHEMES`, or `CONTROL` for OpenVINO and labelled images: layers go back to float, the worst
            first, until the loss is allowed.
        floats: names of ONNX nodes that stay in float.
    """
    with quiet(), contextlib.redirect_stdout(io.StringIO()):  # both tools print how far they are
        if format == "onnx":
            _quantize_onnx(source, target, calibration.images, scheme, floats)
        else:
            _quantize_openvino(source, target, calibration, scheme)


def quantizable(source: Path) -> list[Any]:
    """Return the nodes of an ONNX file that have weights to quantize: convolutions and matrix products."""
    import onnx

    nodes = onnx.load(source, load_external_data=False).graph.node
    return [node for node in nodes if node.op_type in ("Conv", "Gemm", "MatMul")]


def _quantize_onnx(
    source: Path, target: Path, calibration: Sequence[np.ndarray], scheme: str, floats: Sequence[str]
) -> None:
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        """One image at a time: the activations of all of them would not fit in memory."""

        left = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.left, None)
            return None if image is None else {"images": image}

        def __len__(self) -> int:
            return len(calibration)

        def set_range(self, start_index: int, end_index: int) -> None:
            self.left = iter(calibration[start_index:end_index])

    weights, method = scheme.split("/")
    prepared = source.with_name("prepared.onnx")
    onnxruntime.set_default_logger_severity(3)
    if not prepared.exists():
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        prepared,
        target,
        Images(),
        per_channel=weights == "channel",
        # A processor without VNNI adds products of 8 bits in 16, which would saturate: weights get 7 bits there.
        reduce_range=not has_vnni(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax if method == "minmax" else CalibrationMethod.Entropy,
        nodes_to_exclude=list(floats),
        extra_options={"CalibStridedMinMax": 1},
        calibration_cache_path=source.with_name(f"ranges_{method}.json"),
    )


def _quantize_openvino(source: Path, target: Path, calibration: Calibration, scheme: str) -> None:
    os.environ.setdefault("NNCF_CI", "1")  # NNCF reports its use over the network unless it takes this for a test
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    model, images = openvino.Core().read_model(source), nncf.Dataset(list(calibration.images))
    if scheme != CONTROL:
        made = nncf.quantize(model, images, subset_size=len(calibration.images), preset=nncf.QuantizationPreset(scheme))
    else:
        if calibration.labels is None:
            raise ValueError(f"{CONTROL} asks for calibration images with labels. Give another scheme.")
        made = nncf.quantize_with_accuracy_control(
            model,
            images,
            nncf.Dataset(list(zip(calibration.images, calibration.labels, strict=True)), lambda pair: pair[0]),
            _accuracy,
            max_drop=calibration.allow_loss / 100,
            subset_size=len(calibration.images),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                max_num_iterations=_MOST_LAYERS_BACK, ranking_subset_size=32
            ),
        )
    openvino.save_model(made, target, compress_to_fp16=False)


def _accuracy(compiled: Any, pairs: Iterable[tuple[np.ndarray, int]]) -> tuple[float, list[float]]:
    right = [float(compiled(image)[0].argmax() == label) for image, label in pairs]
    return sum(right) / len(right), right


def has_vnni() -> bool:
    """Return whether this processor multiplies 8-bit numbers into 32-bit sums; where nobody says so, it does."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return True
    return "flags" not in flags or any(flag in flags for flag in ("avx512_vnni", "avx_vnni"))
