"""The page of a run and of an evaluation: what it tells, what names and numbers cannot do to it, and what it costs."""

import math
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pages_for_tests import Reader, assert_self_contained
from PIL import Image
from training.recipes_for_tests import EVERYTHING, TINY

from plainvision import commands
from plainvision.training import Data, evaluate, train
from plainvision.training.evaluation import Evaluation, Prediction
from plainvision.training.report import run as module
from plainvision.training.report.evaluation import MOST_IMAGES, MOST_IN_MATRIX, evaluation_page
from plainvision.training.techniques import DeepTraining, Technique
from plainvision.training.weights_file import load_network

SCRIPT = "<script>alert(1)</script>"
GREY = Image.new("RGB", (300, 200), "grey")


@dataclass(frozen=True)
class Sleeps(Technique):
    """A technique that the page has never heard of."""

    def metrics(self, state):
        return {"hours_of_sleep": 8.0 - state.epoch}


def scored(predictions: list[Prediction], **changes: object) -> Evaluation:
    right = [one.label == one.predicted for one in predictions]
    found = Evaluation(100 * float(np.mean(right)), 100.0, 0.5, len(right), 10.0, {}, tuple(predictions))
    return replace(found, **changes)


def page_of(folder: Path, predictions: list[Prediction], classes: tuple[str, ...], picture=lambda name: GREY) -> str:
    page = evaluation_page("a network", {"as it is": scored(predictions)}, classes, picture, command="do it")
    page.write(folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")


def zoo(folder: Path, classes: tuple[str, ...]) -> None:
    """Write four images of each class."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(4):
            shade = np.full((8, 8, 3), 40 * number + len(name), dtype=np.uint8)
            Image.fromarray(shade).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reported") / "run"
    recipe = replace(EVERYTHING, techniques=(*EVERYTHING.techniques, Sleeps()))
    return train(recipe, folder)


def test_a_run_ends_with_its_page(run):
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert_self_contained(page)
    reader = Reader(page)
    assert reader.charts == [
        *("Loss by epoch", "Accuracy by epoch", "Learning rate by epoch"),
        *("Slope by epoch", "Hours of sleep by epoch"),  # of techniques, which the page does not know
        "Accuracy against confidence",
    ]
    text = reader.text
    assert text.startswith("everything: vanillanet_5")
    assert f"Top-1 is {run.last.top1:.2f} % of 60 images" in text
    assert "after 4 epochs" in text
    assert f"best top-1 {run.best_top1:.2f} %" in text
    assert f"plainvision train {run.folder} --out {run.folder}-again" in text
    assert "DeepTraining(epochs=2)" in text
    assert "\\n" not in text.split("How it was made")[1]
    assert f"torch {torch.__version__}" in text
    assert "images a second" in text
    assert reader.count("figure") == MOST_IMAGES
    for heading in ("The classes", "Confusions", "The largest losses", "Confidence", "Speed", "How it was made"):
        assert f" {heading} " in text


def test_the_page_times_the_deployed_form(tmp_path):
    recipe = replace(TINY, techniques=(DeepTraining(epochs=1),))
    found = train(recipe, tmp_path / "run")
    text = Reader((tmp_path / "run" / "report.html").read_text()).text
    form, parameters = "deployed", sum(p.numel() for p in found.network.parameters())
    assert f"as trained {parameters:,} " in text
    assert f"{form} " in text.split(f"as trained {parameters:,} ")[1]


def test_the_command_on_the_page_repeats_the_run(tmp_path, capsys):
    """With images that the command has to name again, for a file names none of its own accord."""
    for split in ("train", "validation"):
        zoo(tmp_path / "zoo" / split, ("cat", "dog"))
    data = Data(root=str(tmp_path / "zoo"), image_size=32, workers=0)
    train(replace(TINY, data=data, model_options={"width": 1 / 64}, batch_size=4), tmp_path / "run")
    text = Reader((tmp_path / "run" / "report.html").read_text()).text
    words = shlex.split(text.split("trains anew by the same recipe: ")[1].split(" plainvision 0")[0])
    assert words[:3] == ["plainvision", "train", str(tmp_path / "run")]
    commands.main(words[1:])
    capsys.readouterr()
    first, second = (load_network(tmp_path / name, "last")[0].state_dict() for name in ("run", "run-again"))
    for key, value in first.items():
        assert torch.equal(value, second[key])


def test_a_run_without_techniques_has_no_panels_of_theirs(tmp_path):
    train(TINY, tmp_path / "run")
    assert len(Reader((tmp_path / "run" / "report.html").read_text()).charts) == 4


def test_a_report_that_cannot_be_written_costs_nothing(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    said: list[str] = []
    monkeypatch.setattr("plainvision.figures.page.write_text", full)
    monkeypatch.setattr("plainvision.training.progress.TrainingProgress.say", lambda _, text: said.append(text))
    found = train(TINY, tmp_path / "run")
    assert said[-1] == "no report: [Errno 28] No space left on device. The run itself is saved."
    assert not (tmp_path / "run" / "report.html").exists()
    network, _ = load_network(found.folder, "last")
    assert evaluate(network, TINY.data).top1 == found.last.top1


def test_what_a_page_breaks_at_is_said_too(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "training_curves", lambda _: 1 / 0)
    said: list[str] = []
    monkeypatch.setattr("plainvision.training.progress.TrainingProgress.say", lambda _, text: said.append(text))
    train(TINY, tmp_path / "run")
    assert said[-1] == "no report: division by zero. The run itself is saved."


def test_a_finished_run_that_is_resumed_writes_its_page_again(run):
    page = run.folder / "report.html"
    text = Reader(page.read_text()).text
    page.unlink()
    recipe = replace(EVERYTHING, techniques=(*EVERYTHING.techniques, Sleeps()))
    again = train(recipe, run.folder, resume=True)
    assert again.last.top1 == run.last.top1
    assert Reader(page.read_text()).text.split("Speed")[0] == text.split("Speed")[0]


def test_a_class_without_validation_images_is_named(tmp_path):
    zoo(tmp_path / "zoo" / "train", ("cat", "dog", SCRIPT.replace("/", "")))
    zoo(tmp_path / "zoo" / "validation", ("cat", "dog"))
    data = Data(root=str(tmp_path / "zoo"), image_size=32, workers=0)
    recipe = replace(TINY, data=data, model_options={"width": 1 / 64}, batch_size=4)
    train(recipe, tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert_self_contained(page)
    assert f"No image of: {SCRIPT.replace('/', '')}." in Reader(page).text


def test_names_do_nothing_to_the_page(tmp_path):
    classes = (SCRIPT, 'a" onload="alert(1)', "", "$x$ {} `b", "犬 👩\u200d🔬", "two\nlines\x1b[31m", "</style>")
    predictions = [
        Prediction(f"{a}/{SCRIPT}{number}.jpg", a, classes[(number + place) % len(classes)], 0.9, 1.0)
        for place, a in enumerate(classes)
        for number in range(3)
    ]
    page = page_of(tmp_path, predictions, classes)
    assert_self_contained(page)
    text = Reader(page).text
    assert page.count("<script") == 0
    assert text.count(SCRIPT) > 20
    assert r"two\nlines\x1b[31m" in text


def test_confidences_that_are_no_numbers_are_said(tmp_path):
    predictions = [Prediction(f"{n}.jpg", "cat", "dog", math.nan, math.nan) for n in range(5)]
    predictions.append(Prediction("5.jpg", "dog", "dog", 0.9, 0.1))
    page = page_of(tmp_path, predictions, ("cat", "dog"))
    assert_self_contained(page)
    text = Reader(page).text
    assert "5 of 6 confidences are no numbers: the weights are damaged" in text
    assert "calibration error nan points" in text
    assert text.index("loss nan, 0.jpg") < text.index("loss 0.10, 5.jpg")  # first what is worst


def test_an_image_that_cannot_be_read_again_leaves_its_place_empty(tmp_path):
    def picture(name: str) -> Image.Image:
        if name == "1.jpg":
            raise OSError("gone")
        return GREY

    predictions = [Prediction(f"{n}.jpg", "cat", "dog", 0.9, 3.0 - n) for n in range(3)]
    text = Reader(page := page_of(tmp_path, predictions, ("cat", "dog"), picture)).text
    assert page.count('<div class="blank">') == 1
    assert page.count("data:image/jpeg") == 2
    assert "could not be read again, the first of them 1.jpg: gone." in text


def test_the_page_of_many_classes_and_images_is_bounded(tmp_path):
    rng = np.random.default_rng(0)
    classes = tuple(f"class {number}" for number in range(1000))
    labels, named = rng.integers(1000, size=5000), rng.integers(1000, size=5000)
    noise = Image.fromarray(rng.integers(255, size=(900, 1200, 3), dtype=np.uint8))
    predictions = [
        Prediction(f"{n}.jpg", classes[a], classes[b], float(rng.random()), float(rng.random()))
        for n, (a, b) in enumerate(zip(labels, named, strict=True))
    ]
    page = page_of(tmp_path, predictions, classes, lambda name: noise)
    assert len(page) < 2_000_000
    reader = Reader(page)
    assert reader.count("figure") == MOST_IMAGES
    assert f"The {MOST_IN_MATRIX} of 1,000 classes with the most errors" in reader.text
    assert "The 100 of " in reader.text
    matrix = page.split('<table class="matrix">')[1].split("</table>")[0]
    rows = re.findall(r"<tr><th>(class \d+)</th>(.*?)</tr>", matrix)
    assert len(rows) == MOST_IN_MATRIX
    for name, cells in rows:  # with those of other names
        assert sum(map(int, re.findall(r">(\d+)</td>", cells))) == sum(one.label == name for one in predictions)
    assert reader.count("td") < 3000


def test_predictions_without_an_error_have_no_pairs(tmp_path):
    page = page_of(tmp_path, [Prediction("a", "cat", "cat", 1.0, 0.0)], ("cat", "dog"))
    assert "No image gets the name of another class." in Reader(page).text


def test_the_page_of_a_run_counts_unreadable_images(tmp_path):
    for split in ("train", "validation"):
        zoo(tmp_path / "zoo" / split, ("cat", "dog"))
    (tmp_path / "zoo" / "validation" / "cat" / "torn.png").write_bytes(b"torn")
    data = Data(root=str(tmp_path / "zoo"), image_size=32, workers=0)
    train(replace(TINY, data=data, model_options={"width": 1 / 64}, batch_size=4), tmp_path / "run")
    text = Reader((tmp_path / "run" / "report.html").read_text()).text
    assert "Images that could not be read (1) zoo/validation/cat/torn.png" in text
