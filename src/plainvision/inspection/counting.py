"""Parameters and multiply-adds of a network, counted the way papers count them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from plainvision.inspection.eval_mode import eval_mode
from plainvision.inspection.foreign import Foreign


def count_parameters(model: nn.Module) -> int:
    """Return the number of learned values; a parameter that two layers share counts once, buffers never."""
    if isinstance(model, Foreign):
        return model.parameter_count
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, image_size: tuple[int, int] | int = 224, channels: int = 3) -> int:
    """Return the multiply-adds of one image, (1, channels, H, W), in eval mode.

    Convolutions and matrix products count, those inside attention too. Element-wise work (activations, norms, biases),
    pooling, softmax, resizing, and products with a single vector do not, as in the papers' tables. A network on the
    meta device is counted without computing anything.

    Raises:
        ValueError: a size below 1.
    """
    height, width = checked_image_size(image_size, channels)
    if isinstance(model, Foreign):
        return model.macs
    # Buffers decide where there are no parameters; with neither, the input is on the CPU.
    tensors = [*model.parameters(), *model.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    dtype = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)
    images = torch.zeros(1, channels, height, width, device=device, dtype=dtype)
    # The counter asks each learning tensor that a layer is given for a gradient function; a class token has none.
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        with eval_mode(model), torch.no_grad(), counted_macs() as macs:
            model(images)
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
    return macs()


@contextmanager
def counted_macs() -> Iterator[Callable[[], int]]:
    """Count the multiply-adds in a ``with`` block; it yields a function that returns their number.

    Attention runs as the matrix products that it consists of: the counter knows some of torch's fused kernels alone.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            yield lambda: counter.get_total_flops() // 2
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def checked_image_size(image_size: tuple[int, int] | int, channels: int) -> tuple[int, int]:
    """Return (H, W), one number being a square, or raise a ValueError where it or ``channels`` is below 1."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(height, width, channels) < 1:
        raise ValueError(
            f"there is no image of {channels} channels and {height}x{width} pixels. Give an image_size and "
            "channels above zero, for instance image_size=224, channels=3."
        )
    return height, width
