"""VanillaNet's series activation (arXiv:2305.12972, section 3.2, equation 6)."""

import torch
from torch import Tensor, nn

from plainvision.layers.fusable import Fusable, fold_batch_norm


class SeriesActivation(Fusable):
    """ReLU, then a depthwise (2n+1)x(2n+1) convolution, then batch norm: (B, C, H, W) -> (B, C, H, W).

    The paper writes a weighted sum of shifted activations, each with a bias; as in the official code, the biases are
    the batch norm's. ``dilation`` is that of the convolution.
    """

    def __init__(self, channels: int, n: int = 3, *, dilation: int = 1) -> None:
        super().__init__()
        if n < 1:
            raise ValueError(f"a series activation with n={n} has no neighbours to sum. Use nn.ReLU, or n >= 1.")
        self.act = nn.ReLU()
        self.conv = nn.Conv2d(
            channels, channels, 2 * n + 1, padding=dilation * n, dilation=dilation, groups=channels, bias=False
        )
        self.norm = nn.BatchNorm2d(channels, eps=1e-6)
        nn.init.trunc_normal_(self.conv.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.act(x)))

    def fuse(self) -> nn.Sequential:
        """Return ReLU and one depthwise convolution with a bias."""
        return nn.Sequential(nn.ReLU(), fold_batch_norm(self.conv, self.norm))

    def become_relu(self) -> None:
        """Make the layer a plain ReLU in eval mode: kernels of a single 1, and a batch norm that undoes its eps."""
        with torch.no_grad():
            nn.init.dirac_(self.conv.weight, groups=self.conv.groups)
            self.norm.reset_parameters()
            self.norm.weight.fill_((1 + self.norm.eps) ** 0.5)
