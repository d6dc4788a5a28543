import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from networks_for_tests import TINY, trained
from PIL import Image
from torch import nn

import plainvision as pv
from plainvision.deploy import Preprocessing, export, load
from plainvision.deploy.formats import FORMATS, Running

CLASSES = ("hat", "shoe", "dress", "shirt", "<script>")
SMALL = Preprocessing(image_size=64, crop_ratio=1.0)
# One of each family, and two of others.
NETWORKS = {
    "vanillanet": lambda: pv.create_model("vanillanet_6", width=1 / 64, num_classes=5),
    "patchconvnet": lambda: pv.create_model("patchconvnet_s60", **TINY["patchconvnet"], num_classes=5),
    "vit": lambda: pv.create_model("vit_s_max", **TINY["vit_pf"], num_classes=5),
    "pit": lambda: pv.create_model("pit_s_max", **TINY["pit_pf"], num_classes=5),
    "resnet": lambda: pv.create_model("resnet50_hybrid", **TINY["resnet_pf"], num_classes=5),
    "resnet for CIFAR": lambda: pv.create_model("resnet20_cifar", **TINY["resnet_cifar"], num_classes=5),
    "alexnet": lambda: pv.create_model("alexnet", **TINY["alexnet"], num_classes=5),
    "lite0 of timm": lambda: pv.create_model("tf_efficientnet_lite0", num_classes=5),
    "resnet18 of torchvision": lambda: torchvision.models.resnet18(num_classes=5),
}


def built(name="vanillanet"):
    model = trained(NETWORKS[name]())
    pv.set_slope(model, 1)
    return model


def kinds(*others):
    """Return parameters; compiling takes 15 s, so that only VanillaNet is compiled in every run."""
    slow = ("compiled", "executorch")
    return [
        pytest.param(*one, marks=[pytest.mark.slow] if one[0] in slow and one[1:] != ("vanillanet",) else [])
        for one in others
    ]


EVERY = kinds(*((name,) for name in FORMATS))
EVERY_NETWORK = kinds(*((name, network) for name in FORMATS for network in NETWORKS))


@pytest.fixture
def kind(request):
    for package in FORMATS[request.param].packages:
        pytest.importorskip(package)
    return request.param


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (70, 90 + i, 3), dtype=np.uint8)) for i in range(3)]


