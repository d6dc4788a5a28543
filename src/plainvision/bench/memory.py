"""Peak memory of a call, above what was in use."""

import contextlib
import ctypes
import gc
import re
import statistics
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see proc_pid_clear_refs(5): sets the peak of the resident set to its present size


def peak_memory_mb(work: Callable[[], object], device: torch.device, passes: int = 3) -> float | None:
    """Return the peak memory of ``work()`` in MB (1e6 bytes), above what was in use: the median of the passes.

    On CUDA it is the allocations of PyTorch. On the CPU, under Linux, it is the growth of the process's resident set;
    that includes the scratch space of the libraries below PyTorch, and says little below 1 MB. Elsewhere it is None.
    Call ``work`` once before, so that what is allocated only once does not count.
    """
    gc.collect()  # or it may run inside ``work`` and free what was held before
    if device.type == "cuda":
        return statistics.median(_cuda_peak(work, device) for _ in range(passes)) / 1e6
    if device.type == "cpu" and _can_reset_peak():
        return statistics.median(_resident_peak(work) for _ in range(passes)) / 1e6
    return None


def _cuda_peak(work: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _resident_peak(work: Callable[[], object]) -> int:
    # glibc keeps what is freed, and the next pass would reuse it without the resident set growing.
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    before = _status_bytes("VmRSS")
    _CLEAR_REFS.write_text(_RESET_PEAK)
    work()
    # Never below zero: the kernel updates its counters in batches.
    return max(0, _status_bytes("VmHWM") - before)


def _can_reset_peak() -> bool:
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
        _status_bytes("VmHWM")
    except (OSError, LookupError):  # not Linux, or a container that hides it
        return False
    return True


def _status_bytes(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f"{_STATUS} has no {field}.")
    return int(found.group(1)) * 1024
