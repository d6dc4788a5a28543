"""Files of PyTorch's own: a program that torch.export has traced, and one that AOTInductor has compiled."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from plainvision.deploy.running import Run, Running, products_in, quiet

# Of an exporter that leaves it open: so many images or pixels at most.
_MOST = 2**20
# A graph is for images of one shape and holds the memory of its pass; the shapes used last are kept.
_GRAPHS = 4


def program(network: nn.Module, images: Tensor, any_size: bool) -> torch.export.ExportedProgram:
    """Return the network as torch exports it, for any number of images; two in the example, so that none is fixed."""
    batch = torch.export.Dim("batch", max=_MOST)
    axes: dict[int, Any] = {0: batch}
    if any_size:
        last = images.ndim - (1 if images.shape[-1] in (1, 3) else 0)
        axes |= dict.fromkeys((last - 2, last - 1), torch.export.Dim.AUTO)
    return torch.export.export(network, (images,), dynamic_shapes=(axes,))


def write_program(network: nn.Module, images: Tensor, path: Path, any_size: bool) -> None:
    """Write the network as a program of torch.export."""
    with quiet():  # torch tells of weights that are not contiguous
        torch.export.save(program(network, images, any_size), path)


def open_program(path: Path, running: Running) -> Run:
    """Load a program of torch.export, on any device."""
    from torch.export.passes import move_to_device_pass

    with quiet():  # torch 2.11 warns of its own read-only buffers
        loaded = torch.export.load(path)
        if running.device != "cpu":
            loaded = move_to_device_pass(loaded, running.device)
        network = loaded.module()
        return _torch_run(torch.compile(network) if running.compile else network, running)


def write_compiled(network: nn.Module, images: Tensor, path: Path, any_size: bool) -> None:
    """Compile the network for this processor; what torch 2.11 compiles so for a GPU, it crashes on as it loads it."""
    import torch._inductor

    with quiet(), torch.no_grad():
        traced = program(network, images, any_size)
        # Frozen weights are laid out for the processor's matrix products once, as they are compiled.
        torch._inductor.aoti_compile_and_package(traced, package_path=str(path), inductor_configs={"freezing": True})


def open_compiled(path: Path, running: Running) -> Run:
    """Load a compiled network, on a processor like the one that it was compiled for."""
    import torch._inductor

    with quiet():
        return _torch_run(torch._inductor.aoti_load_package(str(path)), running)


def _torch_run(network: Callable[[Tensor], Any], running: Running) -> Run:
    graphs = _Graphs(network)

    def run(images: np.ndarray) -> list[np.ndarray]:
        before = torch.get_num_threads()
        torch.set_num_threads(running.threads or before)
        try:
            with torch.inference_mode(), products_in(running.precision):
                given = torch.from_numpy(images).to(running.device)
                found = graphs(given) if running.graph else network(given)
        finally:
            torch.set_num_threads(before)
        return [one.cpu().numpy() for one in (found if isinstance(found, tuple | list) else [found])]

    return run


class _Graphs:
    """Passes of a network as CUDA graphs, one for each shape of images: one launch, not one for each kernel."""

    def __init__(self, network: Callable[[Tensor], Any]) -> None:
        self._network = network
        self._graphs: OrderedDict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, Any]] = OrderedDict()

    def __call__(self, images: Tensor) -> Any:
        shape = images.shape
        if shape not in self._graphs:
            if len(self._graphs) >= _GRAPHS:
                self._graphs.popitem(last=False)
            self._graphs[shape] = self._captured(images.clone())
        self._graphs.move_to_end(shape)
        graph, given, found = self._graphs[shape]
        given.copy_(images)
        graph.replay()
        return found

    def _captured(self, images: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Any]:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # libraries choose their kernels before the capture
                self._network(images)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = self._network(images)
        return graph, images, found
