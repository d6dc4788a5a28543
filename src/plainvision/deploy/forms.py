"""The forms of a network: what its file computes in, and what it takes."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from plainvision.deploy.delegation import LEAST_DELEGATED
from plainvision.deploy.preprocessing import Preprocessing
from plainvision.deploy.running import Precision, Running
from plainvision.inspection.tracing import computes_as, own_copy, replace_layers

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Form:
    """How a network is written."""

    format: str = "onnx"
    """onnx, openvino, torch, compiled or executorch."""
    precision: Precision = "fp32"
    """What it computes in."""
    scheme: str | None = None
    """Of int8, how; None tries all of `quantizing.SCHEMES` on the calibration images and keeps the best."""
    channels_last: bool = False
    """Of torch's formats: whether activations have the channels_last memory layout."""
    input: Literal["float32", "uint8"] = "float32"
    """What the file takes: normalised images (B, C, H, W), or bytes (B, H, W, C)."""
    any_size: bool = False
    """Whether height and width of the images are open."""
    device: str = "cpu"
    """Where it runs: cpu, or cuda."""
    compile: bool = False
    """Of the torch format: whether torch.compile compiles it as it is loaded."""
    graph: bool = False
    """Of torch's formats on a GPU: whether passes are replayed as a CUDA graph."""
    least_delegated: float = LEAST_DELEGATED
    """Of executorch, the least share of the operations that XNNPACK has to compute."""

    def __str__(self) -> str:
        words = [self.format, self.precision]
        words += [self.scheme] if self.scheme else []
        words += ["channels last"] if self.channels_last else []
        words += ["compiled at load"] if self.compile else []
        words += ["graph"] if self.graph else []
        return " ".join(words)

    @property
    def running(self) -> Running:
        """What its file is run with."""
        return Running(self.precision, device=self.device, compile=self.compile, graph=self.graph)

    def takes(self, images: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
        """Return images (B, C, H, W), normalised, as the file takes them."""
        return preprocessing.bytes_of(images) if self.input == "uint8" else images


class ByteImages(nn.Module):
    """A network that normalises by itself: bytes (B, H, W, C) -> what the network returns for (B, C, H, W)."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        for name in ("mean", "std"):
            values = torch.tensor(getattr(preprocessing, name), dtype=torch.float32)
            self.register_buffer(name, values[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std)


class LowerPrecision(nn.Module):
    """A network that computes in another type: float32 in, float32 out."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network.to(dtype), dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.to(self.dtype)).float()


class AnyPool(nn.Module):
    """Average pooling of features of any size (B, C, H, W) to one size, as two products of matrices.

    Exporters take `nn.AdaptiveAvgPool2d` apart by the size of the example, unless the size is 1.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (_averaging(count, length) for count, length in zip(self.size, x.shape[2:], strict=True))
        return rows.to(x) @ x @ columns.to(x).T


def _averaging(count: int, length: int) -> Tensor:
    """Return the shares (count, length) of a row in each of ``count`` means, as adaptive pooling takes them."""
    place, mean = torch.arange(length), torch.arange(count)[:, None]
    first, behind = mean * length // count, ((mean + 1) * length + count - 1) // count
    return ((place >= first) & (place < behind)) / (behind - first)


def with_any_pooling(network: nn.Module) -> nn.Module:
    """Return a copy whose adaptive average pooling can be exported for images of any size."""
    network = own_copy(network)
    found: dict[nn.Module, nn.Module] = {}
    for layer in network.modules():
        if computes_as(layer, nn.AdaptiveAvgPool2d):
            size: Any = layer.output_size
            size = (size, size) if isinstance(size, int) else size
            if None not in size and size != (1, 1):
                found[layer] = AnyPool(size)
    return replace_layers(network, found)


def with_even_padding(network: nn.Module) -> nn.Module:
    """Return a copy that pads by constants where timm pads as TensorFlow does, by the size of the image.

    For sizes of which every stride is a divisor these are the same, and an exporter need not ask what the size is:
    with one that it may not know it asks for hours.
    """
    network = own_copy(network)
    found: dict[nn.Module, nn.Module] = {}
    for layer in network.modules():
        if isinstance(layer, Conv2dSame):
            same: Any = layer
            reach = [(k - 1) * d + 1 for k, d in zip(same.kernel_size, same.dilation, strict=True)]
            rows, columns = (max(one - stride, 0) for one, stride in zip(reach, same.stride, strict=True))
            conv = nn.Conv2d(
                same.in_channels,
                same.out_channels,
                same.kernel_size,
                same.stride,
                dilation=same.dilation,
                groups=same.groups,
                bias=same.bias is not None,
            )
            conv.weight, conv.bias = same.weight, same.bias
            sides = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
            found[layer] = nn.Sequential(nn.ZeroPad2d(sides), conv)
    return replace_layers(network, found)


class ChannelsLast(nn.Module):
    """A network in the channels_last memory layout."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.contiguous(memory_format=torch.channels_last))
