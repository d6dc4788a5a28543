"""`plainvision train`: runs of another length, runs that go on, and what is said to do next."""

import contextlib
import io
import json
import os
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from plainvision import commands
from plainvision.recipes import get_recipe, list_recipes
from plainvision.training import Recipe, loop
from plainvision.training.recipe import for_epochs
from plainvision.training.techniques import EMA, DeepTraining, FrozenBackbone

FEW = ("--data.train-per-class", "8", "--data.validation-per-class", "2", "--batch-size", "40")


def plainvision(*words: object) -> tuple[int, str, str]:
    """Run a command in this process and return its exit status and its two texts."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            commands.main([str(word) for word in words])
        except SystemExit as ended:
            status = ended.code
    return status, out.getvalue(), " ".join(err.getvalue().split())


def recorded(folder: Path) -> dict:
    return json.loads((folder / "recipe.json").read_text())


@pytest.mark.parametrize(
    ("epochs", "warmup", "annealing"), [(24, 5, 8), (12, 2, 4), (3, 1, 1), (2, 0, 1), (1, 0, 0), (240, 50, 80)]
)
def test_what_is_counted_in_epochs_keeps_its_part(epochs, warmup, annealing):
    recipe = for_epochs(get_recipe("vanillanet_digits"), epochs)
    assert (recipe.epochs, recipe.warmup_epochs) == (epochs, warmup)
    assert recipe.techniques == (DeepTraining(epochs=annealing),)


def test_every_recipe_has_a_form_for_any_number_of_epochs():
    for name in list_recipes():
        recipe = get_recipe(name)
        for epochs in (1, 2, 7, 1000):
            scaled = for_epochs(recipe, epochs)
            assert scaled.warmup_epochs < epochs
            for old, new in zip(recipe.techniques, scaled.techniques, strict=True):
                if isinstance(old, DeepTraining):
                    assert (new.epochs < epochs) == (old.epochs < recipe.epochs)


def test_a_step_schedule_keeps_its_steps():
    recipe = Recipe(name="a", model="resnet18", epochs=90, schedule="step", decay_epochs=30, warmup_epochs=0)
    assert [for_epochs(recipe, epochs).decay_epochs for epochs in (9, 1, 180)] == [3, 1, 60]
    assert for_epochs(replace(recipe, schedule="cosine"), 9).decay_epochs == 30


def test_a_shorter_run_says_what_was_scaled_and_what_was_given_stays(tmp_path):
    words = ("train", "vanillanet_digits", *FEW)
    status, out, _ = plainvision(*words, "--out", tmp_path / "a", "--epochs", "2")
    assert status == 0
    (line,) = [line for line in out.splitlines() if line.startswith("for 2 epochs instead of 24: ")]
    assert set(line.split(": ")[1].split(", ")) == {
        "warmup_epochs 0 instead of 5",
        "techniques.0.epochs 1 instead of 8",
    }
    assert recorded(tmp_path / "a")["techniques"][0]["epochs"] == 1
    status, out, _ = plainvision(
        *words, "--out", tmp_path / "b", "--epochs=2", "--warmup-epochs", "1", "--techniques.0.epochs", "0"
    )
    assert status == 0
    assert "instead of" not in out
    assert recorded(tmp_path / "b")["warmup_epochs"] == 1
    status, _, _ = plainvision(*words, "--out", tmp_path / "c", "--epochs", "many")
    assert (status, (tmp_path / "c").exists()) == (2, False)


def test_the_next_command_can_be_pasted_and_is_only_said_when_it_works(tmp_path):
    folder = tmp_path / "first run"
    status, out, _ = plainvision("train", "vanillanet_digits", *FEW, "--out", folder, "--epochs", "1")
    assert status == 0
    (hint,) = [line for line in out.splitlines() if line.startswith("Next: ")]
    verb, place = shlex.split(hint)[2:]
    assert (verb, place) == ("fuse", str(folder))
    assert plainvision(verb, place)[0] == 0
    words = ("--epochs", "2", "--techniques.0.epochs", "4", "--warmup-epochs", "0")
    with pytest.warns(UserWarning, match="the network will not fuse"):
        status, out, _ = plainvision("train", "vanillanet_digits", *FEW, "--out", tmp_path / "bent", *words)
    assert status == 0
    assert "Next:" not in out


@pytest.fixture
def stopped(tmp_path, monkeypatch) -> Path:
    """A run with overrides that was stopped, and the command that it printed."""
    step = loop._Run.step

    def acting(run, batch):
        os.kill(os.getpid(), signal.SIGTERM)
        step(run, batch)

    monkeypatch.setattr(loop._Run, "step", acting)
    words = (*FEW, "--lr", "2e-3", "--epochs", "3", "--model-options.width", "0.03125")
    status, _, err = plainvision("train", "vanillanet_digits", *words, "--out", tmp_path / "my run")
    monkeypatch.undo()
    assert status == 130
    given = shlex.join([*words, "--out", str(tmp_path / "my run")])
    assert err.endswith(f"plainvision train vanillanet_digits {given} --resume")
    return tmp_path / "my run"


def test_a_resumed_run_needs_no_override_again(stopped):
    before = recorded(stopped)
    status, out, err = plainvision("train", "vanillanet_digits", "--out", stopped, "--resume")
    assert (status, err) == (0, "")
    assert "epoch 3/3" in out
    assert recorded(stopped) == before
    assert before["lr"] == 2e-3
    status, _, err = plainvision("train", "vanillanet_digits", "--out", stopped, "--resume", "--lr", "0.5")
    assert status == 2
    assert "it differs in lr (0.002 there, 0.5 given)" in err
    status, _, err = plainvision("train", "patchconvnet_digits", "--out", stopped, "--resume")
    assert status == 2
    assert "holds a run of another recipe, 'vanillanet_digits'" in err


def test_how_the_hardware_is_used_may_be_given_anew(stopped):
    status, _, _ = plainvision("train", "vanillanet_digits", "--out", stopped, "--resume", "--machine.log-steps", "1")
    assert status == 0
    assert recorded(stopped)["machine"]["log_steps"] == 1


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("root", "/somewhere/photos.zip", "differs in data.root ('/somewhere/photos.zip' there, 'digits' given)"),
        ("validation_root", "wds/pipe:touch x", "differs in data.validation_root ('wds/pipe:touch x' there"),
    ],
)
def test_paths_are_only_taken_from_what_was_typed(stopped, field, value, words):
    recipe = recorded(stopped)
    recipe["data"][field] = value
    (stopped / "recipe.json").write_text(json.dumps(recipe))
    status, _, err = plainvision("train", "vanillanet_digits", "--out", stopped, "--resume")
    assert status == 2
    assert words in err
    assert "what names files is only taken from your own words" in err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lr": "fast"}, "recipe.json: "),
        ({"epochs": 0}, "recipe.json: "),
        ({"colour": 1}, "recipe.json: "),
        ({"model_options": {"pretrained": True}}, "recipe.json: "),
        ({"techniques": [{"technique": "Magic"}]}, "recipe.json: unknown technique 'Magic'"),
    ],
)
def test_an_edited_recipe_is_named(stopped, changes, words):
    (stopped / "recipe.json").write_text(json.dumps(recorded(stopped) | changes))
    status, _, err = plainvision("train", "vanillanet_digits", "--out", stopped, "--resume")
    assert status == 2
    assert words in err


def test_a_search_looks_for_its_validation_split_before_it_begins(tmp_path):
    from PIL import Image

    for number in range(8):
        file = tmp_path / "images" / "train" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 20 * number).save(file)
    words = (
        *("search", "--data.root", tmp_path / "images", "--data.image-size", "8", "--epochs", "1", "--batch-size", "2"),
        *("--channels", "4", "--depth", "3", "--nodes", "1", "--data.workers", "0", "--training.batch-size", "2"),
    )
    status, _, err = plainvision(*words, "--out", tmp_path / "search")
    assert status == 2
    assert "validation" in err
    assert not (tmp_path / "search").exists()
    assert plainvision(*words, "--out", tmp_path / "search", "--skip-training")[0] == 0


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_scales_what_lasts_a_part_of_the_run_and_says_so(name, monkeypatch):
    asked = []

    def train(recipe, *_, **__):
        asked.append(recipe)
        raise ValueError("not now")

    monkeypatch.setattr(loop, "train", train)
    _, out, _ = plainvision("train", name, "--epochs", "3", "--out", "runs/a")
    base, (recipe,) = get_recipe(name), asked
    lines = [line for line in out.splitlines() if line.startswith("for 3 epochs instead of ")]
    said = " ".join(lines)
    assert recipe.warmup_epochs < 3
    assert ("warmup_epochs" in said) == (base.warmup_epochs != recipe.warmup_epochs)
    for place, (old, new) in enumerate(zip(base.techniques, recipe.techniques, strict=True)):
        if isinstance(old, DeepTraining | FrozenBackbone):
            assert new.epochs < 3 or old.epochs >= base.epochs
            assert (f"techniques.{place}.epochs" in said) == (old.epochs != new.epochs)
        if isinstance(old, EMA):
            # As many times as in the whole run the average forgets what it began with.
            assert (1 - new.decay) * 3 == pytest.approx(min(3, (1 - old.decay) * base.epochs), rel=1e-3)
            assert f"techniques.{place}.decay" in said
    if base.schedule == "step":
        assert recipe.decay_epochs < 3
        assert "decay_epochs" in said
