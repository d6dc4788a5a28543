"""Multiply-adds against their closed forms."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plainvision.inspection.counting import count_macs, count_parameters

DEVICES = pytest.mark.parametrize("device", ["cpu", "meta"])


class Attention(nn.Module):
    """Self-attention over pixels, without weights."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)[:, None]
        return F.scaled_dot_product_attention(tokens, tokens, tokens)


@DEVICES
@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (lambda: nn.Conv2d(6, 8, 3, padding=1), 10 * 12 * 8 * 6 * 9),
        (lambda: nn.Conv2d(6, 8, 3, stride=2, padding=1), 5 * 6 * 8 * 6 * 9),
        (lambda: nn.Conv2d(6, 8, 3, padding=2, dilation=2, groups=2), 10 * 12 * 8 * 3 * 9),
        (lambda: nn.Conv2d(6, 6, 7, padding=3, groups=6), 10 * 12 * 6 * 49),
        (lambda: nn.ConvTranspose2d(6, 8, 4, stride=2, padding=1, groups=2), 10 * 12 * 6 * 4 * 16),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(720, 5)), 720 * 5),
        (lambda: nn.Linear(12, 5), 6 * 10 * 12 * 5),
        (Attention, 2 * 120 * 120 * 6),
    ],
    ids=["conv", "strided", "grouped", "depthwise", "transposed", "linear", "linear over rows", "attention"],
)
def test_a_layer_costs_its_closed_form(layer, macs, device):
    with torch.device(device):
        # One weight more, which no layer uses, so that the layers without any know their device.
        model = nn.Sequential(layer())
        model.register_buffer("where", torch.zeros(1))
    assert count_macs(model, (10, 12), channels=6) == macs


@DEVICES
def test_the_fast_path_of_torchs_attention_is_counted_too(device):
    with torch.device(device):
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.Sequential(nn.Flatten(2), layer)  # 6 channels become 6 tokens of 4x4
    tokens, width = 6, 16
    expected = 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * 32
    assert count_macs(model, 4, channels=6) == expected


@pytest.mark.parametrize(
    ("name", "gmacs"), [("resnet18", 1.82), ("mobilenetv2_100", 0.3), ("vit_base_patch16_224", 17.56)]
)
def test_known_networks_cost_what_is_published(name, gmacs):
    with torch.device("meta"):
        model = timm.create_model(name)
    assert count_macs(model) / 1e9 == pytest.approx(gmacs, rel=0.005)


def test_counting_prints_nothing_and_leaves_every_mode_as_found(capfd):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Dropout(), nn.BatchNorm2d(4)))
    model.train()
    model[1].eval()  # a frozen part of a network in training
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_macs(model, 4)
    assert [module.training for module in model.modules()] == [True, True, False, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert capfd.readouterr() == ("", "")


class HandedOn(nn.Module):
    """Hands a learned token to a layer, as pooling by attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 5))
        self.layer = nn.Linear(5, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.token)


def test_a_learned_token_that_is_handed_to_a_layer_is_counted_and_still_learns():
    model = HandedOn()
    model.layer.bias.requires_grad_(False)
    assert count_macs(model, 8) == 5 * 7
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, True, False]


def test_a_network_in_half_precision_counts_the_same():
    model = nn.Conv2d(3, 4, 1)
    assert count_macs(model.half(), 8) == 8 * 8 * 3 * 4


def test_element_wise_work_and_pooling_are_not_counted():
    assert count_macs(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(3), nn.Softmax(1)), 8) == 0


def test_a_shared_parameter_counts_once():
    layer = nn.Linear(3, 5)
    assert count_parameters(nn.Sequential(layer, nn.BatchNorm1d(5), layer)) == 3 * 5 + 5 + 10


@pytest.mark.parametrize(("size", "channels"), [(0, 3), ((8, -1), 3), (8, 0)])
def test_an_image_of_no_size_is_refused(size, channels):
    with pytest.raises(ValueError, match=r"there is no image of .* Give an image_size and channels above zero"):
        count_macs(nn.ReLU(), size, channels)


@DEVICES
def test_the_attention_of_a_vision_transformer_counts_on_every_processor(device):
    with torch.device(device):
        model = timm.create_model("vit_tiny_patch16_224", num_classes=4)
    tokens, width = 14 * 14 + 1, 192
    block = 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * 4 * width
    assert count_macs(model) == 12 * block + 14 * 14 * width * 3 * 16 * 16 + 4 * width
