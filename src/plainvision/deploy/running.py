"""What a file is run with."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

Run = Callable[[np.ndarray], list[np.ndarray]]
"""A loaded file: images -> its outputs."""

Precision = Literal["fp32", "tf32", "bf16", "fp16", "int8"]
"""What a file computes in; tf32 is fp32 whose products a GPU rounds to 10 bits."""


@dataclass(frozen=True)
class Running:
    """What a file is run with."""

    precision: Precision = "fp32"
    """What it was written for."""
    threads: int | None = None
    """None leaves their number to the runtime."""
    device: str = "cpu"
    """Where it runs: cpu, or cuda."""
    compile: bool = False
    """Of the torch format: whether torch.compile compiles it as it is loaded, which the first pass waits for."""
    graph: bool = False
    """Of torch's formats on a GPU: whether passes are replayed as a CUDA graph."""


@contextmanager
def products_in(precision: Precision) -> Iterator[None]:
    """Let a GPU round float32 products to TF32 in that precision alone; torch does so in convolutions by default."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def quiet() -> Iterator[None]:
    """Keep exporters from telling of their own deprecations."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
