"""Every registered network detects and segments: it takes a step."""

import pytest
import timm
import torch
from networks_for_tests import TINY

import plainvision as pv

NAMES = [(family, name) for family in TINY for name in pv.list_models(family)]


def test_every_network_is_here():
    assert sorted(name for _, name in NAMES) == sorted(pv.list_models())


@pytest.fixture(params=NAMES, ids=[name for _, name in NAMES])
def backbone(request):
    family, name = request.param
    return timm.create_model(name, num_classes=0, **TINY[family])


def learns(network: torch.nn.Module) -> bool:
    """Return whether each parameter of the pyramid got a gradient, and a finite one."""
    return all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


def test_it_detects(backbone):
    network = pv.tasks.detector(backbone, "retinanet", num_classes=2, min_size=64, max_size=96).train()
    targets = [
        {"boxes": torch.tensor([[4.0, 4.0, 40.0, 40.0]]), "labels": torch.tensor([2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    losses = network([torch.rand(3, 64, 80), torch.rand(3, 80, 64)], targets)
    sum(losses.values()).backward()
    assert learns(network)
    (found,) = network.eval()([torch.rand(3, 50, 70)])
    assert found["boxes"].shape[1:] == (4,)
    assert len(found["labels"]) == len(found["scores"]) == len(found["boxes"])


def test_it_segments(backbone):
    network = pv.tasks.segmenter(backbone, num_classes=3, width=16).train()
    logits = network(torch.rand(2, 3, 64, 96))
    assert logits.shape == (2, 3, 64, 96)
    torch.nn.functional.cross_entropy(logits, torch.randint(3, (2, 64, 96))).backward()
    assert learns(network)
