import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from plainvision.deploy import Examination, GateError, Preprocessing, export, load
from plainvision.deploy.forms import Form
from plainvision.deploy.quantizing import CONTROL
from plainvision.deploy.source import Source
from plainvision.deploy.writing import write_form

SMALL = Preprocessing(image_size=32, crop_ratio=1.0)


@dataclass
class Labelled:
    images: torch.Tensor
    labels: torch.Tensor


class Wide(nn.Module):
    """A depthwise convolution whose channels differ by a factor of 10,000, and one that undoes it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.wide = nn.Conv2d(32, 32, 3, 1, 1, groups=32, bias=False)
        self.mix = nn.Conv2d(32, 32, 1)
        self.head = nn.Linear(32, 10)
        scale = torch.logspace(-2, 2, 32)
        with torch.no_grad():
            self.wide.weight.mul_(scale.view(-1, 1, 1, 1))
            self.mix.weight.div_(scale.view(1, -1, 1, 1))

    def forward(self, x):
        return self.head(self.mix(self.wide(self.stem(x).relu())).relu().mean((2, 3)))


def wide():
    """A wide-ranged network that gives every class to some images."""
    torch.manual_seed(0)
    network = Wide().eval()
    with torch.no_grad():
        network.head.bias.sub_(network(pictures(64)).mean(0))
    return network


def pictures(count):
    """Images of low frequencies: noise looks the same to every network."""
    draws = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(draws, 32, mode="bilinear")


def examination(network, images=640, allow_loss=1.0, labelled=True):
    """Images whose labels are what the network says."""
    draws = pictures(images + 16)
    with torch.no_grad():
        labels = network(draws).argmax(1)
    judged = [Labelled(draws[i : i + 64], labels[i : i + 64] if labelled else None) for i in range(16, images + 16, 64)]
    return Examination([one[None].numpy() for one in draws[:16]], judged, allow_loss)


@pytest.mark.parametrize(
    ("format", "precision"), [("onnx", "int8"), ("openvino", "int8"), ("torch", "bf16"), ("onnx", "fp16")]
)
def test_a_form_of_lower_precision_passes_its_gate(network, format, precision, tmp_path):
    for package in {"onnx": ["onnxruntime"], "openvino": ["nncf"], "torch": []}[format]:
        pytest.importorskip(package)
    report = export(
        network,
        tmp_path / "out",
        preprocessing=SMALL,
        format=format,
        precision=precision,
        examination=examination(network, allow_loss=20),
    )
    assert report.gate.verdict == "passes"
    assert report.gate.images == 640
    assert (report.scheme is None) == (precision != "int8")
    said = json.loads((tmp_path / "out" / "deploy.json").read_text())
    assert said["precision"] == precision
    assert said["gate"]["lost"] == report.gate.lost
    pixels = SMALL.bytes_of(np.concatenate(examination(network).calibration[:4]))
    with torch.no_grad():
        expected = network(torch.from_numpy(SMALL.normalised(pixels))).numpy()
    found = load(tmp_path / "out").logits(pixels)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 0.5 * np.abs(expected).max()  # near, and not the same


def test_a_network_that_int8_ruins_fails_and_names_its_layers(tmp_path):
    pytest.importorskip("onnxruntime")
    network = wide()
    with pytest.raises(GateError, match=r"onnx in int8 is refused\. fails: .* lost, 0 gained") as raised:
        export(
            network,
            tmp_path / "out",
            preprocessing=SMALL,
            precision="int8",
            examination=examination(network),
        )
    assert raised.value.culprits[0].layer in ("wide", "mix")  # the activations between them are as wide
    assert "These layers lose most:\n  " in str(raised.value)
    assert not (tmp_path / "out").exists()
    kept = json.loads((tmp_path / "out.refused.json").read_text())
    assert kept["gate"]["verdict"] == "fails"
    assert kept["layers"][0]["layer"] == raised.value.culprits[0].layer


def test_scales_per_channel_keep_what_one_scale_loses(tmp_path):
    pytest.importorskip("onnxruntime")
    network = wide()
    with torch.no_grad():  # wide weights alone: the activations behind them are alike
        network.stem.weight.div_(torch.logspace(-2, 2, 32).view(-1, 1, 1, 1))
        network.stem.bias.div_(torch.logspace(-2, 2, 32))
        network.mix.weight.mul_(torch.logspace(-2, 2, 32).view(1, -1, 1, 1))
    source = Source.of(network, SMALL, (), examination(network))
    errors = {}
    for scheme in ("tensor/minmax", "channel/minmax"):
        report = write_form(source, Form("onnx", "int8", scheme), tmp_path / scheme.replace("/", "_"))
        errors[scheme] = report.gate.lost
    assert errors["channel/minmax"] < errors["tensor/minmax"]


def test_too_few_images_cannot_tell_and_nothing_is_written(network, tmp_path):
    with pytest.raises(GateError, match=r"torch in bf16 is refused\. cannot tell: .*more images are needed"):
        export(
            network,
            tmp_path / "out",
            preprocessing=SMALL,
            format="torch",
            precision="bf16",
            examination=examination(network, images=64, allow_loss=0.1),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["out.refused.json"]


def test_without_labels_the_words_say_so(network, tmp_path):
    report = export(
        network,
        tmp_path / "out",
        preprocessing=SMALL,
        format="torch",
        precision="bf16",
        examination=examination(network, allow_loss=50, labelled=False),
    )
    assert "accuracy was not measured" in str(report)
    assert report.gate.gained == 0


def test_bytes_are_quantized_too(network, tmp_path):
    pytest.importorskip("onnxruntime")
    report = export(
        network,
        tmp_path / "out",
        preprocessing=SMALL,
        precision="int8",
        input="uint8",
        examination=examination(network, allow_loss=30),
    )
    assert report.gate.verdict == "passes"


def test_int8_without_images_is_refused(network, tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match=r"int8 needs images to calibrate on, and none were given.*--calibrate FOLDER"):
        export(network, tmp_path / "out", preprocessing=SMALL, precision="int8")
    assert list(tmp_path.iterdir()) == []


def test_a_calibration_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"holds no image that can be read, among 1 files with an image's name"):
        Examination.of_folder(tmp_path, SMALL)
    with pytest.raises(ValueError, match=r"nowhere is no folder"):
        Examination.of_folder(tmp_path / "nowhere", SMALL)


def test_a_precision_that_a_format_lacks_names_those_that_offer_it(network, tmp_path):
    with pytest.raises(ValueError, match=r"torch offers no int8, only fp32, bf16, fp16\. int8 is offered by onnx, "):
        export(network, tmp_path / "out", preprocessing=SMALL, format="torch", precision="int8")


@pytest.mark.slow
def test_accuracy_control_puts_layers_back_to_float(network, tmp_path):
    pytest.importorskip("nncf")
    given = examination(network, allow_loss=30)
    with torch.no_grad():
        labels = [int(network(torch.from_numpy(image)).argmax()) for image in given.calibration]
    controlled = replace(given, calibration_labels=labels)
    report = write_form(Source.of(network, SMALL, (), controlled), Form("openvino", "int8", CONTROL), tmp_path / "out")
    assert report.scheme == CONTROL
    assert report.gate.images == 640
    with pytest.raises(ValueError, match=r"accuracy control asks for calibration images with labels"):
        write_form(Source.of(network, SMALL, (), given), Form("openvino", "int8", CONTROL), tmp_path / "other")