@pytest.mark.parametrize(("kind", "name"), EVERY_NETWORK, indirect=["kind"])
def test_a_file_answers_as_the_network_at_any_number_of_images(kind, name, tmp_path, photos):
    model = built(name)
    report = export(model, tmp_path / "out", preprocessing=SMALL, format=kind, classes=CLASSES, least_delegated=0.7)
    assert report.largest_relative_error < 1e-4
    assert report.argmax_agreement == 1
    assert "same class for 100%" in str(report)
    deployed = load(tmp_path / "out", threads=1)
    pixels = np.stack([SMALL.pixels(photo) for photo in photos])
    with torch.no_grad():
        expected = model(torch.from_numpy(SMALL.normalised(pixels)))
    np.testing.assert_allclose(deployed.logits(pixels), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    answers = list(deployed.predict(photos, top=2))
    assert [answer.classes[0] for answer in answers] == [CLASSES[i] for i in expected.argmax(1)]
    assert [answer.confidences[0] for answer in answers] == pytest.approx(
        expected.softmax(1).amax(1).tolist(), abs=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS, indirect=True)
@pytest.mark.parametrize(("family", "name"), [(family, name) for family in TINY for name in pv.list_models(family)])
def test_every_name_goes_through_every_format(kind, family, name, tmp_path):
    model = trained(pv.create_model(name, **TINY[family], num_classes=5))
    pv.set_slope(model, 1)
    size = 224 if name.endswith("ada_pool") else 64
    how = Preprocessing(image_size=size)
    report = export(model, tmp_path / "out", preprocessing=how, format=kind, least_delegated=0.7)
    assert report.largest_relative_error < 1e-4


@pytest.mark.parametrize("kind", EVERY, indirect=True)
def test_a_file_that_takes_bytes_normalises_by_itself(kind, tmp_path, photos):
    model = built()
    export(model, tmp_path / "out", preprocessing=SMALL, format=kind, input="uint8", least_delegated=0.7)
    pixels = np.stack([SMALL.pixels(photo) for photo in photos])
    with torch.no_grad():
        expected = model(torch.from_numpy(SMALL.normalised(pixels)))
    found = load(tmp_path / "out").logits(pixels)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("kind", EVERY, indirect=True)
def test_a_file_of_any_size_takes_other_sizes(kind, tmp_path):
    model = built()
    if not FORMATS[kind].any_size:
        with pytest.raises(ValueError, match=rf"{kind} plans memory for images of one size\. Leave any_size out"):
            export(model, tmp_path / "out", preprocessing=SMALL, format=kind, any_size=True)
        return
    export(model, tmp_path / "out", preprocessing=SMALL, format=kind, any_size=True)
    images = torch.randn(2, 3, 96, 128)
    run = FORMATS[kind].open(tmp_path / "out" / FORMATS[kind].file, Running(threads=1))
    with torch.no_grad():
        np.testing.assert_allclose(run(images.numpy())[0], model(images), rtol=1e-3, atol=1e-3)


def test_the_description_says_what_a_user_needs(tmp_path):
    export(built(), tmp_path / "out", preprocessing=SMALL, format="torch", classes=CLASSES)
    said = json.loads((tmp_path / "out" / "deploy.json").read_text())
    assert said["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert said["classes"] == list(CLASSES)
    assert said["proof"]["images"] == 3
    assert list(said["files"]) == ["model.pt2"]
    assert said["precision"] == "fp32"
    assert said["gate"] is None
    assert set(said["versions"]) == {"plainvision", "torch"}


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 5, 64)

    def forward(self, x):
        x = self.head(x).flatten(1)
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_exported_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"Untraceable cannot be exported to torch: .*Export it to another format"):
        export(Untraceable(), tmp_path / "out", preprocessing=SMALL, format="torch")
    assert list(tmp_path.iterdir()) == []


