import pytest
import timm
import torch
from networks_for_tests import trained
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.ops import FrozenBatchNorm2d

import plainvision as pv
from plainvision.inspection.counting import count_parameters
from plainvision.inspection.dense import DenseDetector
from plainvision.layers.fusable import BatchNorm

TARGETS = [
    {
        "boxes": torch.tensor([[4.0, 4.0, 40.0, 40.0], [20.0, 10.0, 60.0, 50.0]]),
        "labels": torch.tensor([1, 3]),
        "masks": torch.ones(2, 64, 80, dtype=torch.uint8),
    },
    {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 64, 64, dtype=torch.uint8),
    },
]
SMALL = {"num_classes": 3, "min_size": 64, "max_size": 96}


def on_meta(name: str, kind: str, **options) -> nn.Module:
    with torch.device("meta"):
        return pv.tasks.detector(pv.create_model(name, num_classes=0, **options), kind, num_classes=80)


# In millions: arXiv:2305.12972, Table 5, whose 76.3 is 76.37 cut off.
@pytest.mark.parametrize(("kind", "published"), [("retinanet", 74.6), ("mask_rcnn", 76.3)])
def test_vanillanet_13_has_the_parameters_of_its_paper(kind, published):
    assert count_parameters(on_meta("vanillanet_13", kind, deployed=True)) / 1e6 == pytest.approx(published, abs=0.07)


@pytest.mark.parametrize(("kind", "published", "whole"), [("retinanet", 397, 404.1), ("mask_rcnn", 421, 427.5)])
def test_vanillanet_13_has_the_multiply_adds_of_its_paper_which_leaves_series_activations_out(kind, published, whole):
    without = pv.tasks.detector_macs(on_meta("vanillanet_13", kind, deployed=True, series=0)) / 1e9
    assert without == pytest.approx(published, abs=1)
    assert pv.tasks.detector_macs(on_meta("vanillanet_13", kind, deployed=True)) / 1e9 == pytest.approx(whole, abs=0.1)


# arXiv:2112.13692, Table 4: 44.9 and 67.4 M, 264 and 339 G. docs/detection.md says what is known of the difference.
@pytest.mark.parametrize(("name", "published", "macs"), [("s60", 44.9, 264), ("s120", 67.4, 339)])
def test_patchconvnet_is_within_some_percent_of_its_paper(name, published, macs):
    network = on_meta(f"patchconvnet_{name}", "mask_rcnn")
    assert count_parameters(network) / 1e6 == pytest.approx(published + 0.5, abs=0.1)
    assert pv.tasks.detector_macs(network) / 1e9 == pytest.approx(macs, rel=0.03)


def test_resnet_50_has_the_parameters_of_torchvisions_own():
    from torchvision.models.detection import maskrcnn_resnet50_fpn, retinanet_resnet50_fpn_v2

    with torch.device("meta"):
        retinanet = retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=81)
        mask_rcnn = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=81)
    # Its second version has group norms in the heads.
    norms = sum(count_parameters(module) for module in retinanet.modules() if isinstance(module, nn.GroupNorm))
    biases = 8 * 256  # of the convolutions in front of them
    own = count_parameters(on_meta("resnet50", "retinanet"))
    assert own == count_parameters(retinanet) - norms + biases
    assert count_parameters(on_meta("resnet50", "mask_rcnn")) == count_parameters(mask_rcnn)


@pytest.mark.parametrize("kind", ["retinanet", "mask_rcnn"])
@pytest.mark.parametrize(
    ("name", "options"), [("vanillanet_6", {"width": 1 / 64}), ("patchconvnet_s60", {"embed_dim": 16, "depth": 2})]
)
def test_it_learns_and_answers_in_torchvisions_words(kind, name, options):
    network = pv.tasks.detector(pv.create_model(name, **options), kind, **SMALL).train()
    losses = network([torch.rand(3, 64, 80), torch.rand(3, 64, 64)], TARGETS)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    network.score_thresh = 0.0
    found = network.eval()([torch.rand(3, 50, 70)])[0]
    assert set(found) == {"boxes", "labels", "scores"} | ({"masks"} if kind == "mask_rcnn" else set())


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet", "test_convnext"])
def test_any_network_of_timms_detects(name):
    images = [torch.rand(3, 64, 80)]
    for backbone in (name, timm.create_model(name, features_only=True, **ANY_SIZE.get(name, {}))):
        network = pv.tasks.detector(backbone, **SMALL).eval()
        assert set(network(images)[0]) == {"boxes", "labels", "scores"}


