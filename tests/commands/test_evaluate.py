"""`plainvision evaluate`: scores in both forms, on other data, at other sizes."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands.running import killed, plainvision, row, rows, said
from pages_for_tests import Reader, assert_self_contained
from safetensors.torch import save_file

import plainvision as pv
from plainvision.data.batches import EvaluationBatches
from plainvision.training import resolutions
from plainvision.training.resolutions import evaluate_sizes
from plainvision.training.weights_file import load_network


def test_evaluate_scores_both_forms(run, tmp_path):
    file = tmp_path / "new" / "answers.csv"
    ended = plainvision("evaluate", run.folder, "--fuse", "--csv", file)
    assert (ended.status, ended.err) == (0, "")
    table, top1, top5 = rows(ended.out), row(ended.out, "top-1 %"), row(ended.out, "top-5 %")
    assert float(top1[0]) > 70  # chance is 10
    assert float(top5[0]) > float(top1[0])
    assert top1 == [top1[0]] * 2
    assert "360 images of digits" in ended.out
    assert "both forms name the same class for 360 of 360 images" in ended.out
    assert f"predictions in {file}" in ended.out
    assert f"top-1 {top1[0]} %" in run.finished.out

    with file.open(newline="") as lines:
        answers = list(csv.DictReader(lines))
    assert list(answers[0]) == ["image", "label", "predicted", "confidence", "loss", "form", "found_in"]
    for column, form in enumerate(("as it is", "deployed")):
        mine = [answer for answer in answers if answer["form"] == form]
        assert len({answer["image"] for answer in mine}) == 360
        right = [answer["label"] for answer in mine if answer["label"] == answer["predicted"]]
        assert top1[column] == f"{100 * len(right) / 360:.2f}"
        for digit in "0123456789":
            share = right.count(digit) / sum(answer["label"] == digit for answer in mine)
            assert table[digit][column] == f"{100 * share:.2f}"
        assert all(0.1 <= float(answer["confidence"]) <= 1 for answer in mine)


def test_evaluate_takes_the_newest_weights_too(run, tmp_path):
    newest = tmp_path / "newest"
    newest.mkdir()
    shutil.copy(run.folder / "last.safetensors", newest)
    ended = plainvision("evaluate", newest, "--weights", "last")
    assert ended.status == 0
    assert f"top-1 {row(ended.out, 'top-1 %')[0]} %" in run.finished.out
    assert said(
        plainvision("evaluate", newest), f"no weights at {newest / 'best.safetensors'}. Nearby: last.safetensors"
    )


def test_evaluate_scores_other_data_by_the_names_of_its_classes(run, two_digits, tmp_path):
    place = ("--data.validation-root", two_digits, "--data.validation-split", "test")
    ended = plainvision("evaluate", run.folder, *place, "--csv", tmp_path / "some.csv", "--batch-size", 16)
    assert ended.status == 0
    assert set("0123456789") & set(rows(ended.out)) == {"3", "7"}
    plainvision("evaluate", run.folder, "--csv", tmp_path / "all.csv")
    tables = []
    for name in ("some", "all"):
        with (tmp_path / f"{name}.csv").open(newline="") as lines:
            answers = csv.DictReader(lines)
            tables.append({Path(a["image"]).stem: (a["label"], a["predicted"], a["confidence"]) for a in answers})
    some, every = tables
    assert f"{len(some)} images of {two_digits}" in " ".join(ended.out.split())
    assert {label for label, _, _ in some.values()} == {"3", "7"}
    same = some.keys() & every.keys()
    assert len(same) > 5
    for image in same:
        assert some[image][:2] == every[image][:2]
        assert float(some[image][2]) == pytest.approx(float(every[image][2]), abs=1e-4)


def test_evaluate_reads_at_another_size(run):
    scores = {
        size: rows(plainvision("evaluate", run.folder, "--data.image-size", size).out)["loss"] for size in (32, 48)
    }
    assert scores[32] != scores[48]


def test_evaluate_tells_which_images_it_could_not_read(run, two_digits):
    (two_digits / "test" / "7" / "torn.png").write_bytes(b"torn")
    ended = plainvision("evaluate", run.folder, "--data.root", two_digits, "--data.validation-split", "test")
    assert "skipped sevens/test/7/torn.png (cannot identify image file" in ended.out


def test_evaluate_refuses_a_network_of_other_classes(two_digits, tmp_path):
    torch.manual_seed(0)
    save_file(pv.create_model("vanillanet_5").state_dict(), tmp_path / "v5.safetensors")
    named = ("evaluate", "--model", "vanillanet_5", "--checkpoint", tmp_path / "v5.safetensors")
    data = ("--data.root", two_digits, "--data.validation-split", "test", "--data.workers", 0, "--data.image-size", 64)
    said(plainvision(*named, *data), "the network has 1000 classes and the data 2 (3, 7): they do not belong together")


def test_weights_that_name_no_classes_are_told_the_order_that_is_taken(two_digits, tmp_path):
    save_file(pv.create_model("vanillanet_5", width=1 / 32, num_classes=2).state_dict(), tmp_path / "two.safetensors")
    network = ("vanillanet_5:width=0.03125,num_classes=2", "--checkpoint", tmp_path / "two.safetensors")
    data = ("--data.root", two_digits, "--data.validation-split", "test", "--data.workers", 0, "--data.image-size", 64)
    ended = plainvision("evaluate", *network, *data)
    assert ended.status == 0
    assert "2 classes, sorted by value: label 0 is 3, 1 is 7. --data.class-map FILE gives another order" in ended.out


def test_evaluate_wants_one_network_and_its_weights(run):
    nothing = plainvision("evaluate")
    assert (nothing.status, "NETWORK" in nothing.err) == (2, True)
    assert said(plainvision("evaluate", "vanillanet_5"), "no weights for vanillanet_5", "with --checkpoint, or")
    both = "brings its own weights and classes, and --checkpoint would give others"
    assert said(plainvision("evaluate", run.folder, "--checkpoint", "weights.pth"), both)


def test_evaluate_does_not_know_a_class_that_training_had_not(run, two_digits):
    (two_digits / "test" / "7").rename(two_digits / "test" / "seven")
    place = ("--data.validation-root", two_digits, "--data.validation-split", "test")
    assert said(plainvision("evaluate", run.folder, *place), "has the class 'seven', which training does not have")


def test_scores_per_class_and_the_most_confused_pairs(run):
    ended = plainvision("evaluate", run.folder, "--scores")
    assert ended.status == 0
    assert "calibration error" in ended.out
    assert "precision %" in ended.out
    assert "most confused:" in ended.out


def test_two_networks_are_compared_on_the_same_images(run):
    ended = plainvision("evaluate", run.folder, "--against", run.folder)
    assert ended.status == 0
    assert "the two cannot be told apart: the second differs by +0.0 points, 95 % interval" in ended.out
    assert "0 images only the second names rightly, 0 only the first, of 360" in ended.out
    assert said(plainvision("evaluate", run.folder, "--against", "nowhere/run"), "nowhere/run")


def test_every_confusion_and_the_largest_losses_are_printed(run, tmp_path):
    ended = plainvision("evaluate", run.folder, "--scores", "--csv", tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(newline="") as lines:
        answers = list(csv.DictReader(lines))
    worst = sorted(answers, key=lambda one: -float(one["loss"]))[:10]
    _, matrix, rest = re.split("confusions: .*|most confused:", ended.out)
    cells = {line[0]: line[1:] for line in map(str.split, matrix.splitlines()) if len(line) == 11}
    for label, counts in cells.items():
        for predicted, count in zip("0123456789", counts, strict=True):
            both = sum((one["label"], one["predicted"]) == (label, predicted) for one in answers)
            assert count == (str(both) if both else "·")
    assert list(cells) == list("0123456789")
    printed = rest.split("largest losses:")[1]
    places = [printed.index(one["image"]) for one in worst]
    assert places == sorted(places)
    wrong = [one for one in answers if one["label"] != one["predicted"]]
    assert all(float(one["loss"]) > 0.69 for one in wrong)  # another class has at least as much


def test_the_page_of_an_evaluation(run, tmp_path):
    ended = plainvision("evaluate", run.folder, "--fuse", "--report", tmp_path / "new" / "page.html")
    assert (ended.status, ended.err) == (0, "")
    assert f"report in {tmp_path / 'new' / 'page.html'}" in ended.out
    page = (tmp_path / "new" / "page.html").read_text()
    assert_self_contained(page)
    text = Reader(page).text
    top1 = row(ended.out, "top-1 %")[0]
    assert f"Top-1 is {top1} % of 360 images (95 % interval " in text
    assert "as it is deployed " in text
    for heading in ("The classes", "Confusions", "The largest losses", "Confidence", "How it was made"):
        assert f" {heading} " in text
    assert f"plainvision evaluate {run.folder} --fuse --report" in text
    assert said(plainvision("evaluate", run.folder, "--report", tmp_path), f"cannot write {tmp_path}", "--report")


def test_sizes_score_each_size_and_the_mean_of_their_answers(run, tmp_path):
    record, figure = tmp_path / "sizes.json", tmp_path / "sizes.png"
    ended = plainvision("evaluate", run.folder, "--sizes", 32, 40, 48, "--json", record, "--figure", figure)
    assert (ended.status, ended.err) == (0, "")
    kept = json.loads(record.read_text())["figures"]["rows"]
    assert [each["image_size"] for each in kept] == [32, 40, 48, None]
    assert f"{kept[0]['top1']:.2f}" == row(ended.out, "top-1 %")[0]  # its own size
    assert all(each["low"] < each["top1"] < each["high"] for each in kept)
    assert f"32 px: top-1 {kept[0]['top1']:.2f} %" in ended.out
    assert f"mean answer of these sizes: top-1 {kept[3]['top1']:.2f} %" in ended.out
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_the_mean_answer_is_that_of_the_mean_probabilities(run):
    model, origin = load_network(run.folder)
    found, refused = evaluate_sizes(model, origin.recipe.data, (32, 48))
    assert refused == {}
    total = 0
    for size in (32, 48):
        images = EvaluationBatches(replace(origin.recipe.data, image_size=size), batch_size=360)
        (batch,) = images
        with torch.no_grad():
            total = total + model.eval()(batch.images).softmax(1)
    assert found[-1].top1 == pytest.approx(100 * float((total.argmax(1) == batch.labels).double().mean()))


def test_sizes_that_were_scored_before_a_kill_are_not_scored_again(run, tmp_path, monkeypatch):
    sizes = [str(size) for size in range(32, 96, 8)]
    keep, record = tmp_path / "new" / "keep", tmp_path / "a.json"
    words = ("evaluate", run.folder, "--sizes", *sizes, "--keep", keep, "--batch-size", 90)
    killed(words, lambda: len([*keep.glob("*.safetensors")]) >= 2)
    there = len([*keep.glob("*.safetensors")])
    assert 2 <= there < len(sizes)
    scored = []
    answers = resolutions._probabilities

    def noted(model, images, device):
        scored.append(images)
        return answers(model, images, device)

    monkeypatch.setattr(resolutions, "_probabilities", noted)
    ended = plainvision(*words, "--json", record)
    assert (ended.status, ended.err) == (0, "")
    assert len(scored) == len(sizes) - there
    plain = plainvision(*words[:-4], "--batch-size", 90, "--json", tmp_path / "b.json")
    assert plain.status == 0
    figures = [json.loads((tmp_path / name).read_text())["figures"] for name in ("a.json", "b.json")]
    assert figures[0] == figures[1]

    scored.clear()
    some = [*keep.glob("*.safetensors")]
    some[0].write_bytes(some[0].read_bytes()[:-100])  # what is damaged is scored again
    assert plainvision(*words).status == 0
    assert len(scored) == 1
    scored.clear()
    assert plainvision(*words, "--data.crop-ratio", 0.8).status == 0  # what is prepared in another way, too
    assert len(scored) == len(sizes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keep", "folder"], "--keep keeps the answers at each of several sizes. Give these, for instance --sizes"),
        (["--sizes", "32", "32"], "sizes=(32, 32) must be one or more sides of images, each once"),
        (["--figure", "a.png"], "--figure draws top-1 against the size of the images. Give two or more"),
        (["--sizes", "8", "9"], "the network runs at none of the sizes: "),
    ],
)
def test_sizes_that_cannot_be(run, words, message):
    assert said(plainvision("evaluate", run.folder, *words), message)
