"""Detectors in deployed folders: the graphs of ONNX Runtime and the file of numpy find what torchvision finds."""

import ast
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks_for_tests import trained
from PIL import Image
from timm.layers import Conv2dSame
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms, box_iou

import plainvision as pv
from plainvision.deploy.forms import with_even_padding

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

KINDS = ("retinanet", "mask_rcnn")
CLASSES = ("hat", "shoe", "<script>")


def made(kind: str) -> nn.Module:
    """Return a detector whose scores are spread, as training spreads them; its backbone can be fused."""
    torch.manual_seed(0)
    backbone = trained(pv.create_model("vanillanet_5", width=1 / 64))
    pv.set_slope(backbone, 1)
    network = pv.tasks.detector(backbone, kind, num_classes=3, width=8, min_size=96, max_size=160).eval()
    heads = network.head if kind == "retinanet" else network.roi_heads
    with torch.no_grad():
        for weight in network.backbone.fpn.parameters():
            weight.mul_(0.1)
        for name, weight in heads.named_parameters():
            if name.endswith("weight") and weight.ndim > 1:
                weight.normal_(std=(2 / weight[0].numel()) ** 0.5)
    if kind == "retinanet":
        nn.init.normal_(network.head.classification_head.cls_logits.weight, std=0.4)
        nn.init.zeros_(network.head.classification_head.cls_logits.bias)
        nn.init.normal_(network.head.regression_head.bbox_reg.weight, std=0.02)
    else:
        nn.init.normal_(network.roi_heads.box_predictor.cls_score.weight, std=2.5)
        nn.init.normal_(network.roi_heads.box_predictor.bbox_pred.weight, std=0.02)
        nn.init.normal_(network.rpn.head.bbox_pred.weight, std=0.05)
        network.rpn._pre_nms_top_n["testing"], network.rpn._post_nms_top_n["testing"] = 200, 100
        network.roi_heads.detections_per_img, network.roi_heads.score_thresh = 20, 0.01
    return network