ANY_SIZE = {"test_vit": {"dynamic_img_size": True}}


def test_images_are_normalised_once_and_by_the_backbones_own_values():
    backbone = pv.create_model("vanillanet_5", width=1 / 64)
    backbone.pretrained_cfg["mean"], backbone.pretrained_cfg["std"] = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
    network = pv.tasks.detector(backbone, num_classes=1, min_size=64, max_size=64).eval()
    seen = []
    network.backbone.pyramid.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network([torch.tensor([0.6, 0.2, 0.05])[:, None, None].expand(3, 64, 64)])
    assert_close(seen[0], torch.tensor([1.0, 0.0, -2.0])[None, :, None, None].expand(1, 3, 64, 64))


@pytest.mark.parametrize("kind", ["retinanet", "mask_rcnn"])
@pytest.mark.parametrize("freeze_norms", [False, True])
def test_the_deployed_form_finds_the_same(kind, freeze_norms):
    backbone = trained(pv.create_model("vanillanet_6", width=1 / 64))
    pv.set_slope(backbone, 1)
    before = pv.tasks.detector(backbone, kind, freeze_norms=freeze_norms, width=16, **SMALL).eval()
    state = {key: value.clone() for key, value in before.state_dict().items()}
    after = pv.fuse(before, image_size=64, images=2)
    assert count_parameters(after) < count_parameters(before)
    assert not any(isinstance(module, BatchNorm | FrozenBatchNorm2d) for module in after.modules())
    assert after.report.informative
    assert after.report.stayed == {}
    assert_close(before.state_dict(), state, rtol=0, atol=0)  # it stays as it is
    for a, b in zip(DenseDetector(before)(IMAGE[None]), DenseDetector(after)(IMAGE[None]), strict=True):
        assert_close(b, a, rtol=1e-3, atol=1e-3)
    for network in (before, after):
        # Random weights give every box nearly the same score: choosing among them would compare rounding.
        chooser = network if kind == "retinanet" else network.roi_heads
        chooser.score_thresh, chooser.nms_thresh, chooser.detections_per_img = 0.0, 1.0, 10_000
        chooser.mask_predictor = None  # thousands of masks
    found, others = ({tuple(box.round().tolist()) for box in one([IMAGE])[0]["boxes"]} for one in (before, after))
    assert len(found & others) > 0.95 * len(found) > 50


IMAGE = torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(0))


def test_a_detector_is_not_fused_before_its_slopes_are_one():
    network = pv.tasks.detector(pv.create_model("vanillanet_5", width=1 / 64), width=16, **SMALL)
    with pytest.raises(ValueError, match=r"cannot fuse a LinearPair at slope=0\.0"):
        pv.fuse(network)
    plain = pv.tasks.detector(pv.create_model("vanillanet_5", width=1 / 64, deployed=True), width=16, **SMALL)
    with pytest.raises(ValueError, match="nothing to fuse in RetinaNet"):
        pv.fuse(plain)


def test_batch_norms_of_a_detectors_heads_are_folded_too():
    network = pv.tasks.detector(
        pv.create_model("vanillanet_5", width=1 / 64, deployed=True), "mask_rcnn", width=16, **SMALL
    )
    network.roi_heads.mask_head = MaskRCNNHeads(16, (16, 16), 1, norm_layer=nn.BatchNorm2d)
    fused = pv.fuse(trained(network), image_size=64, images=2)
    assert not any(isinstance(module, BatchNorm) for module in fused.modules())
    assert sum(isinstance(module, BatchNorm) for module in network.modules()) == 2


