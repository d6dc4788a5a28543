import pytest
import torch
import torch.nn.functional as F
from networks_for_tests import trained
from torch import nn
from torch.testing import assert_close

import plainvision as pv
from plainvision.layers import Option
from plainvision.models.resnet_cifar import BasicBlock, PadShortcut


def small(**options):
    return pv.create_model("resnet20_cifar", **{"width": 1 / 2, "depths": (1, 2, 1), "num_classes": 5, **options})


def checkpoint_shapes(blocks, counters):
    """Return the keys and shapes of a published checkpoint for 10 classes, which has no counters of batch norms."""

    def norm(name, channels):
        shapes = {f"{name}.{key}": (channels,) for key in ("weight", "bias", "running_mean", "running_var")}
        return {**shapes, **({f"{name}.num_batches_tracked": ()} if counters else {})}

    shapes = {"conv1.weight": (16, 3, 3, 3), **norm("bn1", 16), "linear.weight": (10, 64), "linear.bias": (10,)}
    before = 16
    for stage, after in ((1, 16), (2, 32), (3, 64)):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            shapes |= {f"{name}.conv1.weight": (after, before, 3, 3), **norm(f"{name}.bn1", after)}
            shapes |= {f"{name}.conv2.weight": (after, after, 3, 3), **norm(f"{name}.bn2", after)}
            before = after
    return shapes


def shortcut_by_hand(x, after, stride):
    """Return what the shortcut puts out, pixel by pixel."""
    _, before, height, width = x.shape
    if stride == 0.5:
        kernel = torch.eye(before)[:, :, None, None]
        kept = F.conv_transpose2d(x, kernel, stride=2, output_padding=1)
    else:
        rows, columns = (torch.arange(0, side, stride) for side in (height, width))
        kept = x.index_select(2, rows).index_select(3, columns)
    whole = torch.zeros(len(x), after, *kept.shape[2:])
    first = (after - before) // 2
    whole[:, first : first + before] = kept
    return whole


@pytest.mark.parametrize(
    ("name", "blocks", "parameters"),
    # Table 6 of the paper prints 0.27 M and 0.46 M.
    [("resnet20_cifar", 3, 269_722), ("resnet32_cifar", 5, 464_154)],
)
def test_keys_shapes_and_parameters_are_those_of_published_checkpoints(name, blocks, parameters):
    model = pv.create_model(name, num_classes=10)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == checkpoint_shapes(blocks, True)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert pv.card(name).params == parameters


def test_a_checkpoint_without_counters_loads_strictly():
    state = {key: torch.rand(shape) for key, shape in checkpoint_shapes(3, False).items()}
    model = pv.load_checkpoint(pv.create_model("resnet20_cifar", num_classes=10), state)
    loaded = model.state_dict()
    for key, value in state.items():
        assert_close(loaded[key], value, rtol=0, atol=0)
    assert int(loaded["bn1.num_batches_tracked"]) == 0
    pv.create_model("resnet20_cifar", num_classes=10).load_state_dict(state)


def test_a_checkpoint_of_ten_classes_does_not_fit_a_thousand():
    state = {key: torch.rand(shape) for key, shape in checkpoint_shapes(3, False).items()}
    with pytest.raises(ValueError, match=r"2 wrong shape: linear\.weight is \(10, 64\).*num_classes"):
        pv.load_checkpoint(pv.create_model("resnet20_cifar"), state)
    with pytest.raises(ValueError, match=r"missing: layer1\.3\..*another network"):
        pv.load_checkpoint(pv.create_model("resnet32_cifar", num_classes=10), state)


