"""`plainvision detect` and `plainvision segment`, from training to drawings."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands.running import plainvision, said
from PIL import Image
from tasks.scenes_for_tests import SIDE, coco_folder, label_folder, pack

import plainvision as pv
from plainvision.models.reading import read_safetensors, save_tensors
from plainvision.tasks.masks import mask_of
from plainvision.training.run_folder import recipe_of

SHORT = (
    *("--epochs", "1", "--warmup-epochs", "0", "--batch-size", "2", "--model", "vanillanet_5"),
    *("--model-options", "width", "0.015625", "--width", "8", "--data.workers", "0", "--machine.threads", "1"),
    *("--data.image-size", str(SIDE)),
)


@pytest.fixture(scope="module")
def detected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detect")
    root = pack(coco_folder(folder / "squares"))
    out = folder / "run"
    ended = plainvision("detect", "train", "mask_rcnn", *SHORT, "--data.root", root, "--out", out)
    assert (ended.status, ended.err) == (0, "")
    assert "box AP" in ended.out.splitlines()[-1]
    assert f"weights in {out}" in ended.out
    return out, root


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segment")
    root, out = label_folder(folder / "squares"), folder / "run"
    words = ("--data.root", root, "--data.train-split", "training", "--zero-ignored", "--out", out)
    ended = plainvision("segment", "train", "upernet", *SHORT, *words)
    assert (ended.status, ended.err) == (0, "")
    assert "mIoU" in ended.out.splitlines()[-1]
    return out, root


def test_anchors_fit_the_training_boxes_on_request(detected, tmp_path):
    out, root = tmp_path / "run", detected[1]
    words = (*SHORT, "--data.root", root, "--anchor-sizes", "fit", "--out", out)
    ended = plainvision("detect", "train", "retinanet", *words)
    assert (ended.status, ended.err) == (0, "")
    sizes = recipe_of(out).task.anchor_sizes
    assert sizes[0][0] == 24  # three strides: the squares are smaller
    assert f"anchor_sizes=fit: {sizes}" in ended.out
    ended = plainvision("detect", "train", "retinanet", *words, "--resume")
    assert (ended.status, ended.err) == (0, "")


def test_a_detector_is_scored(detected, tmp_path):
    out, root = detected
    ended = plainvision("detect", "evaluate", out, "--data.root", root, "--csv", tmp_path / "scores.csv")
    assert (ended.status, ended.err) == (0, "")
    assert "validation: 3 images, 1 of them without objects; 3 objects" in ended.out
    assert "mask AP" in ended.out
    rows = list(csv.reader((tmp_path / "scores.csv").read_text().splitlines()))
    assert rows[0] == ["class", "box_ap", "mask_ap"]
    assert rows[1][0] == "all"
    assert said(plainvision("detect", "evaluate", out), "data.root", "a file opens nothing by itself")


def test_what_is_found_is_drawn_and_written_as_coco_results(detected, tmp_path):
    out, root = detected
    shutil.unpack_archive(root, tmp_path)
    photo = tmp_path / "squares" / "train" / "2.png"
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    words = (
        "detect",
        "predict",
        out,
        photo,
        photo,
        tmp_path / "bad.jpg",
        "--out",
        tmp_path / "found",
        "--score",
        "0.05",
    )
    ended = plainvision(*words, "--device", "cpu")
    assert ended.status == 0
    assert ended.err.startswith(f"skipped {tmp_path / 'bad.jpg'} (")
    assert "objects in 2 images" in ended.out
    assert {path.name for path in (tmp_path / "found").iterdir()} == {"2.png", "2_2.png", "results.json", "images.json"}
    images = json.loads((tmp_path / "found" / "images.json").read_text())
    assert [image["id"] for image in images["images"]] == [1, 2]
    assert images["categories"] == [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]
    results = json.loads((tmp_path / "found" / "results.json").read_text())
    assert results
    for one in results:
        assert set(one) == {"image_id", "category_id", "score", "bbox", "segmentation"}
        assert mask_of(one["segmentation"], SIDE, SIDE).shape == (SIDE, SIDE)
        x, y, width, height = one["bbox"]
        assert min(x, y) >= 0
        assert max(x + width, y + height) <= SIDE
    with Image.open(tmp_path / "found" / "2.png") as drawn:
        assert drawn.width == 480
        assert drawn.height > 480  # the legend is below


def test_a_segmenter_is_scored_at_several_scales(segmented, tmp_path):
    out, root = segmented
    words = (
        "segment",
        "evaluate",
        out,
        "--data.root",
        root,
        "--scales",
        "0.5",
        "1",
        "--flip",
        "--csv",
        tmp_path / "a.csv",
    )
    ended = plainvision(*words)
    assert (ended.status, ended.err) == (0, "")
    assert "on 2 images" in ended.out
    rows = list(csv.reader((tmp_path / "a.csv").read_text().splitlines()))
    assert rows[0] == ["class", "iou"]
    assert rows[1][0] == "mean"


def test_areas_are_drawn_and_written_as_maps(segmented, tmp_path):
    out, root = segmented
    words = ("segment", "predict", out, root / "images" / "validation", "--out", tmp_path / "areas", "--device", "cpu")
    ended = plainvision(*words)
    assert (ended.status, ended.err) == (0, "")
    with Image.open(tmp_path / "areas" / "maps" / "0.png") as drawn:
        labels = np.asarray(drawn)
    assert labels.shape == (SIDE, SIDE + 16)
    assert set(np.unique(labels)) <= {0, 1}
    assert json.loads((tmp_path / "areas" / "classes.json").read_text()) == {"classes": ["ground", "square"]}
    with Image.open(tmp_path / "areas" / "0.png") as drawn:
        assert drawn.width == 480


def finish_annealing(run: Path) -> None:
    """Set the slopes of a run to 1, as a longer one would end."""
    for name in ("best", "last"):
        tensors, words = read_safetensors(run / f"{name}.safetensors")
        linear = {key: torch.ones_like(value) if key.endswith("slope") else value for key, value in tensors.items()}
        save_tensors(run / f"{name}.safetensors", linear, words)


@pytest.mark.parametrize("command", ["detect", "segment"])
def test_the_deployed_form_has_the_same_scores(request, command, tmp_path):
    out, root = request.getfixturevalue(f"{command}ed")
    shutil.copytree(out, tmp_path / "run")
    assert said(plainvision("fuse", tmp_path / "run"), "cannot fuse a LinearPair at slope=0.0")
    assert said(plainvision(command, "evaluate", f"{tmp_path / 'run'}:deployed", "--data.root", root), "at slope=0.0")
    finish_annealing(tmp_path / "run")
    ended = plainvision("fuse", tmp_path / "run")
    assert (ended.status, ended.err) == (0, "")
    file = tmp_path / "run" / "deployed.safetensors"
    assert f"deployed form in {file}" in ended.out
    scores = [
        plainvision(command, "evaluate", network, "--data.root", root)
        for network in (tmp_path / "run", file, f"{tmp_path / 'run'}:deployed")
    ]
    assert [ended.err for ended in scores] == [""] * 3
    assert len({ended.out for ended in scores}) == 1
    csv_file = tmp_path / "both.csv"
    ended = plainvision(command, "evaluate", tmp_path / "run", "--data.root", root, "--fuse", "--csv", csv_file)
    assert (ended.status, ended.err) == (0, "")
    assert "deployed" in ended.out
    head, *lines = csv.reader(csv_file.read_text().splitlines())
    measures = ["box_ap", "mask_ap"] if command == "detect" else ["iou"]
    assert head == ["class", *measures, *(f"{name}_deployed" for name in measures)]
    for line in lines:
        first, second = (
            [float(one or -1) for one in part] for part in (line[1 : -len(measures)], line[-len(measures) :])
        )
        assert first == pytest.approx(second, abs=1e-6)


def test_techniques_weights_and_norms_are_matters_of_words(detected, tmp_path):
    _, root = detected
    torch.save(pv.create_model("vanillanet_5", num_classes=3, width=1 / 64).state_dict(), tmp_path / "weights.pth")
    words = ("detect", "train", "retinanet", *SHORT, "--data.root", root, "--start-from", tmp_path / "weights.pth")
    techniques = ("--with", "frozen-backbone:epochs=1", "--with", "ema:decay=0.5", "--log", "tensorboard")
    ended = plainvision(*words, *techniques, "--out", tmp_path / "a")
    assert (ended.status, ended.err) == (0, "")
    found = recipe_of(tmp_path / "a")
    assert [type(one).__name__ for one in found.techniques] == ["FrozenBackbone", "EMA"]
    assert found.task.freeze_norms  # as is right for trained weights
    assert (tmp_path / "a" / "tensorboard").is_dir()
    ended = plainvision(*words, "--no-freeze-norms", "--out", tmp_path / "b")
    assert (ended.status, ended.err) == (0, "")
    assert not recipe_of(tmp_path / "b").task.freeze_norms
    assert said(plainvision(*words, "--task.width", "8", "--out", tmp_path / "c"), "without --task: write --width")
    assert said(plainvision(*words, "--with", "emma", "--out", tmp_path / "c"), "Did you mean ema?")
    assert said(plainvision(*words[:3], *SHORT, "--out", tmp_path / "c"), "Name their folder or archive with data.root")
    assert not (tmp_path / "c").exists()


def test_wrong_words_are_told(detected, segmented, tmp_path):
    out, root = detected
    assert said(plainvision("detect", "train", "retinet", "--out", tmp_path / "a"), "Did you mean retinanet")
    assert said(plainvision("segment", "train", "--out", tmp_path / "a"), "the recipe's name comes first")
    assert said(
        plainvision("segment", "evaluate", out, "--data.root", root), "was trained to detect", "plainvision detect"
    )
    assert said(plainvision("detect", "predict", segmented[0], "a.jpg"), "was trained to segment")
    assert said(plainvision("detect", "predict", out), "give images behind the network")
    ended = plainvision("detect", "predict", out, tmp_path / "no.jpg", "--out", tmp_path / "b")
    assert (ended.status, ended.out) == (2, "")
    assert "plainvision: no image could be read" in ended.err
    assert said(
        plainvision("predict", out, "a.jpg"), "does not name the class of an image", "plainvision detect predict"
    )
    assert said(plainvision("detect", "evaluate", tmp_path / "none"), "no weights at")
    words = ("detect", "train", "retinanet", *SHORT, "--data.root", root, "--out", tmp_path / "c")
    assert said(plainvision(*words, "--augment.mixup", "0.2"), "augment.mixup=0.2 is for images with one label each")
    assert said(plainvision("detect", "tain"), "unknown command 'detect tain'. Did you mean train?")


def test_a_detector_is_deployed_and_asked_by_its_folder(detected, tmp_path):
    pytest.importorskip("onnxscript")
    out, root = tmp_path / "run", detected[1]
    shutil.copytree(detected[0], out)
    finish_annealing(out)
    deployed, photo = tmp_path / "deployed", tmp_path / "squares" / "train" / "2.png"
    shutil.unpack_archive(root, tmp_path)
    ended = plainvision("deploy", out, "--out", deployed)
    assert (ended.status, ended.err) == (0, "")
    assert "the graphs differ from the layers by" in ended.out
    ours = plainvision("detect", "evaluate", deployed, "--data.root", root)
    theirs = plainvision("detect", "evaluate", out, "--data.root", root)
    assert (ours.status, ours.out) == (0, theirs.out)
    ended = plainvision("detect", "predict", deployed, photo, "--out", tmp_path / "found", "--score", "0.05")
    assert (ended.status, ended.err) == (0, "")
    assert said(
        plainvision("deploy", out, "--to", "openvino", "--out", tmp_path / "a"), "holds no detector", "--to out"
    )
    assert said(plainvision("deploy", out, "--precision", "int8", "--out", tmp_path / "a"), "--precision int8 is for")
    assert said(plainvision("predict", deployed, photo), "it detects", "plainvision detect predict")
    assert said(plainvision("segment", "predict", deployed, photo), "was trained to detect")
    assert not (tmp_path / "a").exists()


def test_a_segmenter_is_deployed_and_asked_by_its_folder(segmented, tmp_path):
    out, root = tmp_path / "run", segmented[1]
    shutil.copytree(segmented[0], out)
    finish_annealing(out)
    deployed, photo = tmp_path / "deployed", root / "images" / "validation" / "0.jpg"
    ended = plainvision("deploy", out, "--to", "torch", "--out", deployed)
    assert (ended.status, ended.err) == (0, "")
    assert "torch fp32" in ended.out
    ours = plainvision("segment", "evaluate", deployed, "--data.root", root, "--zero-ignored")
    theirs = plainvision("segment", "evaluate", out, "--data.root", root)
    assert (ours.status, ours.err, ours.out) == (0, "", theirs.out)
    ours, theirs = (
        plainvision("segment", "predict", one, photo, "--out", tmp_path / name)
        for one, name in ((deployed, "ours"), (out, "theirs"))
    )
    assert (ours.status, ours.err, ours.out.splitlines()[0]) == (0, "", theirs.out.splitlines()[0])
    assert said(
        plainvision("deploy", out, "--input", "uint8", "--out", tmp_path / "a"), "--input uint8 is for networks"
    )
    assert said(plainvision("predict", deployed, photo), "it segments")
