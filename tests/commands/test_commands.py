"""The command line as its users meet it: its help, and what it says when something is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands.running import HEAVY, SHORT, Ended, plainvision, said
from PIL import Image
from safetensors.torch import save_file

from plainvision import commands


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
def test_a_device_that_is_not_there_is_named(run, tmp_path, device):
    image = tmp_path / "a.png"
    Image.new("L", (32, 32)).save(image)
    explain = ("explain", image, "--model", run.folder, "--out", tmp_path / "maps.png")
    bench = ("bench", run.folder, "--image-size", 32)
    for words in (("evaluate", run.folder), ("fuse", run.folder, "--out", tmp_path / "a.safetensors"), bench, explain):
        message = "a network on the meta device" if device == "meta" else f"device='{device}' is not on this machine"
        assert said(plainvision(*words, "--device", device), message)
