"""The command line as its users meet it: what it prints, and what it says when something is wrong."""

import contextlib
import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import plainvision as pv
from plainvision import commands
from plainvision.recipes import get_recipe, list_recipes
from plainvision.training import loop
from plainvision.training.weights_file import load_network

# Two epochs of a narrow network, the second in the form that is deployed: seconds, and most digits are named rightly.
SHORT = (
    *("train", "vanillanet_digits", "--epochs", "2", "--warmup-epochs", "0", "--techniques.0.epochs", "1"),
    *("--optimizer", "adamw", "--lr", "5e-3", "--batch-size", "24", "--augment.scale", "0.9", "1.0"),
)
STEPS = 1437 // 24  # of an epoch
HEAVY = ("torch", "torchvision", "timm", "numpy", "matplotlib", "sklearn", "accelerate")


@dataclass(frozen=True)
class Ended:
    """What a command leaves behind: an exit status and two texts."""

    status: int
    out: str
    err: str


def plainvision(*words: object, terminal: bool = False) -> Ended:
    """Run a command in this process; an exception that would reach the user fails the test."""
    out, err = io.StringIO(), io.StringIO()
    out.isatty = lambda: terminal  # type: ignore[method-assign]
    status: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            commands.main([str(word) for word in words])
        except SystemExit as ended:
            status = ended.code
    assert "Traceback" not in out.getvalue() + err.getvalue()
    return Ended(status or 0, out.getvalue(), err.getvalue())


def said(ended: Ended, *parts: object) -> bool:
    """Return whether the command failed as bad input does, in one message that holds all the parts."""
    message = " ".join(ended.err.split())
    missing = [str(part) for part in parts if str(part) not in message]
    assert (ended.status, missing) == (2, []), f"status {ended.status}: {message}"
    return message.startswith("plainvision: ")


def rows(text: str) -> dict[str, list[str]]:
    """Return the rows of a printed table by their first cell; what holds a space is several cells."""
    cells = [line.replace("│", " ").split() for line in text.splitlines()]
    return {line[0]: line[1:] for line in cells if line}


def row(text: str, name: str) -> list[str]:
    """Return the row called ``name``, which may hold a space, of a printed table."""
    (line,) = [line for line in text.replace("│", " ").splitlines() if line.strip().startswith(f"{name} ")]
    return line.split(name, 1)[1].split()


