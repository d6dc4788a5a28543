"""What timm's ``forward_intermediates`` does, for networks that are a row of layers."""

from collections.abc import Callable, Mapping, Sequence

from timm.models._features import feature_take_indices  # timm's own, so that indices mean what its users expect
from torch import Tensor


def run_with_intermediates(
    x: Tensor,
    layers: Mapping[str, Callable[[Tensor], Tensor]],
    taps: Sequence[str],
    *,
    indices: int | list[int] | None,
    stop_early: bool,
    output_fmt: str,
    intermediates_only: bool,
) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
    """Run ``x`` (B, C, H, W) through ``layers`` and return its end and the chosen outputs, or these alone.

    Args:
        x: the images.
        layers: every layer by name, in order.
        taps: names of the layers whose output may be chosen, in order.
        indices: which taps; a number means the last so many, None all.
        stop_early: stop at the last chosen one.
        output_fmt: only "NCHW".
        intermediates_only: return the chosen outputs alone.

    Raises:
        ValueError: another ``output_fmt``.
    """
    if output_fmt != "NCHW":
        raise ValueError(f"output_fmt={output_fmt!r}: the features of this network are NCHW. Permute them yourself.")
    take, last = feature_take_indices(len(taps), indices)
    chosen = {taps[i] for i in take}
    intermediates = []
    for name, layer in layers.items():
        x = layer(x)
        if name in chosen:
            intermediates.append(x)
        if stop_early and name == taps[last]:
            break
    return intermediates if intermediates_only else (x, intermediates)
