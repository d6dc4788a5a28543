"""Peak memory, against arrays of known size."""

import pytest
import torch

from plainvision.bench import memory
from plainvision.bench.memory import peak_memory_mb

CPU = torch.device("cpu")
needs_proc = pytest.mark.skipif(not memory._can_reset_peak(), reason="the system does not tell the peak")


@needs_proc
def test_the_peak_of_one_array_is_its_size_each_time():
    def work():
        torch.ones(10_000_000)

    work()
    assert [peak_memory_mb(work, CPU) for _ in range(3)] == pytest.approx([40] * 3, abs=3)


@needs_proc
def test_what_is_held_before_does_not_count():
    held = torch.ones(10_000_000)
    assert peak_memory_mb(lambda: held.sum(), CPU) < 5


@needs_proc
def test_many_small_arrays_count_again_after_they_were_freed():
    def work():
        return [torch.ones(1000) for _ in range(5000)]

    assert peak_memory_mb(work, CPU) == pytest.approx(20, rel=0.3)


def test_a_system_that_cannot_tell_gives_none(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "missing" / "clear_refs")
    assert peak_memory_mb(lambda: None, CPU) is None


@pytest.mark.gpu
def test_the_peak_on_a_gpu_is_what_the_allocator_gave():
    device = torch.device("cuda:0")
    held = torch.ones(1_000_000, device=device)
    assert peak_memory_mb(lambda: held.repeat(10), device) == pytest.approx(40, abs=1)
