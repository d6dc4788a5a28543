"""The files that runtimes load: how each is written, and how it is run. One function of each kind a format."""

import ast
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from plainvision.deploy import torch_format
from plainvision.deploy.delegation import Delegation
from plainvision.deploy.running import Precision, Run, Running, quiet
from plainvision.deploy.torch_format import program

_SCOPES = "pkg.torch.onnx.name_scopes"
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}


@dataclass(frozen=True)
class Format:
    """A kind of file."""

    name: str
    """What the user calls it."""
    file: str
    """Its name in a deployed folder."""
    packages: tuple[str, ...]
    """What writing it needs beside torch."""
    precisions: tuple[Precision, ...]
    """What it can compute in."""
    write: Callable[[nn.Module, Tensor, Path, bool], Delegation | None]
    """Writes a network; images (2, ...) show what it takes; True leaves their height and width open."""
    open: Callable[[Path, Running], Run]
    """Loads a file."""
    extra: str = "deploy"
    """The extra that brings the packages."""
    any_size: bool = True
    """Whether it can leave height and width open."""
    on_gpus: tuple[Precision, ...] = ()
    """What it can compute in on a GPU; nothing where its runtime runs on processors alone."""

    def precisions_on(self, device: str) -> tuple[Precision, ...]:
        """Return what it can compute in there."""
        return self.precisions if device == "cpu" else self.on_gpus


def format_called(name: str, precision: Precision = "fp32", device: str = "cpu") -> Format:
    """Return the format called so.

    Raises:
        ValueError: there is none, or it does not compute in that precision on that device.
        ImportError: a package that it needs is not installed.
    """
    if name not in FORMATS:
        raise ValueError(f"unknown format {name!r}: there are {', '.join(FORMATS)}.")
    found = FORMATS[name]
    offered = {one: kind.precisions_on(device) for one, kind in FORMATS.items()}
    if precision not in offered[name]:
        others = [one for one, precisions in offered.items() if precision in precisions]
        where = "" if device == "cpu" else f" on {device}"
        raise ValueError(
            f"{name} offers no {precision}{where}, only {', '.join(offered[name]) or 'the CPU'}. "
            + (f"{precision} is offered by {', '.join(others)}." if others else "Give one of these.")
        )
    packages = (*found.packages, *(("nncf",) if (name, precision) == ("openvino", "int8") else ()))
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(
                f"{name} needs the package `{package}`, which is not installed. "
                f'pip install "plainvision[{found.extra}]"'
            ) from error
    return found


def _write_onnx(network: nn.Module, images: Tensor, path: Path, any_size: bool) -> None:
    save_onnx(lambda: program(network, images, any_size), path, inputs=["images"])


def save_onnx(
    traced: Callable[[], torch.export.ExportedProgram],
    path: Path,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str] | None = None,
) -> None:
    """Write what torch traces as an ONNX file, whose inputs and outputs are named."""
    import onnx

    with quiet():
        made = torch.onnx.export(traced(), (), dynamo=True, verbose=False, input_names=inputs, output_names=outputs)
        assert made is not None  # only the exporter of before returns nothing
        model = made.model_proto
    for node in model.graph.node:  # the exporter tells of each where in this machine's files its line stands
        kept = [entry for entry in node.metadata_props if entry.key == _SCOPES]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.save_model(model, path)


def layer_of(node: Any) -> str:
    """Return the path of the module that a node of an ONNX file computes, or the node's name."""
    said = [entry.value for entry in node.metadata_props if entry.key == _SCOPES]
    scopes = [scope for scope in (ast.literal_eval(said[0]) if said else []) if scope]
    return scopes[-2] if len(scopes) > 1 else node.name


def _open_onnx(path: Path, running: Running) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if running.threads is not None:
        options.intra_op_num_threads = running.threads
    providers: list[Any] = ["CPUExecutionProvider"]
    if running.device != "cpu":
        if (provider := "CUDAExecutionProvider") not in onnxruntime.get_available_providers():
            raise ValueError(f"this ONNX Runtime has no {provider}. pip install onnxruntime-gpu, or run it on the CPU.")
        providers.insert(0, (provider, {"use_tf32": str(int(running.precision == "tf32"))}))
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    name = session.get_inputs()[0].name
    return lambda images: list(session.run(None, {name: images}))


def _write_openvino(network: nn.Module, images: Tensor, path: Path, any_size: bool) -> None:
    import openvino

    with quiet():
        model = openvino.convert_model(program(network, images, any_size))
    openvino.save_model(model, path, compress_to_fp16=False)


def _open_openvino(path: Path, running: Running) -> Run:
    import openvino

    core = openvino.Core()
    # Left alone it computes in bfloat16 where the processor can.
    wanted: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[running.precision]}
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if running.precision in ("bf16", "fp16") and running.precision.upper() not in capabilities:
        raise ValueError(f"this processor computes no {running.precision}, so OpenVINO would compute in fp32.")
    if running.threads is not None:
        wanted["INFERENCE_NUM_THREADS"] = running.threads
    compiled = core.compile_model(path, "CPU", wanted)
    return lambda images: [np.array(one) for one in compiled(images).values()]


def _write_executorch(network: nn.Module, images: Tensor, path: Path, any_size: bool) -> Delegation:
    from plainvision.deploy import executorch_format

    return executorch_format.write(network, images, path)


def _open_executorch(path: Path, running: Running) -> Run:
    from plainvision.deploy import executorch_format

    return executorch_format.open_file(path, running)


FORMATS = {
    "onnx": Format(
        "onnx",
        "model.onnx",
        ("onnx", "onnxscript", "onnxruntime"),
        ("fp32", "fp16", "int8"),
        _write_onnx,
        _open_onnx,
        on_gpus=("fp32", "tf32", "fp16"),
    ),
    "openvino": Format(
        "openvino", "model.xml", ("openvino",), ("fp32", "bf16", "fp16", "int8"), _write_openvino, _open_openvino
    ),
    "torch": Format(
        "torch",
        "model.pt2",
        (),
        ("fp32", "bf16", "fp16"),
        torch_format.write_program,
        torch_format.open_program,
        on_gpus=("fp32", "tf32", "bf16", "fp16"),
    ),
    "compiled": Format(
        "compiled",
        "model.pt2",
        (),
        ("fp32", "bf16", "fp16"),
        torch_format.write_compiled,
        torch_format.open_compiled,
    ),
    "executorch": Format(
        "executorch",
        "model.pte",
        ("executorch",),
        ("fp32",),
        _write_executorch,
        _open_executorch,
        extra="mobile",
        any_size=False,
    ),
}
