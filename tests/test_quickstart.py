"""The quickstart, on a recipe of two epochs; its own recipe is run by `pytest -m slow`."""

import contextlib
import io
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from pages_for_tests import Reader, assert_self_contained
from torch.testing import assert_close

import plainvision.quickstart as module
from plainvision.commands import main
from plainvision.quickstart import Quickstart, quickstart
from plainvision.recipes import get_recipe
from plainvision.training import evaluate, loop
from plainvision.training.recipe import Recipe
from plainvision.training.techniques import DeepTraining
from plainvision.training.weights_file import load_network


def short(name: str) -> Recipe:
    recipe = get_recipe(name)
    return replace(
        recipe,
        epochs=2,
        warmup_epochs=0,
        batch_size=24,
        optimizer="adamw",
        lr=5e-3,
        augment=replace(recipe.augment, scale=(0.9, 1.0)),
        techniques=(DeepTraining(epochs=1),),
    )


def measured_shortly(networks, **options):
    from plainvision.bench import measure

    return measure(networks, **{**options, "runs": 2, "warmup": 1})


def command(*words: object) -> tuple[int | str | None, str, str]:
    """Run `plainvision quickstart` in this process and return its exit status, output and message."""
    out, err = io.StringIO(), io.StringIO()
    status: int | str | None = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(["quickstart", *map(str, words)])
        except SystemExit as ended:
            status = ended.code
    return status, out.getvalue(), err.getvalue()


@dataclass(frozen=True)
class Ran:
    """A quickstart that ran twice in one folder."""

    out: Path
    printed: str
    page: str
    weights: bytes
    again: Quickstart
    threads: int


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Ran:
    out = tmp_path_factory.mktemp("quickstart") / "here"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "get_recipe", short)
        patch.setattr(module, "measure", measured_shortly)
        status, printed, err = command("--out", out)
        assert (status, err) == (0, "")
        page, weights = (out / "report.html").read_text(encoding="utf-8"), (out / "run/last.safetensors").read_bytes()
        torch.set_num_threads(2)
        again = quickstart(out)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
    return Ran(out, printed, page, weights, again, threads)


def test_the_report_is_one_file_that_needs_no_other(ran):
    assert_self_contained(ran.page)
    reader = Reader(ran.page)
    assert len(reader.charts) == 5
    assert reader.count("img") == 5 + 24


def test_the_report_tells_of_training_fusing_and_speed(ran):
    reader, found = Reader(ran.page), ran.again
    text = reader.text
    assert re.search(r"Trained on 1,437 images of handwritten digits in \d+ s, it names [\d.]+ % of 360 others", text)
    assert "vanillanet_5" in text
    assert "at 1, from epoch 2 on, each pair is one linear map" in text
    assert reader.charts == [
        *("Loss by epoch", "Accuracy by epoch", "Learning rate by epoch", "Slope by epoch"),
        "Accuracy against confidence",
    ]
    for heading in ("Training", "Fusing", "The classes", "Confusions", "The largest losses", "Confidence", "Speed"):
        assert f" {heading} " in text
    report = found.fusion
    assert f"layers with weights {report.layers_before} {report.layers_after} " in text
    assert f"parameters {report.parameters_before:,} {report.parameters_after:,} " in text
    assert f"test accuracy {found.training_form.top1:.2f} % {found.deployed_form.top1:.2f} % " in text
    assert "for 360 of 360 test images" in text
    heads = text.count("network parameters multiply-adds p50 p90 images/s peak memory speed")
    assert (heads, text.count("ResNet-18 ")) == (2, 2)
    for name in ("ResNet-18", "VanillaNet, training form", "VanillaNet, deployed form"):
        assert len(re.findall(rf"{name} [\d,]+ [\d.]+ M [\d.]+ ms [\d.]+ ms [\d,]+ [\d.]+ MB [\d.]+ x", text)) == 2
    assert len(re.findall(r"ResNet-18 11,[\d,]+ [^x]* MB 1\.0 x", text)) == 2


def test_what_is_printed_is_what_was_found(ran):
    trained, fused, scores, page = ran.printed.strip().splitlines()[-4:]
    top1 = ran.again.training_form.top1
    assert re.fullmatch(rf"trained in \d+ s: {top1:.2f} % of the test images are named rightly", trained)
    assert top1 > 70  # chance is 10
    assert fused == f"fused: {ran.again.fusion}"
    assert scores == f"the deployed form scores {ran.again.deployed_form.top1:.2f} %"
    assert page == f"Open {ran.out / 'report.html'} in a browser."


def test_a_second_time_it_trains_no_more_and_writes_the_report_anew(ran):
    assert ran.again.page == ran.out / "report.html"
    assert (ran.out / "run/last.safetensors").read_bytes() == ran.weights
    page = ran.again.page.read_text(encoding="utf-8")
    assert_self_contained(page)
    assert "Trained on 1,437 images of handwritten digits, it names" in Reader(page).text


def test_both_forms_answer_alike(ran):
    forms = ran.again.training_form, ran.again.deployed_form
    assert forms[0].images == forms[1].images == 360
    assert [p.predicted for p in forms[0].predictions] == [p.predicted for p in forms[1].predictions]


def test_the_deployed_network_can_be_used(ran):
    network, origin = load_network(ran.out / "deployed.safetensors")
    assert origin.deployed
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.modules())
    assert evaluate(network, origin.recipe.data, classes=origin.classes).top1 == ran.again.deployed_form.top1
    images = torch.randn(3, 1, 32, 32)
    assert_close(network(images), load_network(ran.out / "run", "last")[0](images), rtol=1e-3, atol=1e-4)


def test_it_leaves_the_number_of_threads_as_it_was(ran):
    assert ran.threads == 2


def test_a_quickstart_that_is_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "get_recipe", short)
    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "everyone_stops", lambda run, _: run.state.step == 2)
        status, _, err = command("--out", tmp_path / "here")
    assert status == 130
    assert "run the same command again" in err
    assert "--resume" not in err  # an option of `train`

    def train(recipe, out, *, resume, console):
        raise ValueError(f"called with resume={resume}")

    monkeypatch.setattr(module, "train", train)
    assert command("--out", tmp_path / "here")[2] == "plainvision: called with resume=True\n"
    assert command("--out", tmp_path / "elsewhere")[2] == "plainvision: called with resume=False\n"


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")
    status, _, err = command("--out", tmp_path)
    assert status == 2
    assert "run is not empty and holds no run of ours" in err
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "thesis.txt"]


@pytest.mark.slow
def test_the_quickstart_as_it_is_names_98_of_100_digits(tmp_path):
    found = quickstart(tmp_path)
    assert found.training_form.top1 >= 98
    assert found.deployed_form.top1 >= 98
    assert found.fusion.largest_relative_error < 1e-4
    assert_self_contained(found.page.read_text(encoding="utf-8"))
