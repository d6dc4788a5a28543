import copy
import functools
import pickle

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from networks_for_tests import trained
from surgery.spatial_ops_for_tests import CLASSES, SIZE, narrow, operations, replaced, vit
from torch import nn
from torch.testing import assert_close

import plainvision as pv
from plainvision.bench import count_macs, count_parameters
from plainvision.inspection.tracing import replace_layer
from plainvision.surgery import SpatialOpReport
from plainvision.surgery.spatial_layers import Subsample
from plainvision.training import Recipe
from plainvision.training.techniques import TECHNIQUES, NoEffectWarning, SpatialOps

# The kind of their spatial operations, and how many can be replaced, which is all but those that change the width.
NETWORKS = {
    "resnet50": (lambda: narrow("resnet50", channels=(8, 8, 16, 16)), "conv", 16),
    "resnet18": (lambda: narrow("resnet18", channels=(64, 8, 16, 16)), "conv", 14),
    "mobilenetv2": (lambda: narrow("mobilenetv2_035"), "depthwise", 17),
    "mobilenetv3, TensorFlow's padding": (lambda: narrow("tf_mobilenetv3_small_minimal_100"), "depthwise", 11),
    "convnext": (lambda: narrow("test_convnext"), "depthwise", 9),
    "regnet, groups": (lambda: narrow("regnetx_002"), "conv", 13),
}
MORE = {
    "a deep stem": (lambda: narrow("resnet26d", channels=(8, 8, 16, 16)), "conv", 8),
    "mobilenetv3": (lambda: narrow("mobilenetv3_small_050"), "depthwise", 11),
    "efficientnet": (lambda: narrow("test_efficientnet"), "depthwise", 2),
    "standardised weights": (lambda: narrow("nf_resnet26"), "conv", 8),
    "a stem of branches": (lambda: narrow("repvgg_a0"), "conv", 18),
    "resnet18 of torchvision": (lambda: torchvision.models.resnet18(num_classes=CLASSES), "conv", 13),
    "mobilenetv2 of torchvision": (
        lambda: torchvision.models.mobilenet_v2(num_classes=CLASSES, width_mult=0.25),
        "depthwise",
        17,
    ),
}


def new(name: str) -> nn.Module:
    return trained((NETWORKS | MORE)[name][0]())


@functools.cache
def pair(name: str, op: str) -> tuple[nn.Module, nn.Module]:
    """Return a network, and with another operation; nobody changes them, so that they are built once."""
    model = new(name)
    return model, replaced(model, op)


@pytest.fixture(params=NETWORKS, ids=list(NETWORKS))
def name(request):
    return request.param


@pytest.fixture(params=["max", "avg", "identity", "depthwise", "conv"])
def op(request):
    return request.param


@pytest.mark.parametrize("name", [*NETWORKS, *MORE])
def test_the_spatial_operations_are_those_of_the_blocks(name):
    _, kind, count = (NETWORKS | MORE)[name]
    model, changed = pair(name, "identity")
    assert tuple(operations(changed)) == changed.report.changed
    assert len(changed.report.changed) == count
    originals = [operation.original for operation in operations(changed).values()]
    assert all(layer.kernel_size != (1, 1) for layer in originals)
    assert {layer.groups == layer.in_channels for layer in originals} == {kind == "depthwise"}
    assert changed(torch.randn(1, 3, 65, 97)).shape == (1, CLASSES)
    assert torch.equal(replaced(changed, kind)(torch.ones(1, 3, *SIZE)), model(torch.ones(1, 3, *SIZE)))


def test_features_keep_their_size_on_every_image(name, op):
    model, changed = pair(name, op)
    for size in ((64, 96), (65, 97), (71, 62)):
        image = torch.randn(1, 3, *size)
        names = list(operations(changed))
        assert output_sizes(changed, names, image) == output_sizes(model, names, image)
        assert changed(image).shape == (1, CLASSES)


def output_sizes(model: nn.Module, names: list[str], image: torch.Tensor) -> dict[str, torch.Size]:
    sizes = {}

    def note(name: str, output: torch.Tensor) -> None:
        sizes[name] = output.shape

    handles = [
        model.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name in names
    ]
    with torch.no_grad():
        model(image)
    for handle in handles:
        handle.remove()
    return sizes


@pytest.mark.parametrize("op", ["max", "conv"])
def test_all_other_weights_are_kept_and_the_original_is_untouched(name, op, images):
    model = new(name)
    before, expected = copy.deepcopy(model.state_dict()), model(images)
    changed = replaced(model, op)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(model(images), expected)
    for module in (*model.modules(), *changed.modules()):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    state, gone = changed.state_dict(), tuple(f"{layer}." for layer in changed.report.changed)
    kept = {key for key in before if not key.startswith(gone)}
    assert kept == {key for key in state if not key.startswith(gone)}
    assert all(torch.equal(state[key], before[key]) for key in kept)