class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_an_operation_that_a_format_lacks_is_named_with_its_module(tmp_path, format):
    pytest.importorskip({"onnx": "onnxscript"}.get(format, format))
    neck = nn.Sequential(nn.Conv2d(3, 5, 3), Bessel())
    model = nn.Sequential()
    model.add_module("stem", nn.Conv2d(3, 3, 3))
    model.add_module("neck", neck)
    model.add_module("head", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    said = rf"Sequential, at its module neck\.1, cannot be exported to {format}: .*No .* found .*bessel_j0"
    with pytest.raises(ValueError, match=said):
        export(model.eval(), tmp_path / "out", preprocessing=SMALL, format=format)
    assert list(tmp_path.iterdir()) == []


def test_images_of_another_size_are_refused(folder):
    with pytest.raises(ValueError, match=r"images of 96 x 128 pixels do not fit: the file takes 64 x 64\..*any_size"):
        load(folder).logits(np.zeros((1, 96, 128, 3), np.uint8))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda x: [x + 1], r"output 0 of the torch file differs from the network's by 1\.0"),
        (lambda x: [x * np.nan], r"output 0 of the torch file differs"),
        (lambda x: [x[:, :4]], r"output 0 of the torch file is \(1, 4\) where the network's is \(1, 5\)"),
        (lambda x: [x, x], r"the torch file has 2 outputs and the network 1"),
    ],
)
def test_a_file_that_answers_differently_is_removed_and_the_old_one_stays(tmp_path, monkeypatch, wrong, said):
    export(built(), tmp_path / "out", preprocessing=SMALL, format="torch")
    before = (tmp_path / "out" / "model.pt2").read_bytes()
    right = FORMATS["torch"]

    def open_wrong(path, running):
        run = right.open(path, running)
        return lambda images: wrong(run(images)[0])

    monkeypatch.setitem(FORMATS, "torch", replace(right, open=open_wrong))
    with pytest.raises(ValueError, match=said):
        export(built(), tmp_path / "out", preprocessing=SMALL, format="torch")
    assert (tmp_path / "out" / "model.pt2").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_disk_that_fills_up_leaves_the_old_folder(tmp_path, monkeypatch):
    export(built(), tmp_path / "out", preprocessing=SMALL, format="torch")
    before = (tmp_path / "out" / "deploy.json").read_text()
    right = FORMATS["torch"]

    def full(network, images, path, any_size):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(FORMATS, "torch", replace(right, write=full))
    with pytest.raises(OSError, match="No space left"):
        export(built(), tmp_path / "out", preprocessing=SMALL, format="torch")
    assert (tmp_path / "out" / "deploy.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_wrong_is_said_before_the_work(tmp_path):
    with pytest.raises(ValueError, match=r"unknown format 'tflite': there are onnx, openvino, torch, compiled"):
        export(built(), tmp_path / "out", preprocessing=SMALL, format="tflite")
    with pytest.raises(ValueError, match=r"the sample is \(2, 1, 64, 64\)"):
        export(built(), tmp_path / "out", preprocessing=SMALL, format="torch", sample=torch.randn(2, 1, 64, 64))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match=r"mine is there and holds no deployed network"):
        export(built(), tmp_path / "mine", preprocessing=SMALL, format="torch")
    model = trained(NETWORKS["vanillanet"]())
    pv.set_slope(model, 0.5)
    with pytest.raises(ValueError, match=r"slope=0\.5"):
        export(model, tmp_path / "out", preprocessing=SMALL, format="torch")


@pytest.fixture
def folder(tmp_path):
    export(built(), tmp_path / "out", preprocessing=SMALL, format="torch", classes=CLASSES)
    return tmp_path / "out"


def test_a_description_of_another_file_is_refused(folder):
    (folder / "model.pt2").write_bytes((folder / "model.pt2").read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"deploy\.json belongs to other files than those in"):
        load(folder)


def test_a_half_written_folder_is_refused(folder):
    with pytest.raises(FileNotFoundError, match=r"it holds no deploy\.json"):
        load(folder / "nowhere")
    (folder / "deploy.json").write_text('{"format": "torch"')
    with pytest.raises(ValueError, match=r"deploy\.json is damaged"):
        load(folder)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("format", "pickle", r"deploy\.json\.format is 'pickle'"),
        ("classes", 3, r"deploy\.json\.classes is 3"),
        ("preprocessing", {"image_size": 10**9}, r"image_size=1000000000 must"),
        ("input", "text", r"deploy\.json\.input is 'text'"),
        (
            "tuned",
            {"threads": 10**9},
            r"deploy\.json\.tuned\.threads is 1000000000, and must be a number from 1 to 1024",
        ),
    ],
)
def test_an_edited_description_names_the_field(folder, field, value, said):
    said_before = json.loads((folder / "deploy.json").read_text())
    (folder / "deploy.json").write_text(json.dumps(said_before | {field: value}))
    with pytest.raises(ValueError, match=said):
        load(folder)


def test_an_image_that_cannot_be_read_is_named(folder, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot read the image .*broken\.jpg"):
        list(load(folder).predict([tmp_path / "broken.jpg"]))


def test_a_missing_package_is_one_error(tmp_path, monkeypatch):
    right = FORMATS["torch"]
    monkeypatch.setitem(FORMATS, "none", replace(right, packages=("no_such_package",)))
    with pytest.raises(ImportError, match=r"none needs the package `no_such_package`.*plainvision\[deploy\]"):
        export(built(), tmp_path / "out", preprocessing=SMALL, format="none")
