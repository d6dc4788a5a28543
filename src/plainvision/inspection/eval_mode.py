"""Eval mode as a context."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put every part of ``model`` in eval mode, then each back in the mode it was found in."""
    found = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in found:  # not model.train(): it would wake frozen parts
            module.training = training
