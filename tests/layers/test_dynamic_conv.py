"""Layers that change configuration, against computations that take one output after the other."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from plainvision.layers.dynamic_conv import DynamicConv2d, DynamicLayer, DynamicPool2d, Option, dynamic_layer

GROUPS = {"one group": 1, "two groups": 2, "depthwise": 6}


def conv(kernel: int = 3, *, stride: int = 1, groups: int = 1, bias: bool = True, **options: object) -> nn.Conv2d:
    """Return a convolution of 6 channels in float64, in which rounding does not hide an error."""
    options.setdefault("padding", kernel // 2)
    outputs = 12 if groups == 6 else 4
    return nn.Conv2d(6, outputs, kernel, stride, groups=groups, bias=bias, **options).double()  # type: ignore[arg-type]


def pixels(height: int = 7, width: int = 6) -> Tensor:
    return torch.randn(2, 6, height, width, dtype=torch.float64)


def configured(layer: nn.Module, **values: float) -> DynamicLayer:
    dynamic = dynamic_layer(layer)
    dynamic.configure(Option(**values))  # type: ignore[arg-type]
    return dynamic


def slid(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None, stride: int, padding: int, groups: int):
    """Slide a kernel over an image with zeros around it, one position and one group after the other."""
    images, channels, height, width = x.shape
    outputs, _, side, _ = kernel.shape
    padded = np.zeros((images, channels, height + 2 * padding, width + 2 * padding))
    padded[:, :, padding : padding + height, padding : padding + width] = x
    rows, columns = (range(0, size + 2 * padding - side + 1, stride) for size in (height, width))
    out = np.zeros((images, outputs, len(rows), len(columns)))
    for group in range(groups):
        given = slice(group * channels // groups, (group + 1) * channels // groups)
        put = slice(group * outputs // groups, (group + 1) * outputs // groups)
        for i, top in enumerate(rows):
            for j, left in enumerate(columns):
                window = padded[:, given, top : top + side, left : left + side]
                out[:, put, i, j] = np.einsum("bchw,ochw->bo", window, kernel[put])
    return out if bias is None else out + bias[:, None, None]


def zeros_behind(x: np.ndarray) -> np.ndarray:
    """Put a zero behind each pixel, in both directions."""
    out = np.zeros((*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3]))
    out[:, :, ::2, ::2] = x
    return out


def spread(kernel: np.ndarray, dilation: int) -> np.ndarray:
    """Put zeros between the taps of a kernel."""
    side = dilation * (kernel.shape[2] - 1) + 1
    out = np.zeros((*kernel.shape[:2], side, side))
    out[:, :, ::dilation, ::dilation] = kernel
    return out


def resampled(kernel: np.ndarray, size: int) -> np.ndarray:
    """Read a kernel at ``size`` x ``size`` points, each the middle of its cell, by weighing the nearest taps."""
    side = kernel.shape[2]
    weights = np.zeros((size, side))
    for i in range(size):
        place = min(max((i + 0.5) * side / size - 0.5, 0), side - 1)
        low = int(place)
        high = min(low + 1, side - 1)
        weights[i, low] += 1 - (place - low)
        weights[i, high] += place - low
    return np.einsum("iy,ocyx,jx->ocij", weights, kernel, weights)


def expected(layer: nn.Conv2d, x: Tensor, stride: float = 1, dilation: int = 1, size: int | None = None) -> Tensor:
    """Return what a convolution with padding K // 2 puts out at an option, by the words of the paper."""
    side = layer.kernel_size[0]
    kernel = layer.weight.detach().numpy()
    image = x.numpy() if stride >= 1 else zeros_behind(x.numpy())
    given = kernel if size is None else resampled(kernel, size)
    padding = dilation * (given.shape[2] // 2)
    out = slid(image, spread(given, dilation), None, max(1, int(stride)), padding, layer.groups)
    out *= (side / (size or side)) ** 2  # the output is scaled, and the bias comes after it
    if layer.bias is not None:
        out += layer.bias.detach().numpy()[:, None, None]
    return torch.from_numpy(out)


# Convolutions


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_another_stride_moves_the_same_kernel_by_other_steps(stride, groups):
    for kernel, own in ((1, 2), (3, 2), (5, 1)):
        layer, x = conv(kernel, stride=own, groups=groups), pixels()
        assert_close(configured(layer, stride=stride)(x), expected(layer, x, stride), rtol=0, atol=1e-12)


def test_another_stride_leaves_padding_and_dilation_as_they_were_trained():
    for padding, dilation in ((0, 1), (2, 1), (1, 2), (0, 2)):
        layer, x = conv(3, stride=2, padding=padding, dilation=dilation), pixels(9, 8)
        kernel, bias = spread(layer.weight.detach().numpy(), dilation), layer.bias.detach().numpy()
        for stride in (1, 3):
            plain = torch.from_numpy(slid(x.numpy(), kernel, bias, stride, padding, 1))
            assert_close(configured(layer, stride=stride)(x), plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_stride_a_half_is_a_convolution_of_the_image_with_a_zero_behind_each_pixel(kernel, groups):
    for bias, own in ((True, 2), (False, 1)):
        layer = conv(kernel, stride=own, groups=groups, bias=bias)
        for height, width in ((4, 5), (3, 4), (1, 1)):
            x = pixels(height, width)
            out = configured(layer, stride=0.5)(x)
            assert out.shape[2:] == (2 * height, 2 * width)
            assert_close(out, expected(layer, x, 0.5), rtol=0, atol=1e-12)


def test_a_kernel_of_one_pixel_at_stride_a_half_puts_zeros_between_what_it_puts_out():
    layer, x = conv(1, stride=2, bias=False), pixels()
    out = configured(layer, stride=0.5)(x)
    each = torch.einsum("oc,bchw->bohw", layer.weight[:, :, 0, 0], x)
    assert_close(out[:, :, ::2, ::2], each, rtol=0, atol=1e-12)
    assert not out[:, :, 1::2].any()
    assert not out[:, :, :, 1::2].any()


def test_stride_a_half_doubles_the_image_whatever_padding_was_trained():
    for padding in (0, 1, 2):
        layer, x = conv(3, stride=2, padding=padding), pixels()
        assert_close(configured(layer, stride=0.5)(x), expected(layer, x, 0.5), rtol=0, atol=1e-12)


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("dilation", [1, 2, 3, 4, 5])
def test_another_dilation_puts_zeros_between_the_taps_and_keeps_the_size(dilation, groups):
    for kernel in (1, 3, 5):
        layer, x = conv(kernel, groups=groups), pixels()
        out = configured(layer, dilation=dilation)(x)
        assert out.shape[2:] == x.shape[2:]
        assert_close(out, expected(layer, x, dilation=dilation), rtol=0, atol=1e-12)


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("size", [1, 3, 5, 7, 9])
def test_another_size_reads_the_kernel_at_other_points_and_scales_what_it_puts_out(size, groups):
    for kernel in (1, 3, 5):
        layer, x = conv(kernel, groups=groups), pixels()
        out = configured(layer, size=size)(x)
        assert out.shape[2:] == x.shape[2:]
        assert_close(out, expected(layer, x, size=size), rtol=0, atol=1e-12)


def test_on_an_even_image_a_kernel_of_another_size_puts_out_the_same_bias_included():
    layer = conv(3)
    x = torch.full((1, 6, 16, 16), 0.7, dtype=torch.float64)
    nn.init.constant_(layer.weight, 0.3)  # an even kernel stays even when it is resampled
    for size in (1, 5, 7, 9):
        out = configured(layer, size=size)(x)
        assert_close(out[:, :, 8, 8], layer(x)[:, :, 8, 8], rtol=0, atol=1e-12)


@pytest.mark.parametrize("stride", [0.5, 1, 2, 3])
def test_stride_dilation_and_size_change_together(stride):
    for groups in GROUPS.values():
        layer, x = conv(3, stride=2, groups=groups), pixels()
        for dilation, size in ((2, 5), (3, 1), (5, 3), (1, 7)):
            out = configured(layer, stride=stride, dilation=dilation, size=size)(x)
            assert_close(out, expected(layer, x, stride, dilation, size), rtol=0, atol=1e-12)


def test_the_layer_begins_as_it_was_trained_to_the_bit_and_returns_to_it():
    for kernel, stride, groups, padding in ((3, 2, 1, 1), (5, 1, 2, 0), (1, 2, 6, 0), (7, 2, 1, 3)):
        plain = conv(kernel, stride=stride, groups=groups, padding=padding).float()
        x = pixels(9, 8).float()
        layer = dynamic_layer(plain)
        assert torch.equal(layer(x), plain(x))
        layer.configure(Option(stride=3, dilation=2, size=3))
        assert not torch.equal(layer(x)[:, :, :1, :1], plain(x)[:, :, :1, :1])
        for back in (Option(), layer.trained, Option(stride=stride), Option(dilation=1, size=kernel)):
            layer.configure(back)
            assert layer.option == Option()
            assert torch.equal(layer(x), plain(x))


def test_parameters_are_shared_and_gradients_reach_them():
    plain = conv(3, stride=2)
    layer = dynamic_layer(plain)
    assert layer.weight is plain.weight
    assert layer.bias is plain.bias
    x = pixels()
    for option in (Option(stride=0.5), Option(stride=3), Option(dilation=4), Option(size=5), Option(0.5, 2, 7)):
        layer.configure(option)
        plain.zero_grad()
        out = layer(x).sum()
        out.backward()
        # What is linear in its parameters is the sum of each parameter times its gradient.
        total = (plain.weight.grad * plain.weight).sum() + (plain.bias.grad * plain.bias).sum()
        assert_close(total, out, rtol=1e-10, atol=1e-10)
        assert (plain.bias.grad > 0).all()
    with torch.no_grad():
        plain.weight.zero_(), plain.bias.zero_()
    assert not layer(x).any()


def test_a_layer_keeps_mode_and_names_of_parameters():
    plain = conv().eval()
    layer = dynamic_layer(plain)
    assert not layer.training
    assert list(layer.state_dict()) == list(plain.state_dict())
    assert dynamic_layer(layer) is layer
    assert isinstance(layer, nn.Conv2d)  # what looks for convolutions finds it


# Pooling


def pooled(x: np.ndarray, side: int, stride: int, padding: int, kind: str) -> np.ndarray:
    """Take the largest or the mean of each window, one window after the other."""
    height, width = x.shape[2:]
    rows, columns = (range(-padding, size + padding - side + 1, stride) for size in (height, width))
    out = np.zeros((*x.shape[:2], len(rows), len(columns)))
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            window = x[:, :, max(0, top) : min(height, top + side), max(0, left) : min(width, left + side)]
            if kind == "max":
                out[:, :, i, j] = window.max((2, 3))
            else:
                inside = window.shape[2] * window.shape[3]
                out[:, :, i, j] = window.sum((2, 3)) / (side**2 if kind == "mean with zeros" else inside)
    return out


POOLS = {
    "max": nn.MaxPool2d(3, 2, 1),
    "mean": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "mean with zeros": nn.AvgPool2d(3, 2, 1),
}


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_another_stride_moves_the_same_window_by_other_steps(kind, stride):
    for height, width in ((7, 6), (8, 9)):
        x = pixels(height, width)
        plain = torch.from_numpy(pooled(x.numpy(), 3, stride, 1, kind))
        assert_close(configured(POOLS[kind], stride=stride)(x), plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", POOLS)
def test_stride_a_half_repeats_each_pixel_and_moves_the_window_by_one(kind):
    x = pixels()
    twice = x.numpy().repeat(2, 2).repeat(2, 3)
    plain = torch.from_numpy(pooled(twice, 3, 1, 1, kind))
    out = configured(POOLS[kind], stride=0.5)(x)
    assert out.shape[2:] == (14, 12)
    assert_close(out, plain, rtol=0, atol=1e-12)


def test_an_average_of_an_even_image_stays_the_same_at_every_stride():
    x = torch.full((1, 2, 8, 8), 3.5)
    for stride in (0.5, 1, 2, 3, 4):
        out = configured(nn.AvgPool2d(2), stride=stride)(x)
        assert_close(out, torch.full_like(out, 3.5))


def test_other_settings_of_a_pooling_stay():
    x = pixels(7, 8)
    largest = configured(nn.MaxPool2d(2, 2, dilation=2, ceil_mode=True), stride=3)
    assert torch.equal(largest(x), nn.MaxPool2d(2, 3, dilation=2, ceil_mode=True)(x))
    mean = configured(nn.AvgPool2d(2, ceil_mode=True, divisor_override=3), stride=3)
    assert torch.equal(mean(x), nn.AvgPool2d(2, 3, ceil_mode=True, divisor_override=3)(x))


def test_a_pooling_begins_as_it_was_trained_and_returns_to_it():
    for plain in POOLS.values():
        x = pixels()
        layer = dynamic_layer(plain)
        assert torch.equal(layer(x), plain(x))
        layer.configure(Option(stride=1))
        assert layer(x).shape[2:] == (7, 6)
        layer.configure(Option(stride=2))
        assert layer.option == Option()
        assert torch.equal(layer(x), plain(x))


# Layers of one's own


class Blur(DynamicLayer):
    """Average each pixel with the one that is ``dilation`` pixels to its right."""

    trained = Option(dilation=1)

    def forward(self, x: Tensor) -> Tensor:
        return (x + x.roll(-(self.option.dilation or 1), -1)) / 2


def test_a_layer_of_ones_own_takes_part_by_its_option():
    layer, x = Blur(), pixels()
    assert dynamic_layer(layer) is layer
    assert torch.equal(layer(x), (x + x.roll(-1, -1)) / 2)
    layer.configure(Option(dilation=3))
    assert torch.equal(layer(x), (x + x.roll(-3, -1)) / 2)
    layer.configure(Option(dilation=1))
    assert layer.option == Option()
    with pytest.raises(ValueError, match=r"Blur has no stride that could change, and stride=2 was asked for"):
        layer.configure(Option(stride=2))
    with pytest.raises(TypeError, match="abstract"):
        DynamicLayer()


def test_an_option_is_written_by_its_values():
    assert [str(Option(stride=s)) for s in (0.5, 1, 2)] == ["½", "1", "2"]
    assert str(Option(size=7)) == "7"
    assert str(Option(0.5, 2, 5)) == "stride ½ dilation 2 size 5"
    assert Option(stride=2) == Option(stride=2.0)


# Errors


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        (nn.Linear(2, 2), r"Linear is no convolution or pooling.*`plainvision\.layers\.DynamicLayer`"),
        (nn.LPPool2d(2, 2), "LPPool2d is no convolution or pooling"),
        (nn.Conv2d(2, 2, (1, 7)), r"a convolution with kernel_size=\(1, 7\) has no exact counterpart.*square kernel"),
        (nn.Conv2d(2, 2, 3, stride=(2, 1)), r"stride=\(2, 1\) has no exact counterpart"),
        (nn.Conv2d(2, 2, 3, dilation=(2, 1)), r"dilation=\(2, 1\) has no exact counterpart"),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), r"reflect has no exact counterpart.*zeros as padding"),
        (nn.Conv2d(2, 2, 3, padding="same"), r"padding='same'.*has no exact counterpart"),
        (nn.MaxPool2d(2, return_indices=True), r"returns where its maxima were, which another stride moves"),
        (nn.MaxPool2d(2, (2, 1)), r"no average or max pooling with one stride"),
    ],
)
def test_a_layer_whose_meaning_at_other_options_is_unknown_is_refused(layer, match):
    with pytest.raises(ValueError, match=match):
        dynamic_layer(layer)


