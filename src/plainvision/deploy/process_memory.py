"""Peak memory of a deployed folder: a fresh process loads it, runs it, and tells how far it grew.

Runtimes keep what they allocate, so that within a process a second pass shows nothing.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from plainvision.bench.memory import peak_memory_mb

_SECONDS = 300
_CPU = torch.device("cpu")


def process_growth_mb(folder: Path, batch_size: int, threads: int | None = None) -> float | None:
    """Return how much memory in MB (1e6 bytes) loading a folder and running a batch took at its peak, weights included.

    Of a folder for a GPU it is the growth of what is in use there. None where the system does not say, or the process
    did not end well.
    """
    words = [sys.executable, "-m", "plainvision.deploy.process_memory", str(folder), str(batch_size), str(threads or 0)]
    try:
        done = subprocess.run(words, capture_output=True, timeout=_SECONDS, check=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError):
        return None
    return found if isinstance(found, float) else None


def _main() -> None:
    from plainvision.deploy.folder import load  # which asks this file in turn

    folder, batch_size, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

    def work() -> None:
        deployed = load(folder, threads=threads or None)
        how = deployed.description.preprocessing
        pixels = np.zeros((batch_size, how.image_size, how.image_size, how.channels), np.uint8)
        for _ in range(3):
            deployed.logits(pixels)

    about = json.loads((folder / "deploy.json").read_text())
    # Its modules are no part of the network.
    for package in {"onnx": ["onnxruntime"], "openvino": ["openvino"]}.get(about["format"], []):
        __import__(package)
    print(json.dumps(_growth_on_gpu(work) if about["device"] == "cuda" else peak_memory_mb(work, _CPU, passes=1)))


def _growth_on_gpu(work: Callable[[], None]) -> float:
    """Return by how many MB the memory in use grew: PyTorch and other runtimes keep what a pass took."""
    torch.zeros(1, device="cuda")  # the driver's own share is no part of the network
    before, _ = torch.cuda.mem_get_info()
    work()
    torch.cuda.synchronize()
    after, _ = torch.cuda.mem_get_info()
    return max(0, before - after) / 1e6


if __name__ == "__main__":
    _main()
