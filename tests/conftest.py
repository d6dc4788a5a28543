"""What all tests share."""

import pytest
import torch

# Small networks are fastest on one thread, and a busy machine makes two wait for each other.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 96)