@pytest.mark.parametrize(
    ("name", "layers", "parameters_m", "accuracy"),
    [
        ("resnet20_cifar", 20, 0.27, "91.25 %"),
        ("resnet32_cifar", 32, 0.46, "92.49 %"),
        ("resnet44_cifar", 44, 0.66, "92.83 %"),
        ("resnet56_cifar", 56, 0.85, "93.03 %"),
        ("resnet110_cifar", 110, 1.7, "93.57 %"),
    ],
)
def test_the_card_equals_the_paper(name, layers, parameters_m, accuracy):
    card = pv.card(name)
    assert card.params / 1e6 == pytest.approx(parameters_m, abs=0.05 if parameters_m > 1 else 0.005)
    assert card.note.startswith(f"{accuracy} on CIFAR-10")
    assert (card.top1, card.image_size) == (None, 32)
    with torch.device("meta"):
        model = pv.create_model(name)
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules()) == layers


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (6, 5), (1, 2)])
@pytest.mark.parametrize("stride", [0.5, 1, 2, 3, 4])
@pytest.mark.parametrize("after", [4, 8, 9])
def test_the_shortcut_keeps_pixels_and_adds_zeros_at_any_stride(size, stride, after):
    x = torch.randn(2, 4, *size)
    shortcut = PadShortcut(4, after, 2)
    shortcut.configure(Option(stride=stride))
    found = shortcut(x)
    assert_close(found, shortcut_by_hand(x, after, stride), rtol=0, atol=0)
    if stride >= 1:
        assert found.shape[2:] == F.conv2d(x, torch.zeros(1, 4, 3, 3), stride=stride, padding=1).shape[2:]


def test_the_shortcut_has_no_parameters_and_is_itself_again_at_its_own_stride():
    x, shortcut = torch.randn(1, 4, 5, 6), PadShortcut(4, 8, 2)
    assert shortcut.state_dict() == {}
    assert shortcut.trained == Option(stride=2)
    expected = shortcut(x)
    shortcut.configure(Option(stride=4))
    assert shortcut(x).shape == (1, 8, 2, 2)
    shortcut.configure(Option(stride=2))
    assert shortcut.option == Option()
    assert_close(shortcut(x), expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"PadShortcut has no dilation.*dilation=2"):
        shortcut.configure(Option(dilation=2))


def test_the_shortcut_learns_through_what_it_keeps():
    shortcut = PadShortcut(2, 6, 2)
    for stride, kept in ((0.5, 15), (1, 15), (2, 6), (3, 2)):
        x = torch.ones(1, 2, 3, 5, requires_grad=True)
        shortcut.configure(Option(stride=stride))
        shortcut(x).sum().backward()
        assert int(x.grad.sum()) == 2 * kept


def test_a_shortcut_that_changes_no_shape_is_an_identity():
    shortcuts = {name: module.shortcut for name, module in small().named_modules() if isinstance(module, BasicBlock)}
    assert {name: type(shortcut) for name, shortcut in shortcuts.items()} == {
        "layer1.0": nn.Identity,
        "layer2.0": PadShortcut,
        "layer2.1": nn.Identity,
        "layer3.0": PadShortcut,
    }


@pytest.mark.parametrize("size", [(33, 47), (5, 4), (1, 3)])
def test_odd_sizes_round_up_at_each_halving(size):
    features = small().eval().forward_intermediates(torch.randn(1, 3, *size), intermediates_only=True)
    for output, reduction in zip(features, (1, 1, 2, 4), strict=True):
        assert output.shape[2:] == tuple(-(-side // reduction) for side in size)


def test_every_batch_norm_folds(images):
    model = trained(small())
    fused = pv.fuse(model)
    expected = model(images)
    assert_close(fused(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())


def test_the_forward_pass_can_be_traced(images):
    model = trained(small())
    assert_close(torch.fx.symbolic_trace(model)(images), model(images), rtol=0, atol=0)


def test_attention_pooling_takes_the_place_of_its_average(images):
    changed = pv.surgery.attention_pooling(small())
    assert changed(images).shape == (2, 5)
    assert pv.attention_maps(changed, images).shape == (2, 16, 24)


def test_stochastic_depth_rises_to_its_rate_in_the_last_block():
    model = small(drop_path_rate=0.6)
    rates = [getattr(block.drop_path, "drop_prob", 0) for block in model.modules() if isinstance(block, BasicBlock)]
    assert rates == pytest.approx([0, 0.2, 0.4, 0.6])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": (2, 0, 1)}, r"depths=\(2, 0, 1\).*stage without blocks"),
        ({"width": 0}, r"width=0 leaves no channels.*above zero"),
        ({"global_pool": "sum"}, r"unknown global_pool 'sum'.*'avg', 'max'"),
        ({"global_pool": ""}, r"a classifier needs pooled features.*num_classes=0"),
    ],
)
def test_bad_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_a_shortcut_drops_no_channels():
    with pytest.raises(ValueError, match=r"from 8 to 4 channels would drop some.*at least 8"):
        PadShortcut(8, 4, 2)
