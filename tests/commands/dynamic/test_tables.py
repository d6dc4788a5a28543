"""`plainvision dynamic tables`: the paper's tables, beside what it publishes, and what a kill leaves of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import timm
import torch
from commands.dynamic.running import cells, failure, good, outcomes, plainvision, record

from plainvision.commands.dynamic.progress import EvaluationProgress
from plainvision.dynamic.published import published
from plainvision.training.weights_file import load_network

VALUES = ("--stride", "A=1,2", "D=1,2", "--dilation", "A=1,2", "D=1,2", "--size", "A=3,5", "D=1,3")
SHORT = (*VALUES, "--finetuning.epochs", 1, "--finetuning.batch-size", 4)


def words(place, out, *more) -> tuple:
    networks = ("--networks", f"resnet50={place.run}", f"other={place.run}")
    return ("tables", *networks, *SHORT, "--data.root", place.images, "--out", out, *more)


@pytest.fixture(scope="module")
def made(place, tmp_path_factory):
    """All tables, and what was printed."""
    out = tmp_path_factory.mktemp("tables") / "out"
    ended = plainvision(*words(place, out))
    assert (ended.status, ended.err) == (0, "")
    return out, ended.out


def test_each_row_stands_beside_the_published_one_with_its_controls(made):
    out, said = made
    tables = record(out / "tables.json")
    changes = {name: [(row["network"], row["changes"]) for row in rows] for name, rows in tables.items()}
    each = ["stride", "dilation", "size"]
    assert changes["table_1"] == [(name, one) for name in ("resnet50", "other") for one in each]
    assert changes["table_2"] == [(name, one) for one in each for name in ("resnet50", "resnet50, fine-tuned")]
    assert changes["table_3"] == [
        ("resnet50", one)
        for one in (*each, "stride, dilation", "stride, size", "dilation, size", "stride, dilation, size")
    ]
    for name, rows in tables.items():
        for row in rows:
            assert list(row["controls"]) == [
                *("input zooms", "random crops", "labels shuffled", "mean softmax", "majority vote", "most confident")
            ]
            finetuned = row["network"].endswith("fine-tuned")
            paper = published(row["network"].split(",")[0], row["changes"].split(", "), finetuned=finetuned)
            assert row["published"] == paper, name
            assert (paper is None) == (row["network"] == "other")
            numbers = [f"{row[one]:.2f}" for one in ("static", "worst", "median", "best", "volatility")]
            line = [*row["network"].split(), *row["changes"].split(), str(row["permutations"]), *numbers]
            assert line in cells(said)
    assert ["in", "the", "paper", "512", "76.5", "0.1", "32.9", "94.7", "94.6"] in cells(said)
    assert "12 images" in said


def test_the_rows_are_those_of_evaluations_by_themselves(made, place, tmp_path):
    out, _ = made
    good("evaluate", *place.words, "--stride", "A=1,2", "D=1,2", "--out", tmp_path / "stride")
    good("evaluate", *place.words, "--dilation", "A=1,2", "D=1,2", "--out", tmp_path / "dilation")
    alone = [outcomes(tmp_path / name) for name in ("stride", "dilation")]
    for name, other in zip(("stride", "dilation"), alone, strict=True):
        assert outcomes(out / "resnet50" / name).bounds() == other.bounds()
        assert [one.top1 for one in outcomes(out / "resnet50" / name).controls()] == [
            one.top1 for one in other.controls()
        ]
    both = outcomes(out / "resnet50" / "stride_dilation")
    assert both.permutations == alone[0].combine(alone[1], limit=16).chosen
    assert "K" in good("bounds", out / "resnet50" / "dilation")  # each folder is an evaluation like any other


def test_fine_tuning_starts_from_the_network_and_follows_the_paper(made, place):
    out, _ = made
    recipe = load_network(out / "resnet50" / "finetuned_size" / "run", "last")[1].recipe
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.decay_epochs) == (1, 4, 1e-3, 1)
    assert recipe.techniques[0].size == {"A": (3, 5), "D": (1, 3)}
    assert outcomes(out / "resnet50" / "finetuned_size" / "size").fingerprint != outcomes(place.strides).fingerprint


def test_the_same_command_again_computes_nothing(made, place, tmp_path, monkeypatch):
    out, said = made
    shutil.copytree(out, tmp_path / "out")
    monkeypatch.setattr(EvaluationProgress, "__call__", lambda *_: pytest.fail("something is evaluated"))
    ended = plainvision(*words(place, tmp_path / "out", "--tables", 1, 3, "--batch-size", 5))
    assert (ended.status, ended.err) == (0, "")
    tables = record(tmp_path / "out" / "tables.json")
    assert tables == {name: rows for name, rows in record(out / "tables.json").items() if name != "table_2"}
    assert all(line in cells(said) for line in cells(ended.out)[:-1])


def test_what_a_kill_leaves_is_kept_and_the_tables_are_the_same(made, place, tmp_path):
    out, _ = made
    given = [str(word) for word in words(place, tmp_path / "out", "--tables", 1)]
    command = [sys.executable, "-W", "ignore", "-m", "plainvision", "dynamic", *given]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    begun = tmp_path / "out" / "other" / "dilation" / "evaluation.json"
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        if begun.exists():
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    assert process.wait(60) == -signal.SIGKILL
    rows = record(tmp_path / "out" / "tables.json")["table_1"]
    assert rows == record(out / "tables.json")["table_1"][: len(rows)]
    assert 4 <= len(rows) < 6
    first = tmp_path / "out" / "resnet50" / "stride" / "outcomes.safetensors"
    written = first.stat().st_mtime_ns
    good(*given)
    assert first.stat().st_mtime_ns == written
    assert record(tmp_path / "out" / "tables.json")["table_1"] == record(out / "tables.json")["table_1"]


def test_files_of_weights_take_the_place_of_published_ones(place, tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv2_035", num_classes=3)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    said = good(
        *("tables", "--tables", 1, "--networks", "mobilenetv2=mobilenetv2_035:num_classes=3"),
        *("--checkpoint", f"mobilenetv2={tmp_path / 'w.pth'}", "--data.root", place.images, "--data.image-size", 32),
        *("--data.validation-per-class", 1, "--no-controls", *VALUES, "--out", tmp_path / "out"),
    )
    rows = record(tmp_path / "out" / "tables.json")["table_1"]
    assert [row["published"]["best"] for row in rows] == [92.1, 83.7, 82.3]
    assert "3 images" in said
    plan = json.loads((tmp_path / "out" / "mobilenetv2" / "stride" / "evaluation.json").read_text())
    assert (plan["data"]["resize"], plan["data"]["interpolation"]) == ("squash", "bilinear")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--networks resnet51", "--networks resnet51: give each network once, resnet50, resnext50, mobilenetv2, den"),
        ("--networks a=x a=y", "give each network once"),
        ("--networks ../a=x", "give each network once"),
        ("--networks mine=resnet20_cifar", "cannot load published weights of resnet20_cifar: No"),
        ("--checkpoint resnet50", "give each network once, as NAME=FILE."),
        ("--networks resnet50 --checkpoint mine=x", "--checkpoint mine=...: the networks are resnet50."),
        ("--networks mine={run} --tables 1 1", "--tables: give one or more of 1, 2 and 3, each once."),
        ("--networks mine={run}", "there are no images. Give a folder of class folders, or an archive, with"),
        ("--networks mine={run} --data.root {lonely}", "has no folder called 'train'"),
        ("--networks mine={vision} --data.root {images} --tables 1", "no sites are known for VisionTransformer."),
        ("--networks mine={fused} --data.root {images}", "which this command does not know how to rebuild."),
    ],
)
def test_what_cannot_work_is_explained_before_the_work(place, more, tmp_path, given, message):
    lonely = tmp_path / "lonely"
    shutil.copytree(place.images / "validation", lonely / "val")
    known = {"run": place.run, "images": place.images, "lonely": lonely, **more}
    found = failure("tables", *given.format(**known).split(), "--out", tmp_path / "out")
    assert message in found
    assert not list((tmp_path / "out").rglob("outcomes.safetensors"))
