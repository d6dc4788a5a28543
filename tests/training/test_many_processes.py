"""Two processes on the CPU, as `torchrun` starts them, train as one process does."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pages_for_tests import Reader
from torch.testing import assert_close
from training.recipes_for_tests import DIGITS, EVERYTHING, FEW, PLAIN, WITHOUT_BATCH_NORM

from plainvision.data.images import open_images
from plainvision.training import Recipe, evaluate, train
from plainvision.training.resumable import read_metrics
from plainvision.training.state import State
from plainvision.training.techniques import RandomOptions
from plainvision.training.weights_file import build_network, load_network

PROGRAM = """
import json, sys
from pathlib import Path
from rich.console import Console
from plainvision.data.images import open_images
from plainvision.training import Recipe, train
for name, plain in json.loads(Path("recipes.json").read_text()).items():
    train(Recipe.from_dict(plain), Path("two") / name, console=Console())
"""
OPTIONS = RandomOptions(
    attribute=None,
    dilation=(1, 2),
    size={"second": (3, 5, 7)},
    sites={"first": "stages.0.blocks.0.conv_dw", "second": "stages.1.blocks.0.conv_dw"},
    image_size=32,
)
RANDOM = replace(
    WITHOUT_BATCH_NORM,
    name="random",
    model="test_convnext",
    model_options={"ls_init_value": 1.0},  # else its convolutions hardly count at first
    epochs=1,
    techniques=(OPTIONS,),
    data=replace(DIGITS, train_per_class=48, validation_per_class=5),
    batch_size=96,
)
# Sharding comes last: Accelerate remembers it.
RUNS = {
    "copied": WITHOUT_BATCH_NORM,
    "everything": EVERYTHING,
    "random": RANDOM,
    "sharded": replace(PLAIN, machine=replace(PLAIN.machine, fsdp=True)),
}


def losses(folder: Path) -> torch.Tensor:
    return torch.tensor([line["loss"] for line in read_metrics(folder) if "loss" in line])


def launch(folder: Path, recipes: dict[str, Recipe]) -> str:
    """Train one after the other in two processes, started once, and return what they print."""
    (folder / "program.py").write_text(PROGRAM)
    (folder / "recipes.json").write_text(json.dumps({name: one.to_dict() for name, one in recipes.items()}))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "program.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_two_processes_draw_the_split_that_one_draws(tmp_path):
    """A share of the images of a folder, and a fold: the same images train, and the same ones are scored."""
    data = replace(WITHOUT_BATCH_NORM.data, train_per_class=None, validation_per_class=None)
    digits = open_images(data, "validation")
    for index in range(120):
        file = tmp_path / "photos" / str(digits.labels[index]) / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        digits.read(index, "L").save(file)
    short = replace(WITHOUT_BATCH_NORM, epochs=1, batch_size=24)
    photos = replace(data, root=str(tmp_path / "photos"))
    runs = {
        "share": replace(short, data=replace(photos, validation_share=0.25)),
        "fold": replace(short, data=replace(photos, folds=4, fold=3)),
    }
    launch(tmp_path, runs)
    for name, recipe in runs.items():
        train(recipe, tmp_path / "one" / name)
        one, two = (tmp_path / number / name for number in ("one", "two"))
        assert (one / "split.json").read_bytes() == (two / "split.json").read_bytes()
        assert_close(losses(two), losses(one), rtol=0, atol=1e-5)
        scores = [[line["top1"] for line in read_metrics(folder) if "top1" in line] for folder in (one, two)]
        assert scores[0] == scores[1] != []


def test_two_processes_train_as_one_does(tmp_path):
    """With copies and with shards, with every technique, and with random options at named sites."""
    printed = launch(tmp_path, RUNS)
    for name in ("copied", "random"):
        train(RUNS[name], tmp_path / "one" / name)
    train(PLAIN, tmp_path / "one" / "sharded")
    one, two = ({name: losses(tmp_path / number / name) for name in RUNS} for number in ("one", "two"))
    for name, count in (("copied", 10), ("sharded", len(two["sharded"])), ("random", 5)):
        assert len(one[name]) == count, name
        assert_close(two[name], one[name], rtol=0, atol=1e-5)

    assert one["copied"][0] - one["copied"][-1] > 0.05  # it learned something, so that wrong gradients would show
    for key in ("top1", "top5"):
        scored = [[line[key] for line in read_metrics(tmp_path / n / "copied") if key in line] for n in ("one", "two")]
        assert scored[0] == scored[1]
    weights = [load_network(tmp_path / number / "copied")[0].state_dict() for number in ("one", "two")]
    for key, value in weights[0].items():
        assert_close(weights[1][key], value, rtol=1e-3, atol=1e-5)

    assert load_network(tmp_path / "two" / "sharded")[0](torch.randn(1, 1, 32, 32)).shape == (1, 10)

    assert printed.count("epoch 4/4") == 1  # only the main process prints
    scores = [line for line in read_metrics(tmp_path / "two" / "everything") if "top1" in line]
    assert len(scores) == 4
    network, origin = load_network(tmp_path / "two" / "everything", "last")  # both scored the network that was saved
    assert evaluate(network, origin.recipe.data).loss == pytest.approx(scores[-1]["validation_loss"], rel=1e-5)

    assert all((tmp_path / "two" / name / "report.html").is_file() for name in RUNS)
    page = Reader((tmp_path / "two" / "everything" / "report.html").read_text()).text  # of both processes' images
    assert f"of {10 * FEW.validation_per_class} images (95 % interval" in page
    classes = page.split("F1 % ")[1].split("Recall is")[0]
    assert len(re.findall(r"\d 6 [\d.]+ \(", classes)) == 10

    state = State(build_network(RANDOM, 10, 0))
    OPTIONS.start(state)
    assert len(state.notes[RandomOptions]) == 12
    train(replace(RANDOM, techniques=(replace(OPTIONS, seed=1),)), tmp_path / "one" / "other")
    assert not torch.allclose(losses(tmp_path / "one" / "other"), one["random"], rtol=0, atol=1e-4)
