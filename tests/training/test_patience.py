"""Early stopping: when a run ends, what it says, and that a break changes neither."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from training.recipes_for_tests import EVERYTHING, TINY
from training.test_resume import assert_same_run

from plainvision.training import Machine, evaluation, loop, train
from plainvision.training.recipe import for_epochs
from plainvision.training.resumable import read_metrics
from plainvision.training.weights_file import load_network

PATIENT = replace(TINY, epochs=8, patience=2, machine=Machine(threads=1, log_steps=1, checkpoint_steps=1))


@pytest.fixture
def scored(monkeypatch):
    """Lets an epoch's evaluation give the top-1 that is listed for it, whichever process of the run gets there."""

    def listed(*scores: float) -> None:
        end, evaluate, epochs = loop._Run.end_epoch, evaluation.evaluate, []

        def ending(run):
            epochs.append(run.state.epoch)
            end(run)
            epochs.clear()

        def evaluated(*given, **named):
            found = evaluate(*given, **named)
            return replace(found, top1=scores[epochs[0]]) if epochs else found

        monkeypatch.setattr(loop._Run, "end_epoch", ending)
        monkeypatch.setattr(evaluation, "evaluate", evaluated)

    return listed


def epochs(folder: Path) -> list[int]:
    return [line["epoch"] for line in read_metrics(folder) if "epoch" in line]


def test_a_run_stops_after_so_many_epochs_without_a_better_score_and_says_why(tmp_path, capsys, scored):
    scored(10.0, 30.0, 20.0, 40.0, 40.0, 39.0, 90.0, 90.0)  # as good is not better
    result = train(PATIENT, tmp_path, console=Console())
    why = (
        "stopped early, after epoch 6 of 8: top-1 has not risen above the 40.00 % of epoch 4 for 2 epochs (patience=2)"
    )
    assert result.stopped_early == why
    assert why in " ".join(capsys.readouterr().out.split())
    assert epochs(tmp_path) == [0, 1, 2, 3, 4, 5]
    assert result.best_top1 == 40.0
    assert load_network(tmp_path, "best")[1].epoch == 3
    state = (tmp_path / "state.pt").read_bytes()
    again = train(PATIENT, tmp_path, resume=True, console=Console())
    assert again.stopped_early == why
    assert why in " ".join(capsys.readouterr().out.split())
    assert epochs(tmp_path) == [0, 1, 2, 3, 4, 5]
    assert (tmp_path / "state.pt").read_bytes() == state


def test_a_run_whose_patience_lasts_ends_as_without(tmp_path, capsys, scored):
    scored(*[10.0, 20.0, 15.0, 30.0, 25.0, 40.0, 35.0, 30.0])  # it is out just as the run ends anyway
    result = train(PATIENT, tmp_path / "patient", console=Console())
    assert result.stopped_early is None
    assert "stopped early" not in capsys.readouterr().out
    train(replace(PATIENT, patience=None), tmp_path / "plain")
    one, other = (torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("patient", "plain"))
    torch.testing.assert_close(one["model"], other["model"], rtol=0, atol=0)


def test_epochs_before_the_final_form_do_not_count(tmp_path, scored):
    recipe = replace(EVERYTHING, epochs=6, patience=1)  # deep training takes the first two
    scored(90.0, 80.0, 20.0, 30.0, 25.0, 99.0)
    result = train(recipe, tmp_path)
    assert epochs(tmp_path) == [0, 1, 2, 3, 4]
    assert "after epoch 5 of 6: top-1 has not risen above the 30.00 % of epoch 4 for 1 epoch " in result.stopped_early


@pytest.mark.parametrize("breaks_at", [7, 9, 10], ids=["before a better epoch", "mid-epoch", "as an epoch begins"])
def test_a_run_that_is_killed_stops_at_the_same_epoch_bit_for_bit(tmp_path, monkeypatch, scored, breaks_at):
    scored(10.0, 30.0, 20.0, 40.0, 40.0, 39.0, 90.0, 90.0)
    train(PATIENT, tmp_path / "whole")
    step = loop._Run.step

    def broken(run, batch):
        assert run.state.step != breaks_at
        step(run, batch)

    with monkeypatch.context() as patched:
        patched.setattr(loop._Run, "step", broken)
        with pytest.raises(AssertionError):
            train(PATIENT, tmp_path / "run")
    result = train(PATIENT, tmp_path / "run", resume=True)
    assert "after epoch 6 of 8" in result.stopped_early
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_another_patience_is_another_run(tmp_path):
    train(replace(TINY, epochs=1), tmp_path)
    with pytest.raises(ValueError, match=r"it differs in patience \(None there, 3 given\)"):
        train(replace(TINY, epochs=1, patience=3), tmp_path, resume=True)


def test_patience_is_checked_and_scaled():
    with pytest.raises(ValueError, match=r"patience=0 must be above zero"):
        replace(TINY, patience=0)
    recipe = replace(TINY, epochs=100, patience=10)
    assert [for_epochs(recipe, epochs).patience for epochs in (50, 5, 1000)] == [5, 1, 100]
    assert for_epochs(replace(recipe, patience=None), 50).patience is None


def test_a_state_of_an_earlier_version_goes_on(tmp_path):
    train(replace(TINY, epochs=1), tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    del state["stale_epochs"]
    torch.save(state, tmp_path / "state.pt")
    assert train(replace(TINY, epochs=1), tmp_path, resume=True).stopped_early is None