def images(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    coarse = [torch.rand(1, 3, 9, 9, generator=generator) for _ in sizes]
    return [F.interpolate(one, size, mode="bicubic")[0].clamp(0, 1) for one, size in zip(coarse, sizes, strict=True)]


@pytest.fixture(scope="module", params=KINDS)
def exported(request, tmp_path_factory):
    network, folder = made(request.param), tmp_path_factory.mktemp("deployed") / request.param
    report = pv.deploy.export_detector(network, folder, classes=CLASSES)
    return network, folder, report


def arrays(batch):
    return [image.permute(1, 2, 0).numpy() for image in batch]


def paired(theirs, ours):
    """Return which of our objects each of theirs is: of two with the same score but for rounding, either is first."""
    apart = np.abs(ours["boxes"] - theirs["boxes"].numpy()[:, None]).max(2)
    apart += 1e3 * (ours["labels"] != theirs["labels"].numpy()[:, None])
    apart += np.abs(ours["scores"] - theirs["scores"].numpy()[:, None])  # boxes without area may lie on each other
    order = apart.argmin(1) if apart.size else np.zeros(0, int)
    assert len(ours["labels"]) == len(theirs["labels"])
    assert sorted(order) == list(range(len(order)))
    return order


@pytest.mark.parametrize(
    "batch", [images((90, 120), (200, 130), (96, 96), (40, 300)), images((64, 500)), images((150, 90), (151, 91))]
)
def test_the_file_finds_what_the_network_finds(exported, batch):
    network, folder, _ = exported
    with torch.no_grad():
        expected = network(batch)
    found = pv.deploy.load_detector(folder, threads=1).find(arrays(batch))
    assert sum(len(one["boxes"]) for one in expected) >= 20
    for theirs, ours in zip(expected, found, strict=True):
        assert set(theirs) == set(ours)
        np.testing.assert_allclose(ours["scores"], theirs["scores"], rtol=0, atol=1e-5)
        order = paired(theirs, ours)
        np.testing.assert_array_equal(ours["labels"][order], theirs["labels"])
        np.testing.assert_allclose(ours["boxes"][order], theirs["boxes"], rtol=0, atol=1e-3)
        if "masks" in theirs:
            np.testing.assert_allclose(ours["masks"][order], theirs["masks"][:, 0], rtol=0, atol=1e-4)


def test_the_report_says_what_was_compared(exported):
    network, folder, report = exported
    assert report.objects >= 60
    assert report.shared == report.objects
    assert report.largest_box_error < 1e-3
    assert report.largest_relative_error < 1e-5
    assert report.unfused is None
    assert f"it finds {report.shared}; their boxes differ by" in str(report)
    said = json.loads((folder / "deploy.json").read_text())
    assert said["proof"]["shared"] == report.shared
    assert said["parameters"] < sum(one.numel() for one in network.parameters())
    assert said["classes"] == list(CLASSES)


def test_an_image_without_objects_is_no_error(exported):
    _, folder, _ = exported
    detector = pv.deploy.load_detector(folder, threads=1)
    last = "heads" if detector.description.kind == "mask_rcnn" else "dense"
    finder = detector._find
    finder.about = finder.about | {last: finder.about[last] | {"above": 1.0}}
    (found,) = detector.find([np.zeros((50, 60, 3), np.uint8)])
    assert found["boxes"].shape == (0, 4)
    assert found["labels"].shape == found["scores"].shape == (0,)
    if detector.description.kind == "mask_rcnn":
        assert found["masks"].shape == (0, 50, 60)


def test_the_commands_networks_find_the_same(exported):
    network, folder, _ = exported
    loaded = pv.tasks.load(folder)
    photo = Image.fromarray((images((90, 120))[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8))
    (ours,) = pv.tasks.find_objects(loaded, [photo], least_score=0.2)
    with torch.no_grad():
        (theirs,) = network([torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1) / 255])
    kept = (theirs["scores"] >= 0.2) & (theirs["labels"] > 0)
    assert kept.any()
    assert (loaded.classes, ours.labels.tolist()) == (CLASSES, theirs["labels"][kept].tolist())
    np.testing.assert_allclose(ours.boxes, theirs["boxes"][kept], rtol=0, atol=1e-3)
    assert (ours.masks is None) == ("masks" not in theirs)


def test_predict_py_needs_nothing_of_this_package(exported, tmp_path):
    network, folder, _ = exported
    script = folder / "predict.py"
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(script.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported == {"PIL", "json", "math", "numpy", "onnxruntime", "pathlib", "sys", "typing"}
    photo = tmp_path / "photo.png"
    Image.fromarray((images((90, 120))[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(photo)
    words = [sys.executable, "-I", script, photo]
    said = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True).stdout
    with torch.no_grad():
        (expected,) = network([torch.from_numpy(np.asarray(Image.open(photo)).copy()).permute(2, 0, 1) / 255])
    sure = (expected["scores"] >= 0.5) & (expected["labels"] > 0)
    lines = [line.rsplit(" ", 6) for line in said.splitlines()]
    assert len(lines) == int(sure.sum()) > 0
    assert [line[1] for line in lines] == [CLASSES[label - 1] for label in expected["labels"][sure]]
    boxes = [[float(value) for value in line[3:]] for line in lines]
    np.testing.assert_allclose(boxes, expected["boxes"][sure], rtol=0, atol=0.06)


def test_what_was_edited_or_exchanged_is_told(exported, tmp_path):
    _, folder, report = exported
    copied = tmp_path / "copied"
    copied.mkdir()
    for path in folder.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    said = json.loads((copied / "deploy.json").read_text())

    def edited(**changes):
        (copied / "deploy.json").write_text(json.dumps(said | changes))
        return copied

    with pytest.raises(ValueError, match="most=1000000000 must be above zero and at most 10000"):
        pv.deploy.load_detector(edited(dense=said["dense"] | {"most": 10**9}))
    with pytest.raises(ValueError, match=r"anchors\[0\].* must be a list"):
        pv.deploy.load_detector(edited(anchors=[["x"]]))
    with pytest.raises(ValueError, match="min_size=100000 must be"):
        pv.deploy.load_detector(edited(resize=said["resize"] | {"min_size": 100_000}))
    with pytest.raises(ValueError, match="unknown field 'run'"):
        pv.deploy.load_detector(edited(run="rm"))
    with pytest.raises(ValueError, match=f"a {report.kind} has the graphs .*model.onnx"):
        pv.deploy.load_detector(edited(files=said["files"] | {"../other.onnx": "0"}))
    with pytest.raises(ValueError, match="mean, anchors, heads and scales do not belong"):
        pv.deploy.load_detector(edited(mean=[0.5, 0.5]))
    edited()
    with (copied / "model.onnx").open("ab") as file:
        file.write(b"0")
    with pytest.raises(ValueError, match="belongs to other files"):
        pv.deploy.load_detector(copied)


def test_a_folder_of_another_task_is_told(exported, tmp_path):
    _, folder, _ = exported
    with pytest.raises(ValueError, match="does not name the class of an image: it detects"):
        pv.deploy.load(folder)
    with pytest.raises(FileNotFoundError, match="no deployed network in"):
        pv.deploy.load_detector(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_exported_is_told_and_leaves_nothing(kind, tmp_path):
    network = made(kind)
    with pytest.raises(ValueError, match="2 classes are named, and the detector has 3"):
        pv.deploy.export_detector(network, tmp_path / "out", classes=("a", "b"))
    with pytest.raises(ValueError, match=r"finds objects.*`plainvision.deploy.export_detector` writes it"):
        pv.deploy.export(network, tmp_path / "out", preprocessing=pv.deploy.Preprocessing(64))
    pv.set_slope(network, 0.5)
    with pytest.raises(ValueError, match=r"cannot fuse a LinearPair at slope=0\.5"):
        pv.deploy.export_detector(network, tmp_path / "out")
    network.transform.fixed_size = (64, 64)
    with pytest.raises(ValueError, match="resizes to a fixed size"):
        pv.deploy.export_detector(network, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_other_networks_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"Linear is neither a RetinaNet nor a Mask R-CNN.*`export_segmenter`"):
        pv.deploy.export_detector(nn.Linear(2, 2), tmp_path / "out")
    backbone = made("mask_rcnn").backbone
    with pytest.raises(ValueError, match="FasterRCNN is neither"):
        pv.deploy.export_detector(FasterRCNN(backbone, 3), tmp_path / "out")


def test_boxes_that_differ_are_refused(exported, monkeypatch):
    from plainvision.deploy import detector_script
    from plainvision.deploy.detector_exporting import _shared

    network, folder, _ = exported
    batch = images((96, 120))
    with torch.no_grad():
        answers = [[{name: value.numpy() for name, value in one.items()} for one in network(batch)]] * 2
    right = detector_script.decoded
    for far, message in (
        (0.3, r"a box .* lies .* pixels from the network's, in an image of"),
        (9, "objects the exported detector finds"),
    ):
        finder = pv.deploy.load_detector(folder, threads=1)._find
        monkeypatch.setattr(detector_script, "decoded", lambda *given, far=far: right(*given) + np.float32(far))
        with pytest.raises(ValueError, match=message):
            _shared(finder, batch, answers)


class TestInNumpy:
    """What the file of numpy computes is what torchvision computes."""

    def test_resizing(self):
        from plainvision.deploy.detector_script import resized

        image = torch.rand(3, 37, 53)
        for size in ((80, 100), (20, 30), (37, 90), (1, 1)):
            expected = F.interpolate(image[None], size, mode="bilinear")[0]
            np.testing.assert_allclose(resized(image.numpy(), *size), expected, rtol=0, atol=5e-6)

    def test_boxes_of_codes(self):
        from plainvision.deploy.detector_script import decoded

        codes, boxes = torch.randn(50, 4) * 4, torch.rand(50, 4).cumsum(1) * 100
        for weights in ((1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)):
            expected = BoxCoder(weights).decode_single(codes, boxes)
            np.testing.assert_allclose(decoded(codes.numpy(), boxes.numpy(), weights), expected, rtol=1e-6, atol=1e-4)

    def test_anchors(self):
        from plainvision.deploy.detector_script import anchors

        made = AnchorGenerator(((16, 20), (40, 50)), ((0.5, 1.0, 2.0),) * 2)
        grids = [torch.zeros(1, 1, 12, 16), torch.zeros(1, 1, 6, 8)]
        (expected,) = made(ImageList(torch.zeros(1, 3, 96, 128), [(96, 128)]), grids)
        found = [
            anchors(base.numpy(), grid.shape[2:], (96, 128))
            for base, grid in zip(made.cell_anchors, grids, strict=True)
        ]
        np.testing.assert_array_equal(np.concatenate(found), expected)

    @pytest.mark.parametrize("count", [200, 1500])  # torchvision has two ways, by the number
    def test_suppression(self, count):
        from plainvision.deploy.detector_script import chosen, overlap

        torch.manual_seed(count)
        corners = torch.rand(count, 2) * 200
        boxes = torch.cat([corners, corners + torch.rand(count, 2) * 80], 1)
        scores, groups = torch.rand(count), torch.randint(0, 4, (count,))
        kept = batched_nms(boxes, scores, groups, 0.5)[:150]
        how = {"least_side": 0.0, "overlap": 0.5, "most": 150}
        arrays = [one.numpy() for one in (boxes, groups, scores, groups)]
        for ours, theirs in zip(chosen(*arrays, how), (boxes, groups, scores), strict=True):
            np.testing.assert_array_equal(ours, theirs[kept])
        np.testing.assert_allclose(overlap(arrays[0][0], arrays[0]), box_iou(boxes[:1], boxes)[0], rtol=1e-6)

    def test_a_score_does_not_overflow(self):
        from plainvision.deploy.detector_script import sigmoid

        found = sigmoid(np.array([-200.0, 0.0, 200.0], np.float32))
        assert found.tolist() == [0.0, 0.5, 1.0]
        assert not any(map(math.isnan, found))


def test_the_file_is_the_one_that_is_tested(exported):
    _, folder, _ = exported
    source = Path(pv.deploy.__file__).parent / "detector_script.py"
    assert (folder / "predict.py").read_text() == source.read_text()


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (3, 1, 2), (2, 4, 1), ((3, 5), (2, 1), 1)]
)
def test_padding_as_tensorflow_has_it_becomes_constant_for_even_sizes(kernel, stride, dilation):
    network = torch.nn.Sequential(Conv2dSame(3, 4, kernel, stride, dilation=dilation), torch.nn.ReLU())
    images = torch.rand(2, 3, 32, 64)
    changed = with_even_padding(network)
    assert not [layer for layer in changed.modules() if isinstance(layer, Conv2dSame)]
    assert_close(changed(images), network(images), rtol=0, atol=0)


@pytest.mark.slow
def test_a_detector_that_pads_as_tensorflow_does_is_exported(tmp_path):
    backbone = pv.create_model("tf_efficientnet_lite0")
    network = pv.tasks.detector(backbone, num_classes=2, width=16, min_size=96, max_size=160).eval()
    report = pv.deploy.export_detector(network, tmp_path / "lite0")
    assert report.largest_box_error < 1e-3
