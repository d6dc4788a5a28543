"""Parameter-free spatial ops: pooling in the place of a convolution or of attention (arXiv:2202.02777)."""

from collections.abc import Collection, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn


class ChannelsLast(nn.Module):
    """Put features (B, C, H, W) into the channels_last layout."""

    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last)


def spatial_pool(op: str, *, kernel_size: int = 3, stride: int = 1, dilation: int = 1) -> nn.Module:
    """Return a pooling of stride s that keeps the size otherwise: (B, C, H, W) -> (B, C, ceil(H / s), ceil(W / s)).

    Pixels outside the image do not count. The channels_last layout is the fast one: on a CPU a 3x3 max pooling costs
    more than the 1x1 convolutions around it in the other.

    Args:
        op: "max" or "avg".
        kernel_size: side of the window, odd.
        stride: s.
        dilation: distance between the pixels of a window; 1 for "avg".

    Raises:
        ValueError: another op, an even window, or "avg" with a dilation.
    """
    if op not in ("max", "avg"):
        raise ValueError(f"unknown spatial op {op!r}: the parameter-free ones are 'max' and 'avg'.")
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(
            f"kernel_size={kernel_size}: a window has its pixel in the middle, so that its side is odd. Give 3, or 5."
        )
    if op == "max":
        return max_pool(kernel_size, stride, kernel_size // 2, dilation=dilation)
    if dilation > 1:
        raise ValueError("average pooling cannot be dilated. Pool by 'max', or leave output_stride at 32.")
    return nn.AvgPool2d(kernel_size, stride, kernel_size // 2, count_include_pad=False)


def max_pool(kernel_size: int, stride: int, padding: int, *, dilation: int = 1) -> nn.Module:
    """Return max pooling; at ``stride`` 1 every window keeps the size: (B, C, H, W) -> (B, C, H, W).

    An even window then reaches to the right and down, as at stride 2. Pixels outside the image do not count.
    """
    if dilation == 1 and (stride > 1 or kernel_size % 2):
        return nn.MaxPool2d(kernel_size, stride, padding)
    reach = dilation * (kernel_size - 1)
    before = reach // 2 if kernel_size % 2 else 0
    # torch allows a padding of half a window at most, dilated or not.
    outside = nn.ConstantPad2d((before, reach - before, before, reach - before), -torch.inf)
    return nn.Sequential(outside, nn.MaxPool2d(kernel_size, 1, 0, dilation))


def check_output_stride(output_stride: int) -> None:
    """Raise a ValueError unless ``output_stride`` is one that a network can keep by dilation: 8, 16 or 32."""
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride={output_stride}: features can be made 8, 16 or 32 times smaller than images.")


def pooled_blocks(pooled: str | Collection[int], depths: Sequence[int]) -> list[list[bool]]:
    """Return for each block of each stage whether it pools.

    Args:
        pooled: "all" or "none"; "odd" or "even", counted within each stage from 0; or the numbers of blocks, counted
            through the network from 0.
        depths: number of blocks of each stage.

    Raises:
        ValueError: a stage without blocks, an unknown word, or a block that is not there.
    """
    if not depths or min(depths) < 1:
        raise ValueError(f"depths={tuple(depths)}: there is a stage without blocks. Give at least one for each stage.")
    if isinstance(pooled, str):
        words = {"all": (0, 1), "none": (), "even": (0,), "odd": (1,)}
        if pooled not in words:
            raise ValueError(
                f"pooled={pooled!r}: which blocks pool is 'all', 'none', 'odd', 'even', or the blocks' numbers."
            )
        return [[block % 2 in words[pooled] for block in range(depth)] for depth in depths]
    missing = sorted(block for block in pooled if not 0 <= block < sum(depths))
    if missing:
        raise ValueError(
            f"there is no block {missing[0]} that could pool: the network has {sum(depths)}, counted from 0."
        )
    starts = accumulate(depths, initial=0)
    return [[start + block in pooled for block in range(depth)] for start, depth in zip(starts, depths, strict=False)]
