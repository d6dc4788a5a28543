"""The files that runtimes load: how each is written, and how it is run. One function of each kind a format."""

import ast
import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from plainvision.deploy.delegation import Delegation

Run = Callable[[np.ndarray], list[np.ndarray]]
"""A loaded file: images -> its outputs."""

Precision = Literal["fp32", "bf16", "fp16", "int8"]

_SCOPES = "pkg.torch.onnx.name_scopes"
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}

# Of an exporter that leaves it open: so many images or pixels at most.
_MOST = 2**20


@dataclass(frozen=True)
class Running:
    """What a file is run with."""

    precision: Precision = "fp32"
    """What it was written for."""
    threads: int | None = None
    """None leaves their number to the runtime."""
    device: str = "cpu"
    """Where it runs: cpu, cuda."""


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


def format_called(name: str, precision: Precision = "fp32") -> Format:
    """Return the format called so.

    Raises:
        ValueError: there is none, or it does not compute in that precision.
        ImportError: a package that it needs is not installed.
    """
    if name not in FORMATS:
        raise ValueError(f"unknown format {name!r}: there are {', '.join(FORMATS)}.")
    found = FORMATS[name]
    if precision not in found.precisions:
        others = [one for one, kind in FORMATS.items() if precision in kind.precisions]
        raise ValueError(
            f"{name} offers no {precision}, only {', '.join(found.precisions)}. "
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


def _program(network: nn.Module, images: Tensor, any_size: bool) -> torch.export.ExportedProgram:
    """Return the network as torch exports it, for any number of images; two in the example, so that none is fixed."""
    batch = torch.export.Dim("batch", max=_MOST)
    axes: dict[int, Any] = {0: batch}
    if any_size:
        last = images.ndim - (1 if images.shape[-1] in (1, 3) else 0)
        axes |= dict.fromkeys((last - 2, last - 1), torch.export.Dim.AUTO)
    return torch.export.export(network, (images,), dynamic_shapes=(axes,))


def _write_program(network: nn.Module, images: Tensor, path: Path, any_size: bool) -> None:
    with quiet():  # torch tells of weights that are not contiguous
        torch.export.save(_program(network, images, any_size), path)


def _open_program(path: Path, running: Running) -> Run:
    from torch.export.passes import move_to_device_pass

    with quiet():  # torch 2.11 warns of its own read-only buffers
        program = torch.export.load(path)
        if running.device != "cpu":
            program = move_to_device_pass(program, running.device)
        return _torch_run(program.module(), running)


def _write_compiled(network: nn.Module, images: Tensor, path: Path, any_size: bool) -> None:
    import torch._inductor

    with quiet(), torch.no_grad():
        program = _program(network, images, any_size)
        # Frozen weights are laid out for the processor's matrix products once, as they are compiled.
        torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs={"freezing": True})


def _open_compiled(path: Path, running: Running) -> Run:
    import torch._inductor

    with quiet():
        return _torch_run(torch._inductor.aoti_load_package(str(path)), running)


def _torch_run(network: Callable[[Tensor], Any], running: Running) -> Run:
    def run(images: np.ndarray) -> list[np.ndarray]:
        before = torch.get_num_threads()
        torch.set_num_threads(running.threads or before)
        try:
            with torch.inference_mode():
                found = network(torch.from_numpy(images).to(running.device))
        finally:
            torch.set_num_threads(before)
        return [one.cpu().numpy() for one in (found if isinstance(found, tuple | list) else [found])]

    return run


def _write_onnx(network: nn.Module, images: Tensor, path: Path, any_size: bool) -> None:
    import onnx

    with quiet():
        made = torch.onnx.export(
            _program(network, images, any_size), (), dynamo=True, verbose=False, input_names=["images"]
        )
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
    provider = "CPUExecutionProvider" if running.device == "cpu" else "CUDAExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise ValueError(f"this ONNX Runtime has no {provider}. pip install onnxruntime-gpu, or run it on the CPU.")
    session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    name = session.get_inputs()[0].name
    return lambda images: list(session.run(None, {name: images}))


def _write_openvino(network: nn.Module, images: Tensor, path: Path, any_size: bool) -> None:
    import openvino

    with quiet():
        model = openvino.convert_model(_program(network, images, any_size))
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


@contextmanager
def quiet() -> Iterator[None]:
    """Keep exporters from telling of their own deprecations."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


FORMATS = {
    "onnx": Format(
        "onnx",
        "model.onnx",
        ("onnx", "onnxscript", "onnxruntime"),
        ("fp32", "fp16", "int8"),
        _write_onnx,
        _open_onnx,
    ),
    "openvino": Format(
        "openvino", "model.xml", ("openvino",), ("fp32", "bf16", "fp16", "int8"), _write_openvino, _open_openvino
    ),
    "torch": Format("torch", "model.pt2", (), ("fp32", "bf16", "fp16"), _write_program, _open_program),
    "compiled": Format("compiled", "model.pt2", (), ("fp32", "bf16", "fp16"), _write_compiled, _open_compiled),
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
