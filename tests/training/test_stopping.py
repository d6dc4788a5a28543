"""A run, a search or a study that is stopped, or loses a process that reads, is saved, says so, and goes on alike."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from search.searches_for_tests import TINY as SEARCH
from search.test_cell_search import assert_same_search
from training.recipes_for_tests import DIGITS, TINY

from plainvision.files import locked
from plainvision.processes import TrainingInterrupted, stop_requested
from plainvision.search import search_cells
from plainvision.search.cell_search import _Search
from plainvision.study import LayerStudy, run_study
from plainvision.training import Machine, checks, loop, train
from plainvision.training.resumable import read_metrics

TESTS = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(TINY, folder)
    return folder


def figures(folder: Path) -> list[dict]:
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in read_metrics(folder)]


def assert_alike(folder: Path, other: Path) -> None:
    assert figures(folder) == figures(other)
    for kind in ("best", "last"):
        assert (folder / f"{kind}.safetensors").read_bytes() == (other / f"{kind}.safetensors").read_bytes()
    one, two = (torch.load(path / "state.pt", weights_only=True) for path in (folder, other))
    torch.testing.assert_close(one, two, rtol=0, atol=0)


def signalled(monkeypatch, step: int, number: int, owner: type = loop._Run, name: str = "step") -> None:
    """Send this process a signal in the given step, from 1."""
    act, taken = getattr(owner, name), []

    def acting(*given):
        taken.append(None)
        if len(taken) == step:
            os.kill(os.getpid(), number)
        return act(*given)

    monkeypatch.setattr(owner, name, acting)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 2, 4], ids=["inside an epoch", "at an epoch's end", "at the run's end"])
def test_a_stop_in_any_step_changes_nothing(whole, tmp_path, monkeypatch, step, number):
    signalled(monkeypatch, step, number)
    with pytest.raises(TrainingInterrupted, match=rf"stopped at step {step} of 4; everything is saved in .*--resume"):
        train(TINY, tmp_path / "run")
    monkeypatch.undo()
    assert (tmp_path / "run" / "last.safetensors").exists() == (step > 1)
    train(TINY, tmp_path / "run", resume=True)
    assert_alike(tmp_path / "run", whole)


def test_a_checkpoint_interval_that_meets_the_end_of_an_epoch_waits_for_the_evaluation(whole, tmp_path, monkeypatch):
    recipe = replace(TINY, machine=replace(TINY.machine, checkpoint_steps=1))
    monkeypatch.setattr(loop._Run, "end_epoch", lambda run: (_ for _ in ()).throw(RuntimeError("killed")))
    with pytest.raises(RuntimeError, match="killed"):
        train(recipe, tmp_path / "run")
    monkeypatch.undo()
    train(recipe, tmp_path / "run", resume=True)
    assert figures(tmp_path / "run") == figures(whole)


def test_a_second_ctrl_c_says_what_is_saved(tmp_path, monkeypatch):
    step = loop._Run.step

    def impatient(run, batch):
        step(run, batch)
        if run.state.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop._Run, "step", impatient)
    with pytest.raises(TrainingInterrupted, match=r"stopped after step 3; step 2 is saved in .*--resume"):
        train(TINY, tmp_path / "run")


def test_half_a_line_from_before_the_first_checkpoint_swallows_nothing(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(loop._Run, "step", lambda run, _: (_ for _ in ()).throw(RuntimeError("killed")))
    with pytest.raises(RuntimeError, match="killed"):
        train(TINY, tmp_path / "run")
    monkeypatch.undo()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1, "learning_rate": 0.00')
    train(TINY, tmp_path / "run", resume=True)
    assert figures(tmp_path / "run") == figures(whole)


def test_a_folder_that_was_left_before_its_recipe_was_written_can_be_used(whole, tmp_path):
    (tmp_path / "run" / ".0123.unfinished").mkdir(parents=True)
    (tmp_path / "run" / ".0123.unfinished" / "recipe.json").write_text('{"name": "ti')
    train(TINY, tmp_path / "run")
    assert_alike(tmp_path / "run", whole)
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]


def test_two_runs_in_one_folder_are_refused(whole, tmp_path):
    with locked(whole), pytest.raises(ValueError, match=r"is in use by another process\. Wait until that ends"):
        train(TINY, whole, resume=True)
    (tmp_path / "new").mkdir()
    with locked(tmp_path / "new"), pytest.raises(ValueError, match="is in use by another process"):
        train(TINY, tmp_path / "new")


def test_a_run_that_began_meanwhile_is_not_written_over(tmp_path, monkeypatch):
    check = checks.check_network

    def meanwhile(*given):
        monkeypatch.undo()
        train(TINY, tmp_path / "run")  # another process is faster
        check(*given)

    monkeypatch.setattr(checks, "check_network", meanwhile)
    with pytest.raises(ValueError, match=r"already holds a run of the recipe 'tiny'"):
        train(TINY, tmp_path / "run")


def test_flags_are_shared_by_what_runs_inside():
    before = signal.getsignal(signal.SIGTERM)
    with stop_requested() as outer, stop_requested() as inner:
        os.kill(os.getpid(), signal.SIGTERM)
        assert outer.is_set()
        assert inner.is_set()
        assert signal.getsignal(signal.SIGTERM) is before  # the second acts as usual
    assert signal.getsignal(signal.SIGTERM) is before


# processes that read


def test_a_reading_process_that_is_killed_is_one_error_and_the_run_is_saved(whole, tmp_path, monkeypatch):
    recipe = replace(TINY, data=replace(TINY.data, workers=1), batch_size=2)  # more than is read ahead
    step = loop._Run.step

    def bereft(run, batch):
        step(run, batch)
        if run.state.step == 3:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)

    monkeypatch.setattr(loop._Run, "step", bereft)
    with pytest.raises(
        ChildProcessError,
        match=r"a process that reads images was killed.*data\.workers.*everything is saved in .*resume",
    ):
        train(recipe, tmp_path / "run")
    monkeypatch.undo()
    recipe = replace(recipe, data=TINY.data)
    train(recipe, tmp_path / "run", resume=True)
    train(recipe, tmp_path / "other")
    assert_alike(tmp_path / "run", tmp_path / "other")


def running(folder: Path, workers: int) -> subprocess.Popen[str]:
    """Start a run in a group of processes of its own, and wait until its second epoch has ended."""
    words = ["train", "vanillanet_digits", "--out", str(folder), "--epochs", "500", "--data.workers", str(workers)]
    few = ["--data.train-per-class", "20", "--data.validation-per-class", "5"]
    run = subprocess.Popen(
        [sys.executable, "-m", "plainvision", *words, *few],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not run.stdout.readline().startswith("epoch 2/"):
        assert run.poll() is None
    return run


def assert_all_ended(group: int) -> None:
    """Wait until no process of a group is left; those that read notice within seconds that the main one was killed."""
    for _ in range(300):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("a process was left behind")


@pytest.mark.parametrize(
    ("number", "send", "workers"),
    [
        pytest.param(signal.SIGINT, os.killpg, 2, id="Ctrl-C in a terminal, which reaches the whole group"),
        pytest.param(signal.SIGTERM, os.killpg, 2, id="the end of a job, likewise"),
        pytest.param(signal.SIGTERM, os.kill, 2, id="kill"),
        pytest.param(signal.SIGINT, os.kill, 0, id="without processes that read"),
    ],
)
def test_a_signal_is_one_message_and_leaves_no_process(tmp_path, number, send, workers):
    with running(tmp_path / "run", workers) as run:
        send(run.pid, number)
        _, errors = run.communicate(timeout=120)
    assert run.returncode == 130, errors
    assert "Traceback" not in errors
    assert errors.count("plainvision: stopped at step") == 1
    assert "everything is saved" in errors
    assert load_file(tmp_path / "run" / "last.safetensors")
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] >= 6
    assert_all_ended(run.pid)


def test_a_run_that_is_killed_leaves_no_process(tmp_path):
    with running(tmp_path / "run", 2) as run:
        os.kill(run.pid, signal.SIGKILL)
        run.wait(timeout=60)
        assert_all_ended(run.pid)


# a search and a study


@pytest.fixture(scope="module")
def whole_search(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    search_cells(replace(SEARCH, checkpoint_steps=None), folder)
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [2, 3, 6])
def test_a_search_is_stopped_as_a_run_is(whole_search, tmp_path, monkeypatch, step, number):
    settings = replace(SEARCH, checkpoint_steps=None)
    signalled(monkeypatch, step, number, _Search, "advance")
    with pytest.raises(TrainingInterrupted, match=rf"stopped at step {step} of 6; everything is saved in .*--resume"):
        search_cells(settings, tmp_path / "search")
    monkeypatch.undo()
    search_cells(settings, tmp_path / "search", resume=True)
    assert_same_search(tmp_path / "search", whole_search)
    with locked(tmp_path / "search"), pytest.raises(ValueError, match="is in use by another process"):
        search_cells(settings, tmp_path / "search", resume=True)


STUDY = LayerStudy(
    data=replace(DIGITS, train_per_class=2, validation_per_class=1),
    ops=("conv", "max"),
    stages=(4,),
    seeds=(0,),
    epochs=1,
    batch_size=10,
    machine=Machine(threads=1),
)


def test_a_study_is_stopped_inside_and_between_its_runs(tmp_path, monkeypatch):
    signalled(monkeypatch, 1, signal.SIGTERM)
    with pytest.raises(TrainingInterrupted, match=r"stopped at step 1 of 2; everything is saved in .*conv_seed0"):
        run_study(STUDY, tmp_path, device="cpu", latency_runs=1)
    monkeypatch.undo()
    signalled(monkeypatch, 1, signal.SIGTERM, loop._Run, "finish")
    with pytest.raises(TrainingInterrupted, match=r"those that are finished are saved in .*--resume"):
        run_study(STUDY, tmp_path, device="cpu", latency_runs=1, resume=True)
    monkeypatch.undo()
    with locked(tmp_path), pytest.raises(ValueError, match="is in use by another process"):
        run_study(STUDY, tmp_path, device="cpu", latency_runs=1, resume=True)
    assert len(run_study(STUDY, tmp_path, device="cpu", latency_runs=1, resume=True)) == 2