def test_batch_norms_are_frozen_for_a_trained_network_alone():
    def norms(network: nn.Module) -> int:
        return sum(isinstance(module, nn.BatchNorm2d) for module in network.backbone.modules())

    backbone = pv.create_model("vanillanet_5", width=1 / 64)
    count = sum(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()) - 1  # less the classifier's
    assert norms(pv.tasks.detector(backbone, num_classes=1)) == count
    frozen = pv.tasks.detector(backbone, num_classes=1, freeze_norms=True)
    assert norms(frozen) == 0
    statistics = {key: value.clone() for key, value in frozen.state_dict().items() if "running" in key}
    frozen.train()([torch.rand(3, 64, 80), torch.rand(3, 64, 64)], [{**target} for target in ONE_CLASS])
    assert statistics
    for key, value in statistics.items():
        assert_close(frozen.state_dict()[key], value, rtol=0, atol=0)
    assert count == sum(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()) - 1


ONE_CLASS = [{**target, "labels": target["labels"].clamp(max=1)} for target in TARGETS]


def test_the_heads_of_a_mask_rcnn_are_as_wide_as_its_pyramid_and_learn_from_as_many_proposals_as_said():
    backbone = pv.create_model("vanillanet_5", width=1 / 64)
    network = pv.tasks.detector(backbone, "mask_rcnn", width=16, rois_per_image=24, **SMALL).train()
    seen = {}
    for name in ("box_head", "mask_head"):
        head = getattr(network.roi_heads, name)
        head.register_forward_hook(lambda _, given, made, name=name: seen.update({name: (given[0].shape, made.shape)}))
    network([torch.rand(3, 64, 80), torch.rand(3, 64, 64)], TARGETS)
    assert seen["box_head"] == ((48, 16, 7, 7), (48, 64))
    assert seen["mask_head"][1][1:] == (16, 14, 14)


@pytest.mark.parametrize("kind", ["retinanet", "mask_rcnn"])
def test_no_signal_fades_in_narrow_heads_and_large_features_do_not_blow_up_the_loss(kind):
    backbone = pv.create_model("vanillanet_5", width=1 / 64)
    features = torch.randn(1, 16, 8, 8)
    spreads = []
    for frozen in (False, True):
        network = pv.tasks.detector(backbone, kind, width=16, freeze_norms=frozen, **SMALL)
        dense = network.rpn.head if kind == "mask_rcnn" else network.head.classification_head
        hidden = dense.conv(features)
        assert hidden.std() > 0.1
        spreads.append(dense.cls_logits(hidden).std())
    assert spreads[1] < 0.3 * spreads[0]  # a trained backbone's features may be of any size


def test_anchors_are_torchvisions_or_those_given():
    backbone = pv.create_model("vanillanet_5", width=1 / 64)
    network = pv.tasks.detector(backbone, num_classes=1)
    assert network.anchor_sizes[0] == (32, 40, 50)
    assert network.anchor_sizes[-1] == (512, 645, 812)
    assert network.anchor_generator.sizes == network.anchor_sizes
    assert pv.tasks.detector(backbone, "mask_rcnn", num_classes=1).anchor_sizes == (
        (32,),
        (64,),
        (128,),
        (256,),
        (512,),
    )
    given = ((8,), (16,), (32,), (64,), (100,))
    network = pv.tasks.detector(backbone, "mask_rcnn", num_classes=1, anchor_sizes=given)
    assert network.rpn.anchor_generator.sizes == network.anchor_sizes == given
    with pytest.raises(ValueError, match="a retinanet has five levels with 3 above zero each"):
        pv.tasks.detector(backbone, num_classes=1, anchor_sizes=given)


def test_what_cannot_detect_is_told():
    with pytest.raises(ValueError, match="Linear has no features to detect or segment with"):
        pv.tasks.detector(nn.Linear(2, 2), num_classes=1)
    with pytest.raises(ValueError, match=r"unknown kind 'yolo'.*'mask_rcnn' for masks too"):
        pv.tasks.detector("vanillanet_5", "yolo", num_classes=1)
    with pytest.raises(ValueError, match="num_classes=0 with width=256 leaves nothing to detect"):
        pv.tasks.detector("vanillanet_5", num_classes=0)
    with pytest.raises(ValueError, match=r"unknown model 'vanilanet_5'\. Did you mean vanillanet_5"):
        pv.tasks.detector("vanilanet_5", num_classes=1)
    with pytest.raises(ValueError, match="pretrained=True goes with a network's name"):
        pv.tasks.detector(pv.create_model("vanillanet_5", width=1 / 64), num_classes=1, pretrained=True)