def test_the_kind_that_it_was_built_with_computes_the_same_to_the_last_bit(name, op, images):
    _, kind, _ = NETWORKS[name]
    model, changed = pair(name, op)
    again = replaced(changed, kind)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(again(images), model(images))
    assert not operations(again)
    assert again.report.changed == changed.report.changed
    with torch.no_grad():
        for weight in again.parameters():  # which it shares with nobody
            weight.zero_()
    assert torch.equal(replaced(changed, kind)(images), model(images))


def test_every_weight_learns(name, op, images):
    changed = copy.deepcopy(pair(name, op)[1]).train()
    changed(images).square().sum().backward()
    assert [key for key, weight in changed.named_parameters() if weight.grad is None] == []
    for key, operation in operations(changed).items():
        assert all(weight.grad.abs().max() > 0 for weight in operation.parameters()), key


def test_the_report_counts(name, op):
    _, kind, count = NETWORKS[name]
    model, changed = pair(name, op)
    report = changed.report
    assert isinstance(report, SpatialOpReport)
    assert (report.parameters_before, report.parameters_after) == (count_parameters(model), count_parameters(changed))
    assert (report.macs_before, report.macs_after) == (count_macs(model, SIZE), count_macs(changed, SIZE))
    assert report.changed == tuple(operations(changed))
    assert len(report.changed) == (0 if op == kind else count)
    assert f"{report.parameters_before:,} parameters -> {report.parameters_after:,}" in str(report)


def test_a_report_can_be_read():
    before, after = (count_parameters(network) for network in pair("resnet18", "max"))
    changed = pair("resnet18", "max")[1]
    first, *others = str(changed.report).splitlines()
    assert first.startswith("14 of 16 spatial operations became 'max' (layer1.0.conv1, layer1.0.conv2, ..., layer4.1.c")
    assert first.endswith(f"{changed.report.macs_after / 1e6:.1f} M at 64 x 96")
    assert f"; {before:,} parameters -> {after:,}, " in first
    assert others[0] == "as it was: layer2.0.conv1, it makes 8 channels of 64, and 'max' gives as many as it is given"
    assert len(others) == 2


@pytest.mark.parametrize("name", ["resnet50", "mobilenetv2", "regnet, groups"])
def test_it_fuses(name, op, images):
    changed = trained(copy.deepcopy(pair(name, op)[1]))
    fused = pv.fuse(changed, image_size=SIZE, images=2)
    assert fused.report.layers_after < fused.report.layers_before
    assert_close(fused(images), changed(images), rtol=1e-3, atol=1e-4)
    # Behind a convolution a batch norm folds, behind a pooling there is nothing that it folds into.
    left = sum(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert left == (0 if op in ("conv", "depthwise") else len(changed.report.changed))


def test_pooling_pools_what_it_should():
    x = torch.randn(1, 8, 7, 9)
    for op, stride in [("max", 1), ("max", 2), ("avg", 1), ("avg", 2), ("identity", 1), ("identity", 2)]:
        layer = _one(nn.Conv2d(8, 8, 3, stride, 1), op)
        expected = {
            "max": F.max_pool2d(x, 3, stride, 1),
            "avg": F.avg_pool2d(x, 3, stride, 1, count_include_pad=False),
            "identity": x[..., ::stride, ::stride],
        }
        assert_close(layer(x), expected[op], rtol=0, atol=0)


def _one(conv: nn.Conv2d, op: str) -> nn.Module:
    """Return what ``op`` is in the place of ``conv``."""
    channels = conv.in_channels
    model = nn.Sequential(nn.Conv2d(3, channels, 1), conv, nn.Conv2d(conv.out_channels, 4, 1), _Head())
    return replaced(model, op, "1")[1]


class _Head(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


@pytest.mark.parametrize(
    ("conv", "refused"),
    [
        (nn.Conv2d(8, 8, (1, 7), padding=(0, 3)), ()),
        (nn.Conv2d(8, 8, 3, padding="same", bias=False), ()),
        (nn.Conv2d(8, 8, 3, padding="valid"), ("identity",)),
        (nn.Conv2d(8, 8, 2, stride=2), ("identity",)),
        (nn.Conv2d(8, 8, 4, stride=2, padding=1), ("identity",)),
        (nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4), ("avg",)),
        (nn.Conv2d(8, 8, 5, stride=(2, 1), padding=2, padding_mode="reflect"), ()),
        (timm.layers.Conv2dSame(8, 8, 3, stride=2), ()),
        (timm.layers.Conv2dSame(8, 8, 4, stride=3), ()),
        (timm.layers.StdConv2dSame(8, 8, 3, stride=2, padding="same"), ()),
    ],
    ids=str,
)
def test_every_geometry_gives_its_size_or_is_refused(conv, refused, op):
    if op in refused:
        with pytest.raises(ValueError, match=r"it is dilated|it does not give one pixel for each step"):
            _one(conv, op)
        return
    layer = _one(conv, op)
    for size in ((17, 23), (18, 24), (16, 21)):
        x = torch.randn(1, 8, *size)
        assert layer(x).shape == conv(x).shape


def test_an_average_counts_pixels_of_the_image_only():
    ones = torch.ones(1, 8, 10, 11)
    for conv in (nn.Conv2d(8, 8, 3, 2, 1), timm.layers.Conv2dSame(8, 8, 3, stride=2)):
        assert_close(_one(conv, "avg")(ones), torch.ones(1, 8, 5, 6))


def test_new_convolutions_keep_the_variance():
    x = torch.randn(4, 32, 32, 32)
    for op in ("depthwise", "conv"):
        conv = nn.Conv2d(32, 32, 3, padding=1) if op == "depthwise" else nn.Conv2d(32, 32, 3, padding=1, groups=32)
        assert 1.3 < _one(conv, op)(x).var() < 2.7  # He's keep that of a ReLU's input, which is twice as large


# where


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("layer2.0.conv2", ["layer2.0.conv2"]),
        ("layer2", ["layer2.0.conv2", "layer2.1.conv2"]),
        ("layer[12].0*", ["layer1.0.conv2", "layer2.0.conv2"]),
        ("*.1.conv2", [f"layer{stage}.1.conv2" for stage in (1, 2, 3, 4)]),
        (0, ["layer1.0.conv2"]),
        (-1, ["layer4.1.conv2"]),
        ((3, 0, "layer4"), ["layer1.0.conv2", "layer2.1.conv2", "layer4.0.conv2", "layer4.1.conv2"]),
        ("conv", [f"layer{stage}.{block}.conv2" for stage in (1, 2, 3, 4) for block in (0, 1)]),
    ],
)
def test_where_picks(where, expected):
    changed = replaced(new("a deep stem"), "max", where)
    assert list(changed.report.changed) == list(operations(changed)) == expected
    assert changed.report.chosen == len(expected)


