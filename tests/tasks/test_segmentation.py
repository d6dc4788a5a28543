import sys

import pytest
import timm
import torch
from torch import nn
from torch.testing import assert_close

import plainvision as pv
from plainvision.inspection.counting import count_macs, count_parameters
from plainvision.tasks.multiscale import class_shares


# arXiv:2112.13692, Table 3: millions of parameters, and billions of multiply-adds of an image of 512 x 2048.
@pytest.mark.parametrize(
    ("name", "published", "macs"), [("s60", 57.1, 952), ("b60", 140.6, 1258), ("b120", 229.8, 1550)]
)
def test_it_has_the_size_of_the_papers_segmenter_but_for_what_the_docs_name(name, published, macs):
    with torch.device("meta"):
        whole = pv.create_model(f"patchconvnet_{name}")
        network = pv.tasks.segmenter(whole, num_classes=150)
    assert count_macs(network, (512, 2048)) / 1e9 == pytest.approx(macs, abs=2)
    # The paper counts the unused classifier and pooling, and an auxiliary head; the layer norms are the library's own.
    unused = count_parameters(whole.pool) + count_parameters(whole.head)
    auxiliary = count_parameters(
        nn.Sequential(nn.Conv2d(whole.num_features, 256, 3, bias=False), nn.BatchNorm2d(256), nn.Conv2d(256, 150, 1))
    )
    norms = count_parameters(network.decoder.feature_norms)
    theirs = count_parameters(network) + unused + auxiliary - norms
    assert theirs / 1e6 == pytest.approx(published, abs=0.05)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_any_network_of_timms_segments_images_of_any_size(name):
    network = pv.tasks.segmenter(name, num_classes=5, width=16).eval()
    assert network(torch.rand(1, 3, 64, 80)).shape == (1, 5, 64, 80)
    backbone = timm.create_model("test_resnet", features_only=True)
    assert pv.tasks.segmenter(backbone, num_classes=5, width=16).eval()(torch.rand(1, 3, 70, 90)).shape == (
        1,
        5,
        70,
        90,
    )


def test_images_are_normalised_by_the_backbones_own_values():
    backbone = pv.create_model("vanillanet_5", width=1 / 64)
    backbone.pretrained_cfg["mean"], backbone.pretrained_cfg["std"] = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
    network = pv.tasks.segmenter(backbone, num_classes=2, width=16).eval()
    seen = []
    network.pyramid.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(torch.tensor([0.6, 0.2, 0.05])[None, :, None, None].expand(1, 3, 64, 64))
    assert_close(seen[0], torch.tensor([1.0, 0.0, -2.0])[None, :, None, None].expand(1, 3, 64, 64))


def test_several_scales_are_the_mean_of_each():
    network = pv.tasks.segmenter(pv.create_model("vanillanet_5", width=1 / 64), num_classes=3, width=16).eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        plain = class_shares(network, images)
        assert_close(plain, network(images).softmax(1))
        assert_close(class_shares(network, images, flip=True), (plain + network(images.flip(3)).flip(3).softmax(1)) / 2)
        half = class_shares(network, images, scales=(0.5,))
        assert half.shape == plain.shape
        assert_close(class_shares(network, images, scales=(0.5, 1.0)), (half + plain) / 2)
        both = class_shares(network, images, scales=(0.5, 1.0, 1.5), flip=True)
    assert_close(both, class_shares(network, images.flip(3), scales=(0.5, 1.0, 1.5), flip=True).flip(3))
    assert_close(both.sum(1), torch.ones(1, 64, 96))
    with pytest.raises(ValueError, match=r"scales=\(\) must be numbers above zero"):
        class_shares(network, images, scales=())


def test_what_cannot_segment_is_told(monkeypatch):
    backbone = pv.create_model("vanillanet_5", width=1 / 64)
    with pytest.raises(ValueError, match="Linear has no features to detect or segment with"):
        pv.tasks.segmenter(nn.Linear(2, 2), num_classes=2)
    with pytest.raises(ValueError, match="unknown kind 'unet': a segmenter is an 'upernet'"):
        pv.tasks.segmenter(backbone, "unet", num_classes=2)
    with pytest.raises(ValueError, match="one image at a time cannot train an UPerNet"):
        pv.tasks.segmenter(backbone, num_classes=2, width=16).train()(torch.rand(1, 3, 64, 64))
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch.decoders.upernet.decoder", None)
    with pytest.raises(ImportError, match=r'pip install "plainvision\[tasks\]"'):
        pv.tasks.segmenter(backbone, num_classes=2)
