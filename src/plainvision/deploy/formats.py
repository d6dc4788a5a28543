"""The files that runtimes load: how each is written, and how it is run. One function of each kind a format."""

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Run = Callable[[np.ndarray], list[np.ndarray]]
"""A loaded file: images -> its outputs."""

# Of an exporter that leaves it open: so many images or pixels at most.
_MOST = 2**20


@dataclass(frozen=True)
class Format:
    """A kind of file."""

    name: str
    """What the user calls it."""
    file: str
    """Its name in a deployed folder."""
    packages: tuple[str, ...]
    """What writing it needs beside torch."""
    write: Callable[[nn.Module, Tensor, Path, bool], None]
    """Writes a network; images (2, ...) show what it takes; True leaves their height and width open."""
    open: Callable[[Path, int | None], Run]
    """Loads a file, to be run on so many threads; None leaves their number to the runtime."""


def format_called(name: str) -> Format:
    """Return the format called so.

    Raises:
        ValueError: there is none.
        ImportError: a package that it needs is not installed.
    """
    if name not in FORMATS:
        raise ValueError(f"unknown format {name!r}: there are {', '.join(FORMATS)}.")
    for package in FORMATS[name].packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(
                f'{name} needs the package `{package}`, which is not installed. pip install "plainvision[deploy]"'
            ) from error
    return FORMATS[name]


def _program(network: nn.Module, images: Tensor, any_size: bool) -> torch.export.ExportedProgram:
    """Return the network as torch exports it, for any number of images; two in the example, so that none is fixed."""
    batch = torch.export.Dim("batch", max=_MOST)
    axes: dict[int, Any] = {0: batch}
    if any_size:
        last = images.ndim - (1 if images.shape[-1] in (1, 3) else 0)
        axes |= dict.fromkeys((last - 2, last - 1), torch.export.Dim.AUTO)
    return torch.export.export(network, (images,), dynamic_shapes=(axes,))


def _write_program(network: nn.Module, images: Tensor, path: Path, any_size: bool) -> None:
    torch.export.save(_program(network, images, any_size), path)


def _open_program(path: Path, threads: int | None) -> Run:
    with _quiet():  # torch 2.11 warns of its own read-only buffers
        network = torch.export.load(path).module()

    def run(images: np.ndarray) -> list[np.ndarray]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        try:
            with torch.inference_mode():
                found = network(torch.from_numpy(images))
        finally:
            torch.set_num_threads(before)
        return [one.numpy() for one in (found if isinstance(found, tuple | list) else [found])]

    return run


def _write_onnx(network: nn.Module, images: Tensor, path: Path, any_size: bool) -> None:
    with _quiet():
        torch.onnx.export(
            _program(network, images, any_size),
            (),
            path,
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=["images"],
        )


def _open_onnx(path: Path, threads: int | None) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: list(session.run(None, {name: images}))


def _write_openvino(network: nn.Module, images: Tensor, path: Path, any_size: bool) -> None:
    import openvino

    with _quiet():
        model = openvino.convert_model(_program(network, images, any_size))
    openvino.save_model(model, path, compress_to_fp16=False)


def _open_openvino(path: Path, threads: int | None) -> Run:
    import openvino

    # Left alone it computes in bfloat16 where the processor can.
    wanted: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        wanted["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(path, "CPU", wanted)
    return lambda images: [np.array(one) for one in compiled(images).values()]


@contextmanager
def _quiet() -> Iterator[None]:
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
    "onnx": Format("onnx", "model.onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _open_onnx),
    "openvino": Format("openvino", "model.xml", ("openvino",), _write_openvino, _open_openvino),
    "torch": Format("torch", "model.pt2", (), _write_program, _open_program),
}
