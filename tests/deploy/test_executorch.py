import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
import torchvision
from networks_for_tests import TINY, trained
from PIL import Image
from torch import nn

import plainvision as pv
from plainvision.deploy import Preprocessing, export, load
from plainvision.deploy.delegation import Delegation
from plainvision.deploy.formats import FORMATS

SMALL = Preprocessing(image_size=64, crop_ratio=1.0)
NETWORKS = {
    "vanillanet": lambda: pv.create_model("vanillanet_6", width=1 / 64, num_classes=5),
    "patchconvnet": lambda: pv.create_model("patchconvnet_s60", **TINY["patchconvnet"], num_classes=5),
    "vit": lambda: pv.create_model("vit_s_max", **TINY["vit_pf"], num_classes=5),
    "resnet": lambda: pv.create_model("resnet50_hybrid", **TINY["resnet_pf"], num_classes=5),
    "squeezenet of torchvision": lambda: torchvision.models.squeezenet1_1(num_classes=5),
}
LEFT = {
    "vanillanet": set(),
    "patchconvnet": {"aten.native_layer_norm", "aten.expand_copy", "aten.mm", "aten.select_copy"},
    "vit": {"aten.native_layer_norm", "aten.expand_copy", "aten.slice_copy", "aten.as_strided_copy"},
    "resnet": {"aten.avg_pool2d"},
    "squeezenet of torchvision": {"aten.max_pool2d_with_indices"},  # its windows reach over the border
}


def built(name="vanillanet"):
    model = trained(NETWORKS[name]())
    pv.set_slope(model, 1)
    return model


def test_without_the_package_one_error_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "executorch", None)
    with pytest.raises(
        ImportError, match=r'executorch needs the package `executorch`.*pip install "plainvision\[mobile\]"'
    ):
        export(built(), tmp_path / "out", preprocessing=SMALL, format="executorch")
    assert list(tmp_path.iterdir()) == []


def test_a_share_counts_operations_and_an_error_names_those_that_are_left():
    found = Delegation.of(Counter({"aten.linear": 7}), Counter({"aten.erf": 1, "aten.sort": 2}), 8)
    assert found.share == 0.7
    assert str(found) == "XNNPACK computes 70.0% of the operations, all but aten.sort (2 times), aten.erf"
    found.check(0.7)
    with pytest.raises(
        ValueError, match=r"70\.0% .* 95\.0% are asked for\. .* aten\.sort \(2 times\), aten\.erf\. "
    ) as error:
        found.check(0.95)
    assert "least_delegated=0.7," in str(error.value)
    assert Delegation.of(Counter(), Counter(), 8).share == 1


@pytest.fixture
def executorch():
    return pytest.importorskip("executorch", reason="executorch is not installed: plainvision[mobile] brings it")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_answers_as_the_network_and_tells_what_is_delegated(executorch, name, tmp_path):
    model = built(name).eval()
    least = 0.95 if not LEFT[name] else 0.7
    report = export(model, tmp_path / "out", preprocessing=SMALL, format="executorch", least_delegated=least)
    assert report.largest_relative_error < 1e-4
    assert set(report.delegation.left) == LEFT[name]
    assert (report.delegation.share == 1) == (not LEFT[name])
    assert "the file takes 8 images at once" in str(report)
    said = json.loads((tmp_path / "out" / "deploy.json").read_text())
    assert said["delegation"] == {
        "share": report.delegation.share,
        "left": report.delegation.left,
        "most_images": 8,
    }
    assert "executorch" in said["versions"]
    deployed = load(tmp_path / "out")
    assert deployed.description.delegation == report.delegation
    pixels = np.random.default_rng(0).integers(0, 256, (19, 64, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = model(torch.from_numpy(SMALL.normalised(pixels))).numpy()
    for count in (1, 8, 19):  # more than 8 are run in parts
        found = deployed.logits(pixels[:count])
        np.testing.assert_allclose(found, expected[:count], rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_too_small_a_share_is_refused_and_leaves_nothing(executorch, tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    with pytest.raises(ValueError, match=r"XNNPACK computes 50\.0% .* aten\._adaptive_avg_pool2d\. Allow less"):
        export(network, tmp_path / "out", preprocessing=SMALL, format="executorch")
    assert list(tmp_path.iterdir()) == []
    report = export(network, tmp_path / "out", preprocessing=SMALL, format="executorch", least_delegated=0.5)
    assert report.delegation.left == {"aten._adaptive_avg_pool2d": 1}


def test_exporting_leaves_the_network_as_it_was(executorch, tmp_path):
    model = built("vit").eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = model(images)
        export(model, tmp_path / "out", preprocessing=SMALL, format="executorch", least_delegated=0)
        torch.testing.assert_close(model(images), before, rtol=0, atol=0)
    assert all(getattr(module, "fused_attn", True) for module in model.modules())


class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


def test_an_operation_that_executorch_lacks_is_named_with_its_module(executorch, tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 5, 3), Bessel(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=r"Sequential, at its module 1.*cannot be exported to executorch: .*bessel_j0"):
        export(network, tmp_path / "out", preprocessing=SMALL, format="executorch")
    assert list(tmp_path.iterdir()) == []


def test_any_size_is_refused_before_the_work(executorch, tmp_path, monkeypatch):
    monkeypatch.delattr("plainvision.deploy.executorch_format.write")
    with pytest.raises(ValueError, match=r"executorch plans memory for images of one size\. Leave any_size out.* onnx"):
        export(built(), tmp_path / "out", preprocessing=SMALL, format="executorch", any_size=True)
    assert list(tmp_path.iterdir()) == []


def test_one_process_has_one_number_of_threads(executorch, tmp_path):
    from executorch.extension.pybindings.portable_lib import _threadpool_get_thread_count as count

    export(built(), tmp_path / "out", preprocessing=SMALL, format="executorch")
    pixels = np.zeros((2, 64, 64, 3), np.uint8)
    alone = load(tmp_path / "out", threads=1)
    assert count() == 1
    with pytest.raises(ValueError, match=r"one number of threads for all files of a process: 1, and 2 are asked for"):
        load(tmp_path / "out", threads=2)
    expected = alone.logits(pixels)
    del alone
    np.testing.assert_allclose(load(tmp_path / "out", threads=2).logits(pixels), expected, rtol=1e-5)
    assert count() == 2


def test_predict_py_runs_the_file(executorch, tmp_path):
    export(built(), tmp_path / "out", preprocessing=SMALL, format="executorch", classes=("a", "b", "c", "d", "e"))
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8))
    photo.save(tmp_path / "photo.png")
    words = [sys.executable, str(tmp_path / "out" / "predict.py"), str(tmp_path / "photo.png")]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    (answer,) = load(tmp_path / "out").predict([photo], top=1)
    assert printed.split() == [str(tmp_path / "photo.png"), *answer.classes, str(round(answer.confidences[0], 6))]


def test_nothing_but_fp32_is_offered(tmp_path):
    assert FORMATS["executorch"].precisions == ("fp32",)
    with pytest.raises(ValueError, match=r"executorch offers no int8, only fp32\. int8 is offered by onnx, openvino"):
        export(built(), tmp_path / "out", preprocessing=SMALL, format="executorch", precision="int8")
