"""One rule for the device to use: the accelerator, of any maker, and the CPU where there is none."""

import pytest
import torch

from plainvision.inspection.devices import default_device, usable_device


def test_the_cpu_is_used_where_there_is_no_accelerator(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert default_device() == usable_device() == torch.device("cpu")


def test_an_accelerator_of_any_maker_is_used(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("mps"))
    assert default_device() == torch.device("mps")


@pytest.mark.parametrize("name", ["warp", "cuda:99"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(ValueError, match=rf"device='{name}' is not on this machine: [\s\S]*Give 'cpu' or one that is"):
        usable_device(name)


def test_the_meta_device_computes_nothing():
    with pytest.raises(ValueError, match=r"a network on the meta device has no weights to compute with"):
        usable_device("meta")
