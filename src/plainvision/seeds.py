"""Random numbers that follow from a key alone."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import get_worker_info


def seed_everything(*key: int) -> None:
    """Seed numpy and torch by a key of non-negative numbers: initial weights, Mixup, dropout."""
    words = np.random.SeedSequence(key).generate_state(2)
    np.random.seed(words[0])
    torch.manual_seed(int(words[1]))


def derived_seed(*key: int) -> int:
    """Return a 32-bit seed for ``key``; neighbouring keys have unrelated seeds."""
    # The length comes first, because SeedSequence takes (1, 2) and (1, 2, 0) for the same key.
    words = [len(key), *(part % 2**64 for part in key)]
    return int(np.random.SeedSequence(words).generate_state(1)[0])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed `random`, `numpy.random` and torch's CPU generator for a transform.

    In the training process they are put back afterwards: with workers=0 the transform runs between two training steps,
    whose random numbers must not depend on it.
    """
    shared = get_worker_info() is None
    before = (random.getstate(), np.random.get_state(), torch.get_rng_state()) if shared else None
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs too
    try:
        yield
    finally:
        if before is not None:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])
