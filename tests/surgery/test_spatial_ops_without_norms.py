"""Pooling without the norm and the activation behind it, as the paper's networks have it."""

import pytest
import timm
import torch
import torchvision
from networks_for_tests import trained
from surgery.spatial_ops_for_tests import SIZE, narrow
from torch import nn
from torch.testing import assert_close

import plainvision as pv
from plainvision.models.resnet_pf import ResNetPF
from plainvision.surgery.layers_behind import Dropped
from plainvision.training.techniques import SpatialOps


def dropped(model: nn.Module, op: str = "max", where=None, **options) -> nn.Module:
    return pv.surgery.spatial_op(model, op, where, drop_norm_act=True, image_size=SIZE, **options)


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(2, 3, *SIZE)


NARROW = {
    "resnet26": {"channels": [8, 16, 16, 32]},
    "mobilenetv2_035": {},
    "convnext_atto": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]},
}


def test_a_resnet_becomes_the_paper_s_network(images):
    """R50-max, a quarter as wide and with a bottleneck a stage: the same weights give the same logits."""
    theirs = timm.models.ResNet(
        timm.models.resnet.Bottleneck, (1, 1, 1, 1), channels=(16, 32, 64, 128), stem_width=16, num_classes=5
    )
    theirs.conv1, theirs.bn1 = nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16)
    first = theirs.layer1[0]
    first.conv1 = nn.Conv2d(16, 16, 1, bias=False)
    first.downsample = nn.Sequential(nn.Conv2d(16, 64, 1, bias=False), nn.BatchNorm2d(64))
    pooled = trained(dropped(theirs))
    assert pooled.report.dropped == tuple(f"layer{n}.0.{name}" for n in (1, 2, 3, 4) for name in ("bn2", "act2"))
    ours = ResNetPF(depths=(1, 1, 1, 1), width=0.25, num_classes=5)
    assert pooled.report.parameters_after == sum(one.numel() for one in ours.parameters())
    renamed = {
        key.replace("layer1", "stages.0").replace("layer2", "stages.1").replace("layer3", "stages.2")
        .replace("layer4", "stages.3").replace("0.conv1", "0.reduce.0").replace("0.bn1", "0.reduce.1")
        .replace("conv3", "expand.0").replace("bn3", "expand.1").replace("downsample", "shortcut")
        .replace("conv1", "stem.conv.0").replace("bn1", "stem.conv.1").replace("fc", "head.linear"): value
        for key, value in pooled.state_dict().items()
    }  # fmt: skip
    ours.load_state_dict(renamed)
    assert_close(ours.eval()(images), pooled.eval()(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NARROW)
def test_it_comes_back_to_the_last_bit(name, images):
    model = trained(narrow(name, **NARROW[name])).eval()
    kind = "conv" if name == "resnet26" else "depthwise"
    without = dropped(model, where=kind)
    assert any(isinstance(layer, Dropped) for layer in without.modules())
    again = pv.surgery.spatial_op(without, kind, kind, image_size=SIZE)
    assert_close(again(images), model(images), rtol=0, atol=0)
    assert again.state_dict().keys() == model.state_dict().keys()
    kept = pv.surgery.spatial_op(without, "max", kind, image_size=SIZE)
    plain = pv.surgery.spatial_op(model, "max", kind, image_size=SIZE)
    assert_close(kept(images), plain(images), rtol=0, atol=0)
    assert kept.report.changed == without.report.changed


def test_another_pooling_takes_what_is_dropped_as_it_is(images):
    model = trained(narrow("resnet26", **NARROW["resnet26"])).eval()
    straight = dropped(model, "avg")
    through = dropped(dropped(model, "max"), "avg")
    assert through.report.changed == straight.report.changed
    assert_close(through(images), straight(images), rtol=0, atol=0)
    assert dropped(straight, "avg").report.changed == ()
    convolved = pv.surgery.spatial_op(straight, "depthwise", image_size=SIZE)
    assert not any(isinstance(layer, Dropped) for layer in convolved.modules())


def test_a_norm_with_its_activation_goes_as_one(images):
    model = trained(narrow("mobilenetv2_035")).eval()
    without = dropped(model, where="blocks.2")
    assert without.report.dropped == ("blocks.2.0.bn2", "blocks.2.1.bn2", "blocks.2.2.bn2")
    assert "without 3 norms and activations" in str(without.report)
    assert_close(pv.fuse(without)(images), without(images), rtol=1e-4, atol=1e-4)


def test_a_relu_that_serves_a_whole_block_stays_where_it_changes_nothing(images):
    model = trained(torchvision.models.resnet50(num_classes=5)).eval()
    without = dropped(model, where="layer1.1.conv2")
    assert without.report.dropped == ("layer1.1.bn2",)
    block, x = without.layer1[1], torch.randn(1, 256, 8, 8)
    inner = block.relu(block.bn1(block.conv1(x)))
    wanted = block.relu(block.bn3(block.conv3(nn.functional.max_pool2d(inner, 3, 1, 1))) + x)
    assert_close(block(x.clone()), wanted)


class SharedGELU(nn.Module):
    """A block whose convolutions share an activation that computes something else a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.reduce, self.conv = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.act, self.fc = nn.GELU(), nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(self.act(self.conv(self.act(self.reduce(self.stem(x))))).mean((2, 3)))


def test_what_serves_other_layers_too_cannot_be_dropped():
    with pytest.raises(ValueError, match=r"cannot make 'max' of conv of SharedGELU: act behind it serves other layers"):
        dropped(SharedGELU())
    assert pv.surgery.spatial_op(SharedGELU(), "max", image_size=SIZE).report.changed == ("conv",)


def test_only_operations_without_weights_go_without_a_norm():
    with pytest.raises(ValueError, match=r"drop_norm_act=True goes with max, avg, identity: 'depthwise' has weights"):
        dropped(narrow("resnet26", **NARROW["resnet26"]), "depthwise")


def test_what_is_dropped_does_not_train_and_a_copy_has_it(images):
    model = narrow("resnet26", **NARROW["resnet26"])
    without = dropped(model, where="layer4")
    fewer = sum(one.numel() for one in model.parameters()) - sum(one.numel() for one in without.parameters())
    assert fewer == 2 * (32 * 32 * 9 + 2 * 32)
    other = timm.create_model("resnet26", num_classes=5, **NARROW["resnet26"])
    other = dropped(other, where="layer4")
    other.load_state_dict(without.state_dict())
    assert_close(other.eval()(images), without.eval()(images))
    without.train()
    back = pv.surgery.spatial_op(without, "conv", image_size=SIZE)
    assert all(layer.training for layer in back.modules())


def test_the_technique_drops_them(images):
    technique = SpatialOps("max", where="layer2", drop_norm_act=True, image_size=SIZE[0])
    built = technique.build(narrow("resnet26", **NARROW["resnet26"]))
    assert built.report.dropped == ("layer2.0.bn2", "layer2.0.act2", "layer2.1.bn2", "layer2.1.act2")
