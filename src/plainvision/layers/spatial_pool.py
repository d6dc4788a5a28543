"""Parameter-free spatial ops: pooling in the place of a convolution or of attention (arXiv:2202.02777).

Shapes   B batch, C channels, H height, W width
"""

from collections.abc import Collection, Sequence
from itertools import accumulate

from torch import nn


def spatial_pool(op: str, *, kernel_size: int = 3, stride: int = 1) -> nn.Module:
    """Return a layer that mixes neighbouring pixels by pooling: (B, C, H, W) -> (B, C, ceil(H / s), ceil(W / s)).

    What a window covers outside the image does not count. Give it features in the channels_last layout: on a CPU torch
    pools others so slowly that a 3x3 max pooling costs more than the 1x1 convolutions around it. (A 1x3 and a 3x1
    pooling, which compute the same, gain nothing in either layout.)

    Args:
        op: "max" or "avg".
        kernel_size: side of the window, odd.
        stride: s.

    Raises:
        ValueError: another op, or an even window.
    """
    if op not in ("max", "avg"):
        raise ValueError(f"unknown spatial op {op!r}: the parameter-free ones are 'max' and 'avg'.")
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(
            f"kernel_size={kernel_size}: a window has its pixel in the middle, so that its side is odd. Give 3, or 5."
        )
    if op == "max":
        return nn.MaxPool2d(kernel_size, stride, kernel_size // 2)
    return nn.AvgPool2d(kernel_size, stride, kernel_size // 2, count_include_pad=False)


def pooled_blocks(pooled: str | Collection[int], depths: Sequence[int]) -> list[list[bool]]:
    """Return which blocks pool: one list for each stage, with a value for each of its blocks.

    Args:
        pooled: "all", "none"; "odd" or "even", as blocks are counted within their stage, from 0; or the numbers of
            blocks, counted through the network, from 0.
        depths: how many blocks each stage has.

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
