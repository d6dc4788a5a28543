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


@pytest.fixture
def gpu(monkeypatch):
    """Lets passes of more images than a limit run out of memory; returns the images of each pass that was tried."""

    from plainvision.training import passes
    from plainvision.training.learner import Learner

    def of(limit: int, message: str = "CUDA out of memory. Tried to allocate 2.00 GiB") -> list[int]:
        tried = []

        class Limited(Learner):
            def step(self, batch):
                tried.append(self.images_per_pass)
                if self.images_per_pass > limit:
                    raise torch.OutOfMemoryError(message)
                return super().step(batch)

        monkeypatch.setattr(passes, "Learner", Limited)
        monkeypatch.setattr(passes, "_has_own_memory", lambda device: True)
        return tried

    return of
