"""A network in a file that a runtime runs, as a module: it is timed and evaluated, and nothing looks inside."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Foreign(nn.Module):
    """A network in a file: images (B, C, H, W), normalised, on the CPU -> logits (B, K).

    Args:
        run: what the runtime does with images.
        parameters: learned values, counted when the file was written.
        macs: multiply-adds of one image, counted then too.
        process_mb: images per pass -> growth of a fresh process that runs it, in MB; None where it is not known.
    """

    def __init__(
        self,
        run: Callable[[Tensor], Tensor],
        *,
        parameters: int,
        macs: int,
        process_mb: Callable[[int], float | None],
    ) -> None:
        super().__init__()
        self.run, self.parameter_count, self.macs, self.process_mb = run, parameters, macs, process_mb

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        if x.device.type != "cpu" or x.dtype != torch.float32:
            raise ValueError(
                f"a deployed network takes float32 images on the CPU, and these are {x.dtype} on {x.device}. Its "
                "precision is in its file; leave precision, device and compile out."
            )
        return self.run(x)
