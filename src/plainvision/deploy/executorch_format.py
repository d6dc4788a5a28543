"""ExecuTorch's files, for phones: XNNPACK computes what it can, ExecuTorch's own kernels the rest."""

import copy
import gc
from collections import Counter
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from timm.layers import Attention
from torch import Tensor, nn

from plainvision.deploy.delegation import Delegation
from plainvision.deploy.running import Running, quiet

MOST_IMAGES = 8
"""Images that a file takes at once. Memory is planned for so many, and torch's convolutions fix 16 as a limit."""

_RESHAPES = ("aten.view_copy", "aten.squeeze_copy", "aten.unsqueeze_copy")


def write(network: nn.Module, images: Tensor, path: Path) -> Delegation:
    """Write a network for up to `MOST_IMAGES` images of one size, and return what XNNPACK computes of it."""
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.exir.passes.constant_prop_pass import constant_prop_pass

        batch = torch.export.Dim("batch", max=MOST_IMAGES)
        program = torch.export.export(_with_plain_attention(network), (images,), dynamic_shapes=({0: batch},))
        _forget_layouts(program)
        # What depends on no image, such as the embedding of positions, is computed now.
        program = constant_prop_pass(program.run_decompositions({}))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        operations = _operations(lowered.exported_program())  # before to_executorch, which rewrites the program
        path.write_bytes(lowered.to_executorch().buffer)
        return Delegation.of(*operations, _most_images(_method(path)))


def open_file(path: Path, running: Running) -> "_File":
    """Load a file.

    Raises:
        ValueError: another file of this process has another number of threads, or the device is not the CPU.
    """
    if running.device != "cpu":
        raise ValueError(f"the executorch file runs on the CPU, not on {running.device}.")
    with quiet():
        _set_threads(running.threads)
        return _File(path)


class _File:
    """A loaded file: images -> its outputs. More images than it takes at once are run in parts."""

    def __init__(self, path: Path) -> None:
        self._method = _method(path)
        self._most = _most_images(self._method)
        _OPEN.add(self)

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        given = torch.from_numpy(np.ascontiguousarray(images)).split(self._most)
        parts = [[output.numpy() for output in self._method.execute([part])] for part in given]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


_OPEN: WeakSet[_File] = WeakSet()


def _method(path: Path) -> Any:
    from executorch.runtime import Runtime

    return Runtime.get().load_program(path).load_method("forward")


def _most_images(method: Any) -> int:
    return int(method.metadata.input_tensor_meta(0).sizes()[0])


def _set_threads(threads: int | None) -> None:
    """Set the number of threads, which is one for the process: files that are loaded would crash if it changed."""
    from executorch.extension.pybindings import portable_lib

    now = portable_lib._threadpool_get_thread_count()
    if threads is None or threads == now:
        return
    gc.collect()
    if _OPEN:
        raise ValueError(
            f"ExecuTorch has one number of threads for all files of a process: {now}, and {threads} are asked for. "
            f"Leave the number out, or drop the other files first"
        )
    portable_lib._unsafe_reset_threadpool(threads)


def _with_plain_attention(network: nn.Module) -> nn.Module:
    """Return a copy whose attention is products and a softmax: torch's own guards against rows without any weight."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, Attention):
            module.fused_attn = False
    return network


def _forget_layouts(program: torch.export.ExportedProgram) -> None:
    """Leave memory layouts to XNNPACK, which chooses its own and mistakes those of torch."""
    aten = torch.ops.aten
    for node in list(program.graph.nodes):
        if node.target is aten.contiguous.default:
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
        elif node.target is aten.view.default:  # which asks for the layout of before
            node.target = aten.reshape.default
    program.graph_module.recompile()


def _operations(program: torch.export.ExportedProgram) -> tuple[Counter[str], Counter[str]]:
    """Return the operations of a lowered program that XNNPACK computes, and the others."""
    from executorch.exir.lowered_backend_module import LoweredBackendModule

    delegated: Counter[str] = Counter()
    for module in program.graph_module.modules():
        if isinstance(module, LoweredBackendModule):
            delegated += _names(module.original_module.graph)
    return delegated, _names(program.graph)


def _names(graph: torch.fx.Graph) -> Counter[str]:
    from executorch.exir.dialects.edge._ops import EdgeOpOverload

    targets = [node.target for node in graph.nodes if isinstance(node.target, EdgeOpOverload)]
    names = [str(target._op).rsplit(".", 1)[0] for target in targets]
    return Counter(name for name in names if name not in _RESHAPES and not name.startswith("executorch_prim"))
