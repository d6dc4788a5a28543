"""A recipe in words: what `plainvision train` overrides, and what it refuses."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from commands.running import SHORT, STEPS, plainvision, said

from plainvision.recipes import get_recipe, list_recipes
from plainvision.training import loop


def test_train_needs_a_recipe_by_name():
    for words in ((), ("--out", "runs/a")):
        ended = plainvision("train", *words)
        assert said(ended, "the recipe's name comes first, for instance: plainvision train vanillanet_digits --out")
        assert set(list_recipes()) < set(ended.out.split())
    assert said(
        plainvision("train", "vanilanet_digits"), "unknown recipe 'vanilanet_digits'. Did you mean", "net_digits"
    )


@pytest.fixture
def asked(monkeypatch) -> list:
    """What reaches the training loop instead of being trained."""
    calls: list = []

    def train(recipe, out, *, resume, console, trackers):
        calls.append((recipe, out, resume))
        raise ValueError("not now")

    monkeypatch.setattr(loop, "train", train)
    return calls


def test_overrides_reach_the_recipe(asked):
    words = (
        *("--out", "runs/a", "--resume", "--epochs", "9", "--data.root", "shoes.zip", "--data.mean", "0.25"),
        *("--techniques.0.epochs", "4", "--techniques.0.anneal", "cosine", "--machine.threads", "None"),
        *("--model-options.width", "0.5", "--augment.scale", "0.5", "1", "--clip-grad", "2"),
    )
    assert said(plainvision("train", "vanillanet_digits", *words), "not now")
    ((recipe, out, resume),) = asked
    base = get_recipe("vanillanet_digits")
    assert recipe == replace(
        base,
        epochs=9,
        warmup_epochs=2,  # as long a part of the run as the recipe's
        data=replace(base.data, root="shoes.zip", mean=(0.25,)),
        techniques=(replace(base.techniques[0], epochs=4, anneal="cosine"),),
        machine=replace(base.machine, threads=None),
        model_options={"width": 0.5},
        augment=replace(base.augment, scale=(0.5, 1.0)),
        clip_grad=2.0,
    )
    assert (out, resume) == (Path("runs/a"), True)


@pytest.mark.parametrize("name", ["vanillanet_6_imagenet", "resnet50_both", "vanillanet_cifar10"])
def test_without_overrides_the_recipe_is_the_published_one(asked, name):
    assert said(plainvision("train", name, "--out", "runs/a"), "not now")
    assert asked == [(get_recipe(name), Path("runs/a"), False)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "0"], "epochs=0 must be above zero"),
        (
            ["--epochs", "3", "--warmup-epochs", "5"],
            "5 warm-up epochs leave nothing of 3 epochs for the schedule. Give fewer warmup_epochs or",
        ),
        (["--batch-size", "-4"], "batch_size=-4 must be above zero"),
        (["--data.channels", "3"], "data.mean has 1 values and data.std 1, for data.channels=3"),
        (["--batch-size", "2000"], "batch_size=2000 but only 1437 images"),
        (["--num-classes", "3"], "num_classes=3, but the data has 10 classes"),
        (["--model", "vanilanet_5"], "unknown model 'vanilanet_5'. Did you mean vanillanet_5"),
        (["--model-options.width", "0"], "width=0.0 leaves no channels"),
        (["--optimizer", "adamm"], "adamm"),
        (["--start-from", "nowhere.safetensors"], "no checkpoint at nowhere.safetensors"),
        (["--data.root", "nowhere"], "there are no images at 'nowhere': no such folder or archive"),
        (["--data.root", "digit"], "Did you mean digits?"),
        (["--resume"], "nothing to resume in"),
    ],
)
def test_a_value_that_cannot_work_is_explained(tmp_path, words, message):
    ended = plainvision("train", "vanillanet_digits", "--out", tmp_path / "run", *words)
    assert said(ended, message)
    assert ended.out == ""


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--epochs", "many"], ["Error parsing --epochs", "'many'", "plainvision train vanillanet_digits --help"]),
        (["--epoch", "3"], ["Unrecognized options: --epoch", "--epochs", "plainvision train vanillanet_digits --help"]),
        (["--loss", "hinge"], ["--loss", "'hinge'", "cross_entropy", "bce"]),
        (["--log", "paper"], ["--log", "'paper'", "tensorboard", "wandb", "mlflow"]),
        (["--class-weights", "rare"], ["--class-weights", "'rare'", "balanced"]),
        (["--data.sampling", "even"], ["--data.sampling", "'even'", "shuffled", "balanced"]),
        (["--techniques.1.epochs", "3"], ["Unrecognized options: --techniques.1.epochs"]),
    ],
)
def test_an_option_that_there_is_not_is_explained(words, parts):
    assert not said(plainvision("train", "vanillanet_digits", "--out", "runs/a", *words), *parts)  # tyro's own frame


def test_a_run_needs_a_folder():
    assert not said(plainvision("train", "vanillanet_digits"), "Required options", "--out PATH", "The run's folder.")


def test_a_stopped_run_says_how_to_go_on_and_goes_on(run):
    assert run.stopped.status == 130
    assert run.stopped.err.startswith(
        f"plainvision: stopped at step {STEPS + 1} of {2 * STEPS}; everything is saved in"
    )
    again = ["plainvision", *SHORT, "--out", str(run.folder), "--resume"]
    assert shlex.split(run.stopped.err.splitlines()[-1]) == again
    assert run.finished.status == 0
    assert run.finished.err == ""
    assert "epoch 2/2  top-1" in run.finished.out
    assert "epoch 1/2" not in run.finished.out
    assert run.finished.out.rstrip().endswith(f"Next: plainvision fuse {run.folder}")


def test_a_run_is_resumed_by_its_folder_alone(tmp_path):
    words = ["train", "vanillanet_digits", "--epochs", "2", "--warmup-epochs", "0", "--data.workers", "0"]
    first = plainvision(*words, "--techniques.0.epochs", "1", "--out", tmp_path / "run")
    assert first.status == 0, first.err
    again = plainvision("train", "--resume", tmp_path / "run")
    assert again.status == 0, again.err
    assert "weights in" in again.out


def test_a_folder_without_a_run_is_no_run_to_resume(tmp_path):
    ended = plainvision("train", "--resume", tmp_path)
    assert ended.status == 2
    assert f"no run to resume in {tmp_path}: it holds no recipe.json" in ended.err
    (tmp_path / "recipe.json").write_text('{"name": "mine"}')
    assert said(plainvision("train", "--resume", tmp_path), "recipe.json: recipe is no object that has techniques")


FEW = ("--data.train-per-class", "8", "--data.validation-per-class", "2", "--batch-size", "40", "--epochs", "2")


def test_a_recorded_recipe_is_trained_anew_and_goes_on_under_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plainvision("train", "vanillanet_digits", *FEW, "--lr", "2e-3", "--out", "first").status == 0
    recorded = json.loads(Path("first/recipe.json").read_text())
    Path("mine.json").write_text(json.dumps(recorded | {"name": "mine"}))
    for number, word in enumerate(("first", "first/recipe.json", "mine.json")):
        ended = plainvision("train", word, "--out", f"again/{number}", "--seed", number)
        assert ended.status == 0, ended.err
        own = {"name": "mine"} if word == "mine.json" else {}
        assert json.loads(Path(f"again/{number}/recipe.json").read_text()) == recorded | {"seed": number} | own
    weights = [(Path(folder) / "last.safetensors").read_bytes() for folder in ("first", "again/0", "again/1")]
    assert weights[0] == weights[1] != weights[2]
    ended = plainvision("train", "--resume", "again/2")
    assert (ended.status, "weights in again/2" in ended.out) == (0, True), ended.err
    ended = plainvision("train", "first", "--epochs", "4", "--out", "longer")
    assert "for 4 epochs instead of 2: techniques.0.epochs 2 instead of 1" in ended.out, ended.err


def test_a_recorded_recipe_opens_nothing_by_itself(tmp_path, asked):
    plain = replace(get_recipe("vanillanet_digits"), start_from="secret.pth", new_classifier=True).to_dict()
    plain["data"] |= {"root": "/etc", "allow_pipes": True}
    (tmp_path / "a.json").write_text(json.dumps(plain))
    assert said(plainvision("train", tmp_path / "a.json", "--out", "runs/a"), "not now")
    ((recipe, _, _),) = asked
    assert (recipe.data.root, recipe.data.allow_pipes) == ("recorded:/etc", False)
    assert recipe.start_from == "recorded:secret.pth"


def test_what_a_recorded_recipe_named_is_to_be_given_again(tmp_path):
    plain = replace(get_recipe("vanillanet_digits"), start_from="w.pth", new_classifier=True).to_dict()
    (tmp_path / "a.json").write_text(json.dumps(plain))
    words = ("train", tmp_path / "a.json", "--out", tmp_path / "run")
    assert said(plainvision(*words), "its run started from 'w.pth'", "--start-from None --no-new-classifier")
    (tmp_path / "a.json").write_text(json.dumps(plain | {"data": plain["data"] | {"root": "photos.zip"}}))
    ended = plainvision(*words, "--start-from", "None", "--no-new-classifier")
    assert said(ended, "records data.root as 'photos.zip'", "Give the images with --data.root")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged: it is not whole JSON"),
        ('{"techniques": [], "model_options": {}}', "recipe lacks the field 'name'"),
        (" " * (2**22 + 1), "has 4,194,305 bytes, and no recipe is so long"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    assert said(plainvision("train", tmp_path / "a.json", "--out", tmp_path / "run"), "a.json", message)


def test_a_recorded_network_is_no_larger_than_any(tmp_path):
    plain = replace(get_recipe("vanillanet_digits"), model_options={"width": 9000.0}).to_dict()
    (tmp_path / "a.json").write_text(json.dumps(plain))
    ended = plainvision("train", tmp_path / "a.json", "--out", tmp_path / "run")
    assert said(ended, "a.json: its network vanillanet_5 cannot be built, or has more than 2,147,483,648 numbers")


def test_a_recipe_that_is_not_there_is_told(tmp_path):
    ended = plainvision("train", tmp_path / "recpe.json", "--out", tmp_path / "run")
    assert said(ended, "recpe.json: there is no such file", "Give the folder of a run, its recipe.json")
    assert said(plainvision("train", tmp_path, "--out", tmp_path / "run"), f"{tmp_path}: it holds no recipe.json")