def test_operations_mix_and_a_second_surgery_takes_what_is_there(images):
    model = new("a deep stem")
    mixed = replaced(replaced(replaced(model, "max", "layer1"), "depthwise", "layer2"), "avg", ("layer2.0", "layer3"))
    assert [operation.op for operation in operations(mixed).values()] == ["max"] * 2 + ["avg", "depthwise"] + [
        "avg"
    ] * 2
    assert mixed.report.changed == ("layer2.0.conv2", "layer3.0.conv2", "layer3.1.conv2")
    assert replaced(mixed, "avg", "layer3").report.changed == ()
    assert torch.equal(replaced(mixed, "conv")(images), model(images))


def test_weights_go_into_another_one_made_the_same_way(images):
    model = new("resnet50")
    changed = trained(replaced(model, "depthwise", "layer3"), seed=1)
    again = replaced(model, "depthwise", "layer3")
    again.load_state_dict(changed.state_dict())
    assert_close(again(images), changed(images), rtol=0, atol=0)


def test_what_was_replaced_is_no_part_but_is_copied_along(images):
    model = new("resnet50")
    changed = copy.deepcopy(replaced(model, "identity"))
    assert not any(isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) for layer in changed.modules())
    assert torch.equal(replaced(pickle.loads(pickle.dumps(changed)), "conv")(images), model(images))
    double = replaced(changed.double(), "conv")
    assert {weight.dtype for weight in double.parameters()} == {torch.float64}


def test_modes_and_frozen_weights_stay():
    model = new("resnet18").train()
    model.layer4.eval()
    model.requires_grad_(False)
    changed = replaced(model, "depthwise")
    for name, operation in operations(changed).items():
        assert {module.training for module in operation.modules()} == {not name.startswith("layer4")}
    again = replaced(changed, "conv")
    assert not any(weight.requires_grad for weight in again.parameters())
    assert {n: m.training for n, m in again.named_modules()} == {n: m.training for n, m in model.named_modules()}


def test_a_network_without_values_can_be_changed():
    with torch.device("meta"):
        model = timm.create_model("resnet50")
    changed = pv.surgery.spatial_op(model, "max")
    assert all(weight.is_meta for weight in changed.parameters())
    # The paper's R50-max has 14.2 M parameters and 2.2 G multiply-adds; it drops the norms behind its pooling.
    norms = sum(2 * changed.get_submodule(name.replace("conv2", "bn2")).num_features for name in changed.report.changed)
    assert round((changed.report.parameters_after - norms) / 1e6, 1) == 14.2
    assert round(changed.report.macs_after / 1e9, 1) == 2.2
    assert all(weight.is_meta for weight in pv.surgery.spatial_op(model, "depthwise").parameters())


