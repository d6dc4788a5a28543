"""Trackers beside a run's own metrics: TensorBoard for real, the others by stand-ins."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest
from accelerate import tracking
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training.recipes_for_tests import TINY

from plainvision.training import Machine, loop, train
from plainvision.training.resumable import read_metrics
from plainvision.training.trackers import check_trackers

STOPPING = replace(TINY, epochs=3, machine=Machine(threads=1, log_steps=1))


class Recorded(tracking.GeneralTracker):
    """What a tracker is told."""

    requires_logging_directory = False
    fails_at: int | None = None
    told: list

    def __init__(self, project, **settings) -> None:
        super().__init__()
        type(self).told = [("project", project, settings)]

    @property
    def tracker(self):
        return self

    def start(self) -> None:
        if self.fails_at == 0:
            raise RuntimeError("no key\nof yours")

    def store_init_configuration(self, values) -> None:
        self.told.append(("settings", values))

    def log(self, values, step) -> None:
        if step == self.fails_at:
            raise ConnectionError("the network is gone")
        self.told.append((step, values))

    def finish(self) -> None:
        self.told.append("finished")


@pytest.fixture
def stand_ins(monkeypatch) -> dict[str, type[Recorded]]:
    kinds = {}
    for name, attribute in (("wandb", "WandBTracker"), ("mlflow", "MLflowTracker")):
        kinds[name] = type(attribute, (Recorded,), {"name": name})
        monkeypatch.setattr(tracking, attribute, kinds[name])
        module = ModuleType(name)
        module.__spec__ = sys.__spec__
        monkeypatch.setitem(sys.modules, name, module)
    return kinds


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def figures(folder, name: str) -> list[tuple[int, float]]:
    return [(line["step"], pytest.approx(line[name])) for line in read_metrics(folder) if name in line]


def test_tensorboard_shows_the_metrics_also_of_a_run_that_was_killed_and_went_on(tmp_path, monkeypatch):
    step = loop._Run.step

    def broken(run, batch):
        assert run.state.step != 5
        step(run, batch)

    monkeypatch.setattr(loop._Run, "step", broken)
    with pytest.raises(AssertionError):
        train(STOPPING, tmp_path, trackers=["tensorboard"])
    monkeypatch.undo()
    assert [number for number, _ in scalars(tmp_path)["loss"]] == [1, 2, 3, 4, 5]
    train(STOPPING, tmp_path, resume=True, trackers=["tensorboard"])
    shown = scalars(tmp_path)
    for name in ("loss", "learning_rate", "top1", "validation_loss"):
        assert shown[name] == figures(tmp_path, name)  # the fifth step, which was taken twice, is there once
    assert "step" not in shown


def test_nothing_is_tracked_unasked(tmp_path):
    train(TINY, tmp_path)
    assert not (tmp_path / "tensorboard").exists()


def test_trackers_get_project_settings_and_every_line_once(tmp_path, stand_ins):
    train(TINY, tmp_path / "my run", trackers=["wandb", "mlflow", "wandb"])
    for name, settings in (
        ("wandb", {"name": "my run", "dir": str(tmp_path / "my run")}),
        ("mlflow", {"run_name": "my run"}),
    ):
        project, (_, values), *lines, last = stand_ins[name].told
        assert project == ("project", "plainvision", settings)
        assert (values["name"], values["data.train_per_class"], values["augment.scale"]) == ("tiny", 4, "[0.6, 1.0]")
        written = read_metrics(tmp_path / "my run")
        assert lines == [
            (line["step"], {name: value for name, value in line.items() if name not in ("step", "epoch")})
            for line in written
        ]
        assert last == "finished"


def test_a_tracker_that_fails_is_named_once_and_the_run_goes_on(tmp_path, stand_ins, capsys):
    stand_ins["wandb"].fails_at = 2
    train(TINY, tmp_path, trackers=["wandb", "mlflow"], console=Console())
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("wandb failed and gets no more numbers of this run (ConnectionError: the network is gone)") == 1
    assert [one[0] for one in stand_ins["wandb"].told] == ["project", "settings", 1]
    assert stand_ins["mlflow"].told[-1] == "finished"
    assert len(read_metrics(tmp_path)) == 6


def test_a_tracker_that_does_not_start_is_an_error_before_the_first_step(tmp_path, stand_ins):
    stand_ins["mlflow"].fails_at = 0
    with pytest.raises(
        ValueError, match=r"mlflow does not start \(RuntimeError: no key of yours\)\. Mend .*go on with --resume"
    ):
        train(TINY, tmp_path, trackers=["mlflow"])
    assert read_metrics(tmp_path) == []
    train(TINY, tmp_path, resume=True)


def test_a_run_that_is_stopped_finishes_its_trackers(tmp_path, stand_ins, monkeypatch):
    monkeypatch.setattr(loop._Run, "end_epoch", lambda run: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path, trackers=["wandb"])
    assert stand_ins["wandb"].told[-1] == "finished"


def test_a_missing_package_is_one_error_with_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setattr("plainvision.training.trackers.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"with wandb needs its package.*: pip install wandb\. Or leave --log"):
        train(TINY, tmp_path / "run", trackers=["wandb"])
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"unknown tracker 'paper'; there are tensorboard, wandb, mlflow"):
        check_trackers(["paper"])
