"""Pooling-based vision transformer (PiT) in which every other block pools instead of attending to all patches.

Paper    Han et al. 2022, "Learning Features with Parameter-Free Layers", https://arxiv.org/abs/2202.02777, after
         Heo et al. 2021, "Rethinking Spatial Dimensions of Vision Transformers", https://arxiv.org/abs/2103.16302
Code     https://github.com/naver-ai/PfLayer, pit_pf.py (Apache-2.0); its checkpoints load
Differs  images need not be square; the classifier can be replaced, which fails in the official code; patches stay in
         the channels_last layout
Shapes   B batch, C channels, H height, W width, K classes; h x w patches
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from plainvision.layers.spatial_pool import check_output_stride, pooled_blocks
from plainvision.models.backbone import Backbone, Groups, Stage, rename
from plainvision.models.family import Variant, register_family
from plainvision.models.registry import Published
from plainvision.models.vit_pf import PAPER, SOURCE, EffBlock, heads_and_grid, positions_at, rename_mixers

torch.fx.wrap("positions_at")  # a tracer cannot follow its branch


class PiTPF(Backbone):
    """PiT with parameter-free layers: images (B, in_chans, H, W) -> logits (B, K).

    Args:
        patch_size: side of a patch, in pixels.
        stride: pixels from one patch to the next; patches overlap.
        head_channels: channels of each attention head.
        heads: of the attention in the first stage; each further stage has twice those of the one before.
        depths: blocks of each stage.
        op: the pooling, "max" or "avg".
        kernel_size: side of the pooling's window, in patches.
        pooled: which blocks pool, as in `pooled_blocks`; the others have attention.
        width: multiplies the heads, and so the channels.
        img_size: side, or (H, W), of the images whose positions are learned; others get interpolated ones.
        drop_path_rate: stochastic depth; of n blocks, block i, counted from 0, has i / n of it.
        output_stride: 8, 16 or 32; stages that would halve the image further dilate their pooling instead.

    Raises:
        ValueError: an unknown value of ``op``, ``pooled`` or ``global_pool``, an even window, a stage without blocks,
            a width that is not above zero, an ``img_size`` without a whole patch, or another ``output_stride``.
    """

    row = ("stages.*", "norm")
    # What halves the image goes with the block behind it.
    groups = Groups(
        r"^patch_embed|^pos_embed",
        [(r"^stages\.(\d+)\.pool", (0,)), (r"^stages\.(\d+)\.blocks\.(\d+)", None), (r"^norm", (99999,))],
        coarse=[(r"^stages\.(\d+)", None), (r"^norm", (99999,))],
    )
    undecayed = frozenset({"pos_embed"})
    norm_name = "norm"

    def __init__(
        self,
        *,
        patch_size: int,
        stride: int,
        head_channels: int,
        heads: int,
        depths: Sequence[int],
        op: str = "max",
        kernel_size: int = 3,
        pooled: str | Collection[int] = "odd",
        num_classes: int = 1000,
        in_chans: int = 3,
        width: float = 1.0,
        img_size: int | tuple[int, int] = 224,
        global_pool: str = "avg",
        output_stride: int = 32,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(in_chans, drop_rate)
        heads, grid = heads_and_grid(heads, width, img_size, patch_size, stride)
        channels = [head_channels * heads * 2**stage for stage in range(len(depths))]
        self.embed_dim = self.num_features = self.head_hidden_size = channels[-1]
        check_output_stride(output_stride)
        self.feature_info = []

        self.patch_embed = nn.Conv2d(in_chans, channels[0], patch_size, stride)
        self.pos_embed = nn.Parameter(torch.zeros(1, channels[0], *grid))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        stages: list[nn.Module] = []
        reduction, dilation = stride, 1
        for stage, pools in enumerate(pooled_blocks(pooled, depths)):
            done = sum(depths[:stage])
            before, after = channels[max(0, stage - 1)], channels[stage]
            step = 2 if 2 * reduction <= output_stride else 1
            look = {"stride": step, "padding": dilation, "dilation": dilation, "groups": before}
            halve = nn.Conv2d(before, after, 3, **look) if stage else nn.Identity()
            if stage:
                reduction, dilation = reduction * step, dilation * (2 // step)
            self.feature_info.append({"num_chs": after, "reduction": reduction, "module": f"stages.{stage}"})
            blocks = [
                EffBlock(
                    channels[stage],
                    heads=heads * 2**stage,
                    op=op if pool else None,
                    kernel_size=kernel_size,
                    drop_path=drop_path_rate * (done + block) / sum(depths),
                    dilation=dilation,
                )
                for block, pool in enumerate(pools)
            ]
            stages.append(nn.Sequential(OrderedDict(pool=halve, blocks=Stage(*blocks))))
        self.stages = nn.Sequential(*stages)
        self.norm: nn.Module = LayerNorm2d(channels[-1], eps=1e-6)
        self.reset_classifier(num_classes, global_pool)

    def embed(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).contiguous(memory_format=torch.channels_last)
        return x + positions_at(self.pos_embed, x.shape[2:])

    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return rename_mixers(self, rename(state, _OFFICIAL))


_OFFICIAL = (
    (r"^patch_embed\.conv\.", "patch_embed."),
    (r"^transformers\.", "stages."),
    (r"^pools\.(\d+)\.conv\.", lambda found: f"stages.{int(found[1]) + 1}.pool."),
    (r"^head\.(\w+)$", r"head.linear.\1"),
)


def _variant(
    patch_size: int, stride: int, head_channels: int, heads: int, depths: tuple[int, ...], top1: float | None = None
) -> Variant:
    sizes = {"patch_size": patch_size, "stride": stride, "head_channels": head_channels}
    size = {"min_input_size": (3, patch_size, patch_size), "pool_size": (7, 7) if stride == 8 else (8, 8)}
    return Variant({**sizes, "heads": heads, "depths": depths}, Published(top1, SOURCE), size)


register_family(
    "pit_pf",
    PiTPF,
    {
        "pit_ti_max": _variant(16, 8, 32, 2, (2, 6, 4)),
        "pit_s_max": _variant(16, 8, 48, 3, (2, 6, 4), 80.8),
        "pit_b_max": _variant(14, 7, 64, 4, (3, 6, 4)),
    },
    tag="naver_in1k",
    cfg={"first_conv": "patch_embed", **PAPER},
    out_indices=(0, 1, 2),
)