def test_a_convolution_that_computes_more_than_torchs_own_is_refused():
    class Scaled(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    with pytest.raises(ValueError, match=r"Scaled computes more than torch's own convolution.*Name another layer"):
        dynamic_layer(Scaled(2, 2, 3))
    with pytest.raises(ValueError, match="DynamicConv2d computes more"):
        DynamicConv2d(DynamicConv2d(conv()))


@pytest.mark.parametrize("option", [{"stride": 0}, {"stride": 1.5}, {"stride": 0.25}, {"dilation": 0.5}, {"size": 0}])
def test_a_value_that_no_layer_can_take_is_refused(option):
    layer = dynamic_layer(conv())
    layer.configure(Option(stride=2))
    ((name, value),) = option.items()
    with pytest.raises(ValueError, match=rf"{name}={value} is no option: a stride is 1/2 or a whole number from 1"):
        layer.configure(Option(**option))
    assert layer.option == Option(stride=2)  # it stays as it was


@pytest.mark.parametrize("name", ["dilation", "size"])
def test_a_pooling_has_neither_dilation_nor_size_that_could_change(name):
    layer = DynamicPool2d(nn.MaxPool2d(2))
    with pytest.raises(ValueError, match=rf"DynamicPool2d has no {name} that could change, and {name}=3 was asked"):
        layer.configure(Option(**{name: 3}))
