"""Sets of labels on the command line: trained, scored, asked, explained and deployed, or refused in words."""

import csv
import json
from pathlib import Path

import pytest
from commands.running import plainvision, row, said
from training.label_sets_for_tests import LABELS, write_images


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    """A folder with images, labels.csv and, trained on them, run."""
    place = tmp_path_factory.mktemp("colours")
    write_images(place, 120, head="columns")
    words = ("--epochs", 3, "--lr", "5e-3", "--data.workers", 0, "--machine.threads", 1)
    found = plainvision("train", "--multi-label", *data(place), "--data.image-size", 32, *words, "--out", place / "run")
    assert found.status == 0, found.err
    for part in ("90 images an epoch", "task=MultiLabel(threshold=0.5)", "mAP ", "best "):
        assert part in found.out
    return place


def data(place: Path) -> tuple[object, ...]:
    return "--data.root", place / "images", "--data.labels", place / "labels.csv"


def test_evaluation_tells_scores_with_intervals_and_writes_them(colours, tmp_path):
    files = ("--csv", tmp_path / "all.csv", "--report", tmp_path / "page.html")
    found = plainvision("evaluate", colours / "run", *data(colours), "--scores", "--fuse", *files)
    assert found.status == 0, found.err
    assert "both forms give the same labels to 30 of 30 images" in found.out
    for name in ("mAP %", "macro F1 % at 0.5", "micro F1 % at 0.5", *LABELS):
        assert "–" in row(found.out.split("labels of a confidence")[0], name)[1]
    assert "labels of a confidence of 0.5 or more count as given:" in found.out
    with (tmp_path / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    for one in rows:
        given = {name for name in LABELS if float(one[f"confidence {name}"]) >= 0.5}
        assert set(one["predicted"].split("|")) - {""} == given
    page = (tmp_path / "page.html").read_text()
    assert "Mean average precision is" in page
    assert "from a confidence of 0.5 on" in page


def test_a_threshold_changes_what_is_given_and_not_the_average_precision(colours):
    found = [plainvision("evaluate", colours / "run", *data(colours), *words) for words in ((), ("--threshold", 0.01))]
    first, second = (one.out for one in found)
    assert row(first, "mAP %") == row(second, "mAP %")
    assert "macro F1 % at 0.01" in second
    low = plainvision("evaluate", colours / "run", *data(colours), "--threshold", 2)
    assert said(low, "threshold=2", "must not be negative, nor above 1")


def test_a_network_is_compared_with_another(colours):
    found = plainvision("evaluate", colours / "run", *data(colours), "--against", colours / "run")
    assert "the two cannot be told apart: the mAP of the second differs by +0.0 points" in found.out


def test_predictions_are_sets(colours, tmp_path):
    images = sorted((colours / "images").glob("1*.png"))[:4]
    shown = plainvision("predict", colours / "run", *images, "--top", 2)
    assert shown.out.count(", ") >= 4
    assert "unsure" not in shown.out
    piped = plainvision("predict", colours / "run", *images, "--jsonl", "-", "--threshold", 0.3)
    for line in map(json.loads, piped.out.splitlines()):
        given = [n for n, c in zip(line["classes"], line["confidences"], strict=True) if c >= 0.3]
        assert line["labels"] == given
    plainvision("predict", colours / "run", *images, "--csv", tmp_path / "some.csv", "--top", 1)
    with (tmp_path / "some.csv").open() as file:
        assert next(csv.reader(file)) == ["image", "labels", "class_1", "confidence_1"]


def test_an_explanation_and_a_deployed_folder_answer_in_sigmoids(colours, tmp_path):
    image = colours / "images" / "8.png"
    told = plainvision("explain", image, "--model", colours / "run", "--no-deletion", "--out", tmp_path / "maps.png")
    asked = json.loads(plainvision("predict", colours / "run", image, "--jsonl", "-").out)
    for name, confidence in zip(asked["classes"], asked["confidences"], strict=True):
        assert f"{name} {confidence:.1%}" in told.out
    assert plainvision("deploy", colours / "run", "--out", tmp_path / "made").status == 0
    deployed = json.loads(plainvision("predict", tmp_path / "made", image, "--jsonl", "-").out)
    assert deployed["labels"] == asked["labels"]
    scored = plainvision("evaluate", tmp_path / "made", *data(colours))
    assert row(scored.out, "mAP %") == row(plainvision("evaluate", colours / "run", *data(colours)).out, "mAP %")


def test_folds_are_trained_one_after_the_other(colours, tmp_path):
    (tmp_path / "labels.csv").write_text((colours / "labels.csv").read_text().replace("validation", "train"))
    words = ("--data.root", colours / "images", "--data.labels", tmp_path / "labels.csv", "--data.folds", 2)
    found = plainvision(
        *("train", "--multi-label", *words, "--data.image-size", 32, "--epochs", 1, "--lr", "5e-3"),
        *("--data.workers", 0, "--machine.threads", 1, "--out", tmp_path / "folds"),
    )
    assert found.status == 0, found.err
    record = json.loads((tmp_path / "folds" / "cross_validation.json").read_text())
    assert record["images"] == 120
    assert record["map_mean"] == pytest.approx(sum(fold["map"] for fold in record["folds"]) / 2)


def test_what_takes_one_class_is_refused_in_words(colours, tmp_path):
    run, given = colours / "run", data(colours)
    for words, what in (
        (("deploy", run, "--precision", "int8", *given, "--out", tmp_path / "a"), "the gate of --precision"),
        (("tune", run, *given, "--out", tmp_path / "a"), "the gate of tune is for networks that name its one class"),
        (("evaluate", run, *given, "--sizes", 32, 64), "--sizes is for networks"),
        (("explain", "--model", run, "--wrong", 1, *given, "--out", tmp_path / "m.png"), "the choice by --wrong"),
        (("card", run), "the model card is for networks"),
        (("predict", run, colours / "images" / "1.png", "--copy-to", tmp_path / "a"), "--copy-to puts an image into"),
        (("train", "vanillanet_digits", "--multi-label", "--out", tmp_path / "a"), "has one label for each image"),
        (("train", *given, "--out", tmp_path / "a"), "where an image has a set of labels, train with --multi-label"),
    ):
        assert said(plainvision(*words), what)
        assert not (tmp_path / "a" / "recipe.json").exists()