@dataclass(frozen=True)
class Run:
    """A run that was stopped in its second epoch, looked at, and finished."""

    folder: Path
    half: Path
    stopped: Ended
    finished: Ended


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    place = tmp_path_factory.mktemp("commands")
    words = (*SHORT, "--out", place / "digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "everyone_stops", lambda run, _: run.state.step == STEPS + 1)
        stopped = plainvision(*words)
    shutil.copytree(place / "digits", place / "half")
    return Run(place / "digits", place / "half", stopped, plainvision(*words, "--resume"))


@pytest.fixture(scope="module")
def deployed(run, tmp_path_factory) -> tuple[Path, Ended]:
    file = tmp_path_factory.mktemp("deployed") / "new" / "folder" / "digits.safetensors"
    return file, plainvision("fuse", run.folder, "--out", file)


@pytest.fixture
def two_digits(tmp_path) -> Path:
    """``sevens/test/{3,7}/N.png``: validation images of two of the ten digits, N as in their embedded names."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number in (n for n in range(300) if digits.target[n] in (3, 7)):
        place = tmp_path / "sevens" / "test" / str(digits.target[number])
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.round(digits.images[number] * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{number:04d}.png")
    return tmp_path / "sevens"


# Help


def test_help_lists_every_verb_and_there_is_no_other():
    shown = plainvision()
    assert shown == plainvision("--help") == plainvision("-h")
    assert shown.status == 0
    for verb, what in commands.VERBS.items():
        assert f"  {verb} " in shown.out
        assert what in shown.out
    files = {path.stem for path in Path(commands.__file__).parent.iterdir()} - {"__init__", "__pycache__", "options"}
    assert files == set(commands.VERBS)


def test_help_of_each_verb_shows_an_example_and_loads_nothing_heavy():
    asked = [[verb, "--help"] for verb in commands.VERBS] + [["train", "vanillanet_digits", "--help"]]
    code = (
        "import contextlib, io, json, sys\n"
        "from plainvision.commands import main\n"
        "found = []\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    text, status = io.StringIO(), 0\n"
        "    with contextlib.redirect_stdout(text):\n"
        "        try: main(words)\n"
        "        except SystemExit as ended: status = ended.code\n"
        "    found.append([status, text.getvalue()])\n"
        f"print(json.dumps([found, [name for name in {HEAVY} if name in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(asked)], capture_output=True, text=True, check=True)
    found, loaded = json.loads(done.stdout)
    assert loaded == []
    for words, (status, text) in zip(asked, found, strict=True):
        assert status == 0
        assert f"plainvision {words[0]}" in text
        assert "Example: plainvision " in text
    assert "--techniques.0.epochs" in found[-1][1]
    assert "Passes over the training images." in found[-1][1]


def test_python_m_is_the_command_and_no_traceback_reaches_the_user(tmp_path):
    words = ["train", "vanillanet_digits", "--epochs", "3", "--warmup-epochs", "5", "--out", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-m", "plainvision", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("plainvision: recipe 'vanillanet_digits': 5 warm-up epochs leave nothing of 3 epochs")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["train", "vanillanet_digits", "--help"]])
def test_a_reader_that_leaves_early_is_no_error(words):
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "plainvision", *words], stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupted_command_says_so(monkeypatch):
    def interrupted(words):
        raise KeyboardInterrupt

    monkeypatch.setattr("plainvision.commands.models.main", interrupted)
    assert plainvision("models") == Ended(130, "", "plainvision: stopped.\n")


def test_an_unknown_verb_gets_a_suggestion():
    assert said(plainvision("trian"), "unknown command 'trian'. Did you mean train?", "`plainvision --help` lists them")
    assert said(plainvision("zzz"), "unknown command 'zzz'. `plainvision --help`")


# train


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

    def train(recipe, out, *, resume, console):
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
        model_options={"width": 0.5, "in_chans": 1},
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


# evaluate


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
    assert list(answers[0]) == ["image", "label", "predicted", "confidence", "form", "found_in"]
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


# fuse


def test_fuse_writes_a_smaller_network_with_the_same_answers(run, deployed, tmp_path):
    file, ended = deployed
    assert (ended.status, ended.err) == (0, "")
    report, place = ended.out.strip().splitlines()
    assert "27 layers with weights -> 9" in report
    assert report.endswith("same class for 100%")
    assert place == f"deployed form in {file}"
    fused, origin = load_network(file)
    network, _ = load_network(run.folder)
    assert origin.deployed
    images = torch.randn(4, 1, 32, 32)
    torch.testing.assert_close(fused(images), network(images), rtol=1e-3, atol=1e-4)
    assert file.stat().st_size < (run.folder / "best.safetensors").stat().st_size


def test_a_deployed_file_can_be_evaluated(run, deployed):
    trained, fused = (plainvision("evaluate", source).out for source in (run.folder, deployed[0]))
    for name in ("top-1 %", "top-5 %", *"0123456789"):
        assert row(fused, name) == row(trained, name)


def test_fuse_writes_beside_the_weights_unless_told_otherwise(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    ended = plainvision("fuse", tmp_path / "run")
    assert f"deployed form in {tmp_path / 'run' / 'deployed.safetensors'}" in ended.out
    assert load_network(tmp_path / "run" / "deployed.safetensors")[1].deployed
    shutil.copy(run.folder / "best.safetensors", tmp_path / "alone.safetensors")
    assert plainvision("fuse", tmp_path / "alone.safetensors").status == 0
    assert (tmp_path / "deployed.safetensors").exists()


def test_a_half_trained_run_is_not_fused(run):
    why = "cannot fuse a LinearPair at slope=0.0", "Finish the `DeepTraining` schedule"
    for words in (("fuse", run.half), ("evaluate", run.half, "--fuse")):
        assert said(plainvision(*words), *why)
    assert not (run.half / "deployed.safetensors").exists()


def test_a_deployed_network_is_not_fused_again(deployed):
    ended = plainvision("fuse", deployed[0], "--out", deployed[0].with_name("again.safetensors"))
    assert said(ended, "nothing to fuse in VanillaNet", "It is in deployed form already")
    assert not deployed[0].with_name("again.safetensors").exists()


# bench


def test_bench_times_a_run_and_its_deployed_form(run, deployed, tmp_path):
    file, record = deployed[0], tmp_path / "new" / "record.json"
    words = (run.folder, file, "--image-size", 32, "--batch-size", 2, "--runs", 6, "--json", record)
    ended = plainvision("bench", *words)
    assert (ended.status, ended.err) == (0, "")
    table = rows(ended.out)
    assert len(table[str(run.folder)]) == len(table[str(file)]) == 9
    assert "2 x 32 x 32 on cpu, 1 thread, precision no" in ended.out
    parameters = sum(parameter.numel() for parameter in load_network(run.folder)[0].parameters())
    assert table[str(run.folder)][0] == f"{parameters / 1e6:.3g}" != "0.0"
    assert table[str(run.folder)][-3:] == ["1.00", "x", "1.00–1.00"]

    kept = json.loads(record.read_text())
    names = [row["name"] for row in kept["figures"]["rows"]]
    assert names == [str(run.folder), str(file)]
    training, fused = kept["figures"]["rows"]
    assert fused["parameters"] < training["parameters"]
    assert fused["macs"] < training["macs"]
    assert (training["runs"], training["batch_size"], training["image_size"]) == (6, 2, [32, 32])
    assert training["speed_ratio"] == 1
    assert str(tmp_path) not in kept["command"]
    assert kept["command"].endswith("--image-size 32 --batch-size 2 --runs 6 --json record.json")
    assert kept["host"]["plainvision"] == pv.__version__
    assert f"record in {record}" in ended.out


def test_bench_times_a_deployed_network_by_name():
    ended = plainvision("bench", "resnet18", "vanillanet_5:deployed", "--image-size", 32, "--runs", 1)
    table = rows(ended.out)
    assert table["resnet18"][0] == "11.7"
    assert table["vanillanet_5:deployed"][0] == f"{pv.card('vanillanet_5').params / 1e6:.1f}"


def test_names_are_never_cut_off(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    words = ("bench", "test_resnet.r160_in1k", "--image-size", 32, "--runs", 1)
    for terminal in (True, False):
        models, bench = plainvision("models", terminal=terminal), plainvision(*words, terminal=terminal)
        for ended, name in ((models, "vanillanet_13_x1_5_ada_pool"), (bench, "test_resnet.r160_in1k")):
            plain = re.sub(r"\x1b\[[\d;]*m", "", ended.out)
            assert (ended.status, name in plain, "…" in plain) == (0, True, False)
            assert not terminal or max(len(line) for line in plain.splitlines()) <= 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no network to time. Name one or more, for instance: plainvision bench resnet18 vanillanet_5"),
        (["vanilanet_5"], "unknown model 'vanilanet_5'. Did you mean vanillanet_5"),
        (["vanilanet_5:deployed"], "unknown model 'vanilanet_5'. Did you mean vanillanet_5"),
        (["alexnet:deployed"], "nothing to fuse in AlexNet"),
        (["test_resnet", "--image-size", "0"], "there is no image of 3 channels and 0x0 pixels"),
        (["test_resnet", "--runs", "0"], "runs=0 is too small"),
        (["test_resnet", "--batch-size", "0"], "batch_size=0 is too small"),
        (["test_resnet", "--image-size", "32", "--sizes", "32", "64"], "Give --image-size for one side, or --sizes"),
        (["test_resnet", "--sizes", "32", "64", "32"], "--sizes 32 64 32 names a side twice. Give each one once."),
        (["test_resnet", "--sizes", "0", "64"], "there is no image of 3 channels and 0x0 pixels"),
        (["test_vit_relpos", "--sizes", "160", "64", "--runs", "1"], "test_vit_relpos cannot run on 1x3x64x64 on cpu"),
        (
            ["test_resnet", "--figure", "a.png"],
            "one image size shows no growth. Give two or more, for instance: --sizes",
        ),
        (["test_resnet", "--sizes", "64", "--figure", "a.png"], "one image size shows no growth"),
        (["test_resnet", "--sizes", "32", "64", "--figure", "a.jpg"], "its suffix must be one of .png, .pdf, .svg"),
        (["test_resnet", "--sizes", "32", "64", "--figure", "a"], "cannot write a figure to a: its suffix must be"),
    ],
)
def test_bench_explains_what_it_cannot_time(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = plainvision("bench", *words)
    assert said(ended, message)
    assert ended.out == ""
    assert list(tmp_path.iterdir()) == []


def test_bench_shows_how_time_and_memory_grow_with_the_image(tmp_path):
    words = ("test_resnet", "test_convnext", "--sizes", 32, 64, "--runs", 6)
    figure, record = tmp_path / "new" / "growth.png", tmp_path / "growth.json"
    ended = plainvision("bench", *words, "--plot", figure, "--json", record)
    assert (ended.status, ended.err) == (0, "")
    table = [line.split() for line in ended.out.splitlines()]
    sides = [line[:2] for line in table if len(line) == 11 and line[0] != "network"]
    assert sides == [[name, side] for side in ("32", "64") for name in ("test_resnet", "test_convnext")]
    assert "batch of 1 on cpu" in ended.out
    assert "1 is in proportion to it" in ended.out
    assert f"figure in {figure}" in ended.out
    with Image.open(figure) as image:
        assert min(image.size) > 400

    figures = json.loads(record.read_text())["figures"]
    assert [row["image_size"] for row in figures["rows"]] == [[32, 32], [32, 32], [64, 64], [64, 64]]
    assert [row["speed_ratio"] for row in figures["rows"]][::2] == [1, 1]
    assert [row["name"] for row in figures["growth"]] == ["test_resnet", "test_convnext"]
    # No word on the size of either: the time of a small network is noise.
    assert all(set(row) == {"name", "memory_exponent", "time_exponent"} for row in figures["growth"])


@pytest.mark.parametrize(("suffix", "begin"), [(".pdf", b"%PDF"), (".SVG", b"<?xml")])
def test_bench_draws_what_the_suffix_says(tmp_path, suffix, begin):
    figure = tmp_path / f"growth{suffix}"
    ended = plainvision("bench", "test_resnet", "--sizes", 32, 64, "--runs", 1, "--figure", figure)
    assert (ended.status, ended.err) == (0, "")
    assert figure.read_bytes().startswith(begin)


def test_bench_says_before_the_work_that_the_figure_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    ended = plainvision("bench", "test_resnet", "--sizes", 32, 64, "--figure", file / "growth.png")
    assert said(ended, f"cannot write {file / 'growth.png'}: ", "Give another file with --figure.")
    assert ended.out == ""


def test_bench_names_networks_of_different_channels(run):
    ended = plainvision("bench", run.folder, "test_resnet", "--image-size", 32, "--runs", 1)
    assert said(ended, f"of different channels: {run.folder} 1, test_resnet 3.", "time these in several calls.")


# models


def test_models_prints_the_cards_as_a_table():
    table = rows(plainvision("models").out)
    for name in pv.list_models():
        card = pv.card(name)
        assert table[name] == [
            f"{card.params / 1e6:.1f}",
            f"{card.macs / 1e9:.2f}",
            f"{card.training_macs / 1e9:.2f}",
            str(card.image_size),
            *([] if card.top1 is None else [f"{card.top1:.2f}"]),
        ]


def test_models_prints_the_cards_as_json():
    assert json.loads(plainvision("models", "--json").out) == [asdict(pv.card(name)) for name in pv.list_models()]
    family = json.loads(plainvision("models", "vanillanet", "--json").out)
    assert [card["name"] for card in family] == pv.list_models("vanillanet")
    assert said(plainvision("models", "vanilla"), "unknown family 'vanilla'; there are", "vanillanet")


# Files and devices that are not there


@pytest.fixture
def bad_files(tmp_path, run) -> Path:
    whole = (run.folder / "best.safetensors").read_bytes()
    (tmp_path / "torn.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.safetensors").write_text("weights")
    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    return tmp_path


@pytest.mark.parametrize("verb", ["evaluate", "fuse", "bench"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torn.safetensors", "is not a whole safetensors file"),
        ("text.safetensors", "is not a whole safetensors file"),
        ("foreign.safetensors", "does not say which network its weights belong to: plainvision did not write it"),
        ("forein.safetensors", "Nearby: foreign.safetensors"),
    ],
)
def test_a_bad_file_of_weights_is_named(bad_files, verb, name, message):
    assert said(plainvision(verb, bad_files / name), bad_files / name, message)


@pytest.mark.parametrize("verb", ["evaluate", "fuse"])
def test_a_run_that_is_not_there_is_named(tmp_path, verb):
    give = "Give the folder of a run, or a .safetensors file that plainvision wrote."
    assert said(plainvision(verb, tmp_path / "lost"), f"no weights at {tmp_path / 'lost'}.", give)
    (tmp_path / "empty").mkdir()
    assert said(plainvision(verb, tmp_path / "empty"), f"no weights at {tmp_path / 'empty' / 'best.safetensors'}", give)


def test_what_cannot_be_written_is_said_before_the_work(run, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    inside = file / "out"
    folder = "cannot write the run's folder", "Give a folder that you may write"
    assert said(plainvision(*SHORT, "--out", inside), *folder, inside)
    assert said(plainvision("quickstart", "--out", inside), *folder, inside)
    assert said(
        plainvision("fuse", run.folder, "--out", inside), f"cannot write {inside}", "Give another file with --out."
    )
    for option, words in (("--csv", ("evaluate", run.folder)), ("--json", ("bench", run.folder, "--image-size", 32))):
        for place in (inside, tmp_path):
            ended = plainvision(*words, option, place)
            assert said(ended, f"cannot write {place}: ", f"Give another file with {option}.")
            assert ended.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("device", ["warp", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_named(run, device):
    for words in (("evaluate", run.folder), ("bench", run.folder, "--image-size", 32)):
        message = "a network on the meta device" if device == "meta" else f"device='{device}' is not on this machine"
        assert said(plainvision(*words, "--device", device), message)
