"""A run that is killed and resumed ends with the weights of one that was never killed, bit for bit."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from training.recipes_for_tests import EVERYTHING

from plainvision.models import create_model
from plainvision.processes import TrainingInterrupted
from plainvision.training import loop, train
from plainvision.training.resumable import read_metrics

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    train(EVERYTHING, folder)
    return folder


def assert_same_run(folder: Path, other: Path) -> None:
    one, two = (torch.load(path / "state.pt", weights_only=True) for path in (folder, other))
    _assert_equal(one, two, "state")
    figures = [
        [{k: v for k, v in line.items() if k != "images_per_second"} for line in read_metrics(path)]
        for path in (folder, other)
    ]
    assert [line for line in figures[0] if "epoch" in line] == [line for line in figures[1] if "epoch" in line]
    for weights in ("best.safetensors", "last.safetensors"):
        assert (folder / weights).read_bytes() == (other / weights).read_bytes()


def _assert_equal(one, two, where):
    assert type(one) is type(two), where
    if isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            _assert_equal(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        for i, (a, b) in enumerate(zip(one, two, strict=True)):
            _assert_equal(a, b, f"{where}.{i}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    else:
        assert one == two, where


KILLED_AT_STEP = """
    step = loop._Run.step
    def killed(run, batch):
        if run.state.step == {step}:
            os.kill(os.getpid(), signal.SIGKILL)
        step(run, batch)
    loop._Run.step = killed
"""
KILLED_WHILE_SAVING = """
    save = torch.save
    def killed(content, file):
        save(content, file)
        if content["step"] == {step}:
            with open(file, "r+b") as half:
                half.truncate(1000)
            os.kill(os.getpid(), signal.SIGKILL)
    torch.save = killed
"""


@pytest.mark.parametrize(
    ("death", "step"),
    [
        pytest.param(KILLED_AT_STEP, 1, id="before the first checkpoint"),
        pytest.param(KILLED_AT_STEP, 8, id="in the middle of an epoch"),
        pytest.param(KILLED_AT_STEP, 10, id="as the pairs are merged"),
        pytest.param(KILLED_AT_STEP, 13, id="after the pairs were merged"),
        pytest.param(KILLED_WHILE_SAVING, 6, id="while saving"),
    ],
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(unbroken, tmp_path, death, step):
    program = (
        """
    import os, signal, torch
    from plainvision.training import loop, train
    from training.recipes_for_tests import EVERYTHING
    """
        + death.format(step=step)
        + f"""
    train(EVERYTHING, {str(tmp_path / "run")!r})
    """
    )
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    train(EVERYTHING, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", unbroken)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_says_how_to_go_on(unbroken, tmp_path, monkeypatch, number):
    step = loop._Run.step

    def interrupted(run, batch):
        if run.state.step == 7:  # not a step at which the run saves by itself
            os.kill(os.getpid(), number)
        step(run, batch)

    monkeypatch.setattr(loop._Run, "step", interrupted)
    with pytest.raises(TrainingInterrupted, match=r"stopped at step 8 of 20.*saved in .*--resume"):
        train(EVERYTHING, tmp_path / "run")
    assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)
    monkeypatch.undo()
    train(EVERYTHING, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", unbroken)


def test_the_command_line_prints_the_command_to_resume(tmp_path, monkeypatch, capsys):
    from plainvision.commands import main

    step = loop._Run.step

    def interrupted(run, batch):
        os.kill(os.getpid(), signal.SIGINT)
        step(run, batch)

    monkeypatch.setattr(loop._Run, "step", interrupted)
    words = ["train", "vanillanet_digits", "--out", str(tmp_path / "a run"), "--epochs", "9"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 130
    assert (
        f"plainvision train vanillanet_digits --out '{tmp_path}/a run' --epochs 9 --resume" in capsys.readouterr().err
    )


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(unbroken):
    before = (unbroken / "state.pt").read_bytes()
    result = train(EVERYTHING, unbroken, resume=True)
    assert result.best_top1 == max(line["top1"] for line in read_metrics(unbroken) if line.get("slope") == 1)
    assert (unbroken / "state.pt").read_bytes() == before


@pytest.mark.parametrize("breaks_at", [1, 13], ids=["before the first checkpoint", "after the pairs were merged"])
def test_a_fine_tuning_that_is_resumed_goes_on_from_its_own_weights(tmp_path, monkeypatch, breaks_at):
    start = tmp_path / "start.safetensors"
    save_file(create_model(EVERYTHING.model, num_classes=7, **EVERYTHING.model_options).state_dict(), start)
    recipe = replace(EVERYTHING, start_from=str(start), new_classifier=True)
    train(recipe, tmp_path / "unbroken")
    step = loop._Run.step

    def broken(run, batch):
        assert run.state.step != breaks_at
        step(run, batch)

    monkeypatch.setattr(loop._Run, "step", broken)
    with pytest.raises(AssertionError):
        train(recipe, tmp_path / "run")
    monkeypatch.undo()
    if breaks_at > 1:
        start.unlink()  # nothing is left to ask it
    train(recipe, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "unbroken")


def test_a_resumed_run_may_use_the_hardware_differently(unbroken, tmp_path):
    recipe = replace(EVERYTHING, machine=replace(EVERYTHING.machine, log_steps=1, checkpoint_steps=None))
    train(recipe, tmp_path / "run")
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    _assert_equal(state, torch.load(unbroken / "state.pt", weights_only=True), "state")
