"""Segmenters in deployed folders: whole networks, for any number and size of images, and the map of classes."""

import json
import shutil
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks_for_tests import TINY, trained
from PIL import Image
from torch import nn

import plainvision as pv
from plainvision.deploy.formats import FORMATS
from plainvision.deploy.forms import AnyPool, with_any_pooling
from plainvision.tasks.overlap import class_map

pytest.importorskip("segmentation_models_pytorch")

SIDE = 64
CLASSES = ("sky", "<b>", "field")
BACKBONES = {
    "vanillanet": ("vanillanet_5", TINY["vanillanet"]),
    "patchconvnet": ("patchconvnet_s60", TINY["patchconvnet"]),
}


def made(family: str = "vanillanet") -> nn.Module:
    name, options = BACKBONES[family]
    torch.manual_seed(0)
    backbone = pv.create_model(name, **options)
    pv.set_slope(backbone, 1)
    network = trained(pv.tasks.segmenter(backbone, num_classes=3, width=8)).eval()
    nn.init.normal_(network.head.weight, std=1)
    return network


def photo(width: int = 121, height: int = 90) -> Image.Image:
    coarse = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(1))
    image = F.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)
    return Image.fromarray((image.permute(1, 2, 0).numpy() * 255).astype(np.uint8))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return what exports a segmenter to a format once: its network, its folder and the report."""

    @cache
    def export(kind: str, family: str):
        for package in FORMATS[kind].packages:
            pytest.importorskip(package)
        network, folder = made(family), tmp_path_factory.mktemp("deployed") / kind
        how = {"image_size": SIDE, "format": kind, "classes": CLASSES, "least_delegated": 0.5}
        return network, folder, pv.deploy.export_segmenter(network, folder, **how)

    return export


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("onnx", "vanillanet"),
        ("torch", "vanillanet"),
        *(
            pytest.param(kind, family, marks=pytest.mark.slow)
            for kind in FORMATS
            for family in BACKBONES
            if (kind, family) not in (("onnx", "vanillanet"), ("torch", "vanillanet"))
        ),
    ],
)
def test_a_file_answers_as_the_segmenter_and_its_script_draws_the_same_map(exported, kind, family, tmp_path):
    network, folder, report = exported(kind, family)
    assert report.largest_relative_error < 1e-4
    loaded = pv.tasks.load(folder)
    fixed = not FORMATS[kind].any_size
    for shape in ((1, 3, SIDE, SIDE),) if fixed else ((1, 3, SIDE, SIDE), (3, 3, 96, 160)):
        images = torch.rand(shape)
        with torch.no_grad():
            expected = network(images)
        np.testing.assert_allclose(loaded.network(images), expected, rtol=1e-3, atol=1e-4 * expected.abs().max())
    picture = photo(SIDE, SIDE) if fixed else photo()
    picture.save(tmp_path / "photo.png")
    image = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 255
    with torch.no_grad():
        expected = class_map(network, image, size=SIDE).numpy()
    (areas,) = pv.tasks.find_areas(loaded, [picture])
    assert len(np.unique(expected)) > 1
    assert (areas.labels == expected).mean() > 0.999
    words = [sys.executable, folder / "predict.py", "photo.png"]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True)
    drawn = np.asarray(Image.open(tmp_path / "photo.classes.png"))
    assert (drawn == expected).mean() > 0.999
    assert ended.stdout.startswith("photo.png ")
    assert all(CLASSES[i] in ended.stdout for i in np.unique(expected))
    assert "plainvision" not in (folder / "predict.py").read_text().replace("plainvision segment", "")


def test_a_deployed_segmenter_is_no_classifier(exported, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(exported("torch", "vanillanet")[1], folder)
    said = json.loads((folder / "deploy.json").read_text())
    assert (said["task"], said["any_size"], said["classes"]) == ("segmentation", True, list(CLASSES))
    with pytest.raises(ValueError, match="names the class of each pixel, not of an image"):
        list(pv.deploy.load(folder).predict([photo()]))
    with pytest.raises(ValueError, match=r"it segments\. Use `plainvision segment evaluate`"):
        pv.predict(folder, [photo()])
    (folder / "deploy.json").write_text(json.dumps(said | {"task": "classification"}))
    with pytest.raises(ValueError, match="neither detects nor segments: it classifies"):
        pv.tasks.load(folder)
    (folder / "deploy.json").write_text(json.dumps(said | {"task": "anything"}))
    with pytest.raises(ValueError, match=r"deploy\.json\.task is 'anything', and must be 'classification' or"):
        pv.tasks.load(folder)


@pytest.mark.parametrize("size", [(3, 5), (6, 6), (12, 7), (1, 1)])
def test_pooling_for_any_size_is_adaptive_pooling(size):
    network = nn.Sequential(nn.AdaptiveAvgPool2d(6), nn.AdaptiveAvgPool2d(1))
    changed = with_any_pooling(network)
    assert [type(layer) for layer in changed] == [AnyPool, nn.AdaptiveAvgPool2d]
    assert type(network[0]) is nn.AdaptiveAvgPool2d
    features = torch.randn(2, 4, *size)
    torch.testing.assert_close(changed[0](features), network[0](features), rtol=1e-5, atol=1e-6)


def test_what_names_no_pixels_is_told(tmp_path):
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))
    with pytest.raises(ValueError, match=r"Sequential answers an image of 64 x 64 by \(1, 5\), and a segmenter"):
        pv.deploy.export_segmenter(network, tmp_path / "out", image_size=64)
    with pytest.raises(ValueError, match=r"by \(1, 5, 64, 64\), and a segmenter of 2 classes by \(1, 2, 64, 64\)"):
        pv.deploy.export_segmenter(nn.Conv2d(3, 5, 1), tmp_path / "out", image_size=64, classes=("a", "b"))
    assert list(tmp_path.iterdir()) == []


class SizeReader(nn.Module):
    """Fixes what it saw of an image's height when it is exported."""

    def forward(self, x):
        return x.mean((2, 3)) * (2 if x.shape[2] > 64 else 1)


def test_a_file_of_any_size_is_compared_at_another_size(tmp_path):
    with pytest.raises(
        ValueError, match=r"(differs from the network's|cannot be compared with the network).*was removed"
    ):
        pv.deploy.export(
            SizeReader(),
            tmp_path / "out",
            preprocessing=pv.deploy.Preprocessing(64),
            format="torch",
            any_size=True,
        )
    assert list(tmp_path.iterdir()) == []