# the technique


def test_a_technique_builds_it():
    technique = SpatialOps("max", where="layer2", image_size=64)
    model = new("resnet50")
    assert list(operations(technique.build(model))) == [f"layer2.{block}.conv2" for block in range(4)]
    plain = technique.to_dict()
    assert plain == {
        "technique": "SpatialOps",
        "op": "max",
        "where": "layer2",
        "drop_norm_act": False,
        "image_size": 64,
    }
    assert TECHNIQUES["SpatialOps"] is SpatialOps
    recipe = Recipe(name="a", model="resnet50", techniques=(SpatialOps("avg", where=(0, "layer2")),))
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_a_technique_that_changes_nothing_says_so():
    with pytest.warns(NoEffectWarning, match=r"changed nothing in ResNet: these blocks have 'conv' already"):
        SpatialOps("conv", image_size=64).build(new("resnet50"))


# what it refuses


@pytest.mark.parametrize(
    ("op", "where", "message"),
    [
        ("maxx", None, r"unknown spatial operation 'maxx'\. Did you mean 'max'\?"),
        (
            "shift",
            None,
            r"unknown spatial operation 'shift'\. There are max, avg, identity, depthwise, conv, attention",
        ),
        (
            "max",
            "layer9",
            r"where='layer9' picks none of the 16 spatial operations of ResNet.*There are layer1\.0\.conv1, ",
        ),
        ("max", "layer1.0.conv3", r"Did you mean 'layer1\.0\.conv\d'\?"),
        ("max", "conv1", r"where='conv1' picks none .*stems and 1x1 convolutions are none"),
        ("max", 16, r"where=16 picks none .*numbers from 0 to 15, or a kind of them: conv\."),
        ("max", "depthwise", r"where='depthwise' picks none .*a kind of them: conv\."),
        ("max", (), r"where is empty and picks nothing"),
        ("max", ["layer1", "layer7"], r"where='layer7' picks none"),
        (
            "max",
            "layer2.0",
            r"cannot make 'max' of layer2\.0\.conv1 of ResNet: it makes 8 channels of 64.*Leave it out",
        ),
        ("avg", "layer[24].0.conv1", r"it makes 8 channels of 64, .*The same goes for layer4\.0\.conv1\."),
        (
            "attention",
            None,
            r"cannot make 'attention' of layer1\.0\.conv1 of ResNet: attention only goes back to where",
        ),
    ],
)
def test_what_it_cannot_do_is_said(op, where, message):
    model = trained(narrow("resnet18", channels=(64, 8, 8, 16)))
    with pytest.raises(ValueError, match=message):
        replaced(model, op, where)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(
    ("conv", "op", "message"),
    [
        (
            nn.Conv2d(8, 8, 2, 2),
            "identity",
            r"kernel \(2, 2\) and padding \(0, 0\) it does not give one pixel for each",
        ),
        (nn.Conv2d(8, 8, 3, padding=2, dilation=2), "avg", "it is dilated, and an average has no dilation"),
        (nn.Conv2d(8, 8, 3, padding=3), "max", r"it is padded by \(3, 3\), more than half of its kernel \(3, 3\)"),
        (nn.Conv2d(8, 8, 4, padding="same"), "avg", "it is padded by more on one side than on the other"),
    ],
    ids=str,
)
def test_a_geometry_that_pooling_cannot_have_is_refused(conv, op, message):
    with pytest.raises(ValueError, match=message):
        _one(conv, op)


@pytest.mark.parametrize("build", [lambda: torchvision.models.vgg11(), lambda: pv.create_model("alexnet")])
def test_a_network_without_blocks_has_none(build):
    with torch.device("meta"):
        model = build()
    with pytest.raises(
        ValueError, match=rf"no spatial operation in {type(model).__name__}: .*Give a network of blocks"
    ):
        pv.surgery.spatial_op(model, "max")


def test_an_image_that_the_network_does_not_take_is_named():
    with pytest.raises(
        ValueError, match=r"does not take an image of 3x224x224: .*Give the size that it takes with image"
    ):
        pv.surgery.spatial_op(vit(), "max")


def test_a_layer_that_serves_several_places_is_replaced_in_all():
    shared = nn.Conv2d(8, 8, 3, 2, 1)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), shared, nn.Conv2d(8, 8, 1), _Head())
    replace_layer(model, "2", nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 1)))
    assert isinstance(replaced(model, "identity")[1].layer, Subsample)
