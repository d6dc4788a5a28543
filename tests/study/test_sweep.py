"""Sweeps, by their command and by their parts; the runs are an epoch or two of a few embedded digits."""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from commands.running import plainvision, said
from PIL import Image

from plainvision.recipes import get_recipe
from plainvision.study.grid import Point, grid, read_axes, selected, with_value
from plainvision.study.sweep import run_sweep
from plainvision.training import loop
from plainvision.training.resumable import read_metrics

RECIPE = get_recipe("vanillanet_digits")
FEW = ("--data.train-per-class", "12", "--data.validation-per-class", "6", "--batch-size", "40")
WORDS = ("sweep", "vanillanet_digits", *FEW, "--optimizer", "momentum", "--epochs", "2")


def rows(folder: Path) -> list[dict]:
    return json.loads((folder / "sweep.json").read_text())["figures"]["rows"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, str]:
    """A sweep one of whose values diverges, and what it printed."""
    folder = tmp_path_factory.mktemp("sweep") / "whole"
    ended = plainvision(*WORDS, "--grid", "lr=1e-2,1e30", "--seeds", 2, "--out", folder)
    assert (ended.status, ended.err) == (0, "")
    return folder, ended.out


def test_each_value_gets_a_run_for_each_seed_in_a_folder_that_tells_it(swept):
    folder, _ = swept
    names = {f"lr={lr},seed={seed}" for lr in ("0.01", "1e+30") for seed in (0, 1)}
    assert {path.name for path in folder.iterdir() if path.is_dir()} == names
    recipe = json.loads((folder / "lr=0.01,seed=1" / "recipe.json").read_text())
    assert (recipe["lr"], recipe["seed"], recipe["batch_size"], recipe["epochs"]) == (0.01, 1, 40, 2)
    assert recipe["techniques"][0]["epochs"] == 1  # of 8 in 24


def test_a_row_has_the_best_scores_of_the_seeds_and_their_spread(swept):
    folder, out = swept
    fine, _ = rows(folder)
    best = []
    for seed in (0, 1):  # the first epoch has the training form, and does not count
        scores = [line["top1"] for line in read_metrics(folder / f"lr=0.01,seed={seed}") if "top1" in line]
        best.append(scores[1])
    assert (fine["top1"], fine["n"], fine["seeds"]) == (best, 2, [0, 1])
    assert fine["top1_mean"] == pytest.approx(statistics.fmean(best))
    assert fine["top1_std"] == pytest.approx(statistics.stdev(best))
    (line,) = [line for line in out.splitlines() if line.startswith(" 0.01 ")]
    assert line.split() == ["0.01", f"{fine['top1_mean']:.2f}", "±", f"{fine['top1_std']:.2f}", "2"]


def test_a_run_that_diverged_is_a_row_and_is_not_tried_again(swept, monkeypatch):
    folder, out = swept
    _, failed = rows(folder)
    assert (failed["top1_mean"], failed["top1_std"], failed["n"], failed["diverged_epochs"]) == (None, None, 0, [1, 1])
    assert "diverged in epoch 1: " in out
    assert re.search(r"^ 1e\+30 +0 +1, 1 *$", out, re.MULTILINE)
    trained = []
    train = loop.train
    monkeypatch.setattr(
        loop, "train", lambda *given, **named: (trained.append(given[1].name), train(*given, **named))[1]
    )
    again = (*WORDS, "--grid", "lr=1e-2,1e30", "--seeds", 2, "--out", folder, "--resume")
    ended = plainvision(*again)
    assert (ended.status, trained) == (0, [])
    assert "4 runs, epochs each: 2; finished already: 4" in ended.out
    assert plainvision(*again, "--retry-diverged").status == 0
    assert trained == ["lr=1e+30,seed=0", "lr=1e+30,seed=1"]
    assert rows(folder)[1] == failed


def test_a_sweep_writes_a_record_and_a_figure(swept):
    folder, out = swept
    record = json.loads((folder / "sweep.json").read_text())
    assert record["command"].startswith("plainvision sweep vanillanet_digits --data.train-per-class 12")
    assert str(folder.parent) not in record["command"]
    assert record["figures"]["fields"] == ["lr"]
    assert record["columns"][:4] == ["lr", "top1_mean", "top1_std", "n"]
    with Image.open(folder / "sweep.png") as image:
        assert min(image.size) > 500
    assert f"figure in {folder / 'sweep.png'}" in out


def test_a_sweep_that_was_killed_goes_on_and_ends_alike(swept, tmp_path):
    words = [str(word) for word in (*WORDS, "--grid", "lr=1e-2", "--seeds", 2, "--out", tmp_path / "killed")]
    command = [sys.executable, "-W", "ignore", "-m", "plainvision", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    second = tmp_path / "killed" / "lr=0.01,seed=1" / "metrics.jsonl"
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        if second.exists() and second.stat().st_size:  # the second run is in its steps
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    assert process.wait(60) == -signal.SIGKILL
    assert not (tmp_path / "killed" / "sweep.json").exists()
    first = tmp_path / "killed" / "lr=0.01,seed=0" / "last.safetensors"
    written = first.stat().st_mtime_ns
    assert said(plainvision(*words), "already holds a run", "Add --resume to continue it")
    ended = plainvision(*words, "--resume")
    assert (ended.status, ended.err) == (0, "")
    assert "finished already: 1" in ended.out
    assert first.stat().st_mtime_ns == written
    assert rows(tmp_path / "killed")[0]["top1"] == rows(swept[0])[0]["top1"]


def test_a_sweep_can_grow(swept, monkeypatch):
    trained = []

    def train(recipe, place, *, resume, console):
        trained.append((place.name, resume))
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train", train)
    more = ("--grid", "lr=1e-2,2e-2,1e30", "--seeds", 2)
    plainvision(*WORDS, *more, "--out", swept[0], "--resume")
    assert trained == [("lr=0.02,seed=0", False)]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ((), ("nothing is swept", "--grid lr=1e-3,2e-3 drop_path=0,0.1")),
        (("--grid", "lr"), ("--grid lr: write a field and its values",)),
        (("--grid", "lrr=1"), ("the recipe vanillanet_digits has no such field. Did you mean lr",)),
        (("--grid", "embed_dim=1"), ("An option of the network is model_options.embed_dim",)),
        (("--grid", "lr=fast,1e-3"), ("lr='fast': recipe.lr is 'fast', and must be a number",)),
        (("--grid", "lr=-1,1e-3"), ("lr=-1: recipe 'vanillanet_digits': lr=-1 must be above zero",)),
        (("--grid", "lr=1e-3,0.001"), ("names a value twice", "--seeds repeats runs")),
        (("--grid", "lr=1e-3", "lr=2e-3"), ("lr is there twice",)),
        (("--grid", "seed=1,2"), ("--seeds N trains each point with N seeds",)),
        (("--grid", "width=0.1,0.2", "model_options.windows=3"), ("vanillanet_5 has no option 'windows'",)),
        (("--grid", "lr=1e-3", "--only", "lr=1e-3"), ("--only chooses rows of a paper's table",)),
        (("--grid", "lr=1e-3", "--seeds", "0"), ("seeds=0 and 1 points leave nothing to train",)),
        (("--grid", "lr=1e-3", "--figure", "a.jpg"), ("a.jpg", ".png, .pdf, .svg")),
    ],
)
def test_the_command_says_what_is_wrong_before_the_work(tmp_path, words, parts):
    assert said(plainvision(*WORDS, *words, "--out", tmp_path / "a"), *parts)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("vanillanet_table_9",), ("unknown recipe or table 'vanillanet_table_9'", "vanillanet_table_1")),
        (("patchconvnet_table_b2", "--lr", "1e-3"), ("gives lr the values of its rows. Leave --lr out",)),
        (("patchconvnet_table_b2", "--grid", "lr=1e-3"), ("gives it the values of its rows. Choose rows with --only",)),
        (
            ("vanillanet_table_2", "--only", "net=alexnet"),
            ("write FIELD=VALUE,... with one of the fields network, tech",),
        ),
        (("vanillanet_table_2", "--only", "network=vgg"), ("network is never vgg. It is vanillanet_6, alexnet",)),
        (("vanillanet_table_1", "--epochs", "few"), ("--epochs few: give a whole number from 1",)),
        (("patchconvnet_figure_8", "--epochs", "1"), ("two points are called", "give more epochs")),
        ((), ("name a recipe or a table first",)),
    ],
)
def test_the_command_says_what_is_wrong_with_a_table(tmp_path, words, parts):
    assert said(plainvision("sweep", *words, *(("--out", tmp_path / "a") if words else ())), *parts)


def test_fields_have_their_own_names_a_technique_s_and_few_short_ones():
    words = (
        "wd=0,0.1",
        "width=0.1",
        "deep-training.epochs=1,2",
        "augment.scale=(0.3,1.0),(0.5,1.0)",
        "optimizer=sgd,lamb",
    )
    axes = read_axes(words, RECIPE)
    assert axes == {
        "weight_decay": [0, 0.1],
        "model_options.width": [0.1],
        "techniques.0.epochs": [1, 2],
        "augment.scale": [(0.3, 1.0), (0.5, 1.0)],
        "optimizer": ["sgd", "lamb"],
    }
    points = grid([Point(RECIPE)], axes)
    assert len(points) == 16
    last = points[-1].recipe
    assert (last.weight_decay, last.augment.scale, last.optimizer) == (0.1, (0.5, 1.0), "lamb")
    assert (last.model_options["width"], last.techniques[0].epochs) == (0.1, 2)
    assert len({point.named(0) for point in points}) == 16
    assert "augment.scale=_0.5__1.0_" in points[-1].named(0)


def test_more_epochs_scale_what_is_counted_in_them():
    longer = with_value(RECIPE, "epochs", 48)
    assert (longer.epochs, longer.warmup_epochs, longer.techniques[0].epochs) == (48, 10, 16)


def test_rows_are_chosen_by_the_last_part_of_a_name():
    points = grid([Point(RECIPE)], {"model_options.width": [0.1, 0.2], "lr": [1e-3, 2e-3]})
    left = selected(points, ["width=0.2", "lr=1e-3"])
    assert [point.values for point in left] == [{"model_options.width": 0.2, "lr": 1e-3}]


def test_several_processes_and_no_seeds_are_refused(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="seeds=0 and 1 points leave nothing to train"):
        run_sweep([Point(RECIPE)], tmp_path, seeds=0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="several runs go in one process"):
        run_sweep([Point(replace(RECIPE, epochs=6))], tmp_path)
