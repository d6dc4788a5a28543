"""A search learns each part from its own half, and goes on after a break as if there had been none."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from search.searches_for_tests import DIGITS, INDIVIDUAL, TINY
from torch.testing import assert_close

from plainvision.processes import TrainingInterrupted
from plainvision.search import CellSearch, load_genotype, search_cells
from plainvision.search.cell_search import SearchFolder, _Search
from plainvision.search.halves import Halves, halve
from plainvision.training import Augment
from plainvision.training.resumable import read_metrics


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "unbroken"
    search_cells(TINY, folder)
    return folder


def assert_same_search(folder: Path, other: Path) -> None:
    for name in ("genotype.json", "metrics.jsonl", "search.json"):
        assert (folder / name).read_text() == (other / name).read_text()
    one, two = (torch.load(path / "state.pt", weights_only=True) for path in (folder, other))
    assert_close(one, two, rtol=0, atol=0)


def test_a_search_writes_its_cells_each_epoch(unbroken):
    genotype = load_genotype(unbroken / "genotype.json", space=TINY.space)
    assert genotype.origin == {"epoch": 2, "search": TINY.to_dict()}
    lines = read_metrics(unbroken)
    assert [(line["epoch"], line["step"]) for line in lines] == [(0, 3), (1, 6)]
    for line in lines:
        assert 0 <= line["parameter_free"] <= 1
        assert abs(line["weights_loss"] - math.log(10)) < 0.5
        assert abs(line["architecture_loss"] - math.log(10)) < 0.5
    state = torch.load(unbroken / "state.pt", weights_only=True)
    assert state["net"]["normal"].std() > 0.05  # it moved
    assert state["weights"]["param_groups"][0]["lr"] == pytest.approx(TINY.lr * 0.5 * (1 + math.cos(math.pi * 5 / 6)))


@pytest.mark.parametrize(
    ("step", "how"),
    [
        pytest.param(1, RuntimeError("lost"), id="before the first checkpoint"),
        pytest.param(4, RuntimeError("lost"), id="at a checkpoint"),
        pytest.param(5, KeyboardInterrupt(), id="between checkpoints, by Ctrl-C"),
    ],
)
def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(unbroken, tmp_path, monkeypatch, step, how):
    advance = _Search.advance

    def stopped(search, epoch, weights, architecture):
        if search.step == step:
            raise how
        advance(search, epoch, weights, architecture)

    monkeypatch.setattr(_Search, "advance", stopped)
    kind = TrainingInterrupted if isinstance(how, KeyboardInterrupt) else RuntimeError
    with pytest.raises(kind, match=r"lost|stopped at step 5 of 6; step 4 is saved in .*--resume"):
        search_cells(TINY, tmp_path / "search")
    monkeypatch.undo()
    search_cells(TINY, tmp_path / "search", resume=True)
    assert_same_search(tmp_path / "search", unbroken)


def test_a_finished_search_is_not_repeated_and_may_use_the_machine_differently(unbroken, monkeypatch):
    before = (unbroken / "state.pt").read_bytes()
    monkeypatch.setattr(_Search, "advance", None)
    settings = replace(TINY, checkpoint_steps=None, data=replace(DIGITS, workers=3))
    assert search_cells(settings, unbroken, resume=True) == load_genotype(unbroken / "genotype.json")
    assert (unbroken / "state.pt").read_bytes() == before
    search_cells(TINY, unbroken, resume=True)  # writes its settings back


def test_the_architecture_learns_from_its_half_alone_and_the_weights_from_theirs(tmp_path):
    pairs = list(Halves(replace(TINY, batch_size=60)).epoch(0))

    def after(which: str, weights: int, architecture: int) -> tuple[torch.Tensor, torch.Tensor]:
        settings = replace(TINY, batch_size=60)
        search = _Search(settings, SearchFolder(tmp_path / which, settings.to_dict(), resume=False), False)
        search.advance(0, pairs[weights][0], pairs[architecture][1])
        return search.net.normal.detach(), search.net.cells[0].inputs.newer[1].weight.detach()

    normal, layer = after("a", 0, 0)
    other_weights = after("b", 1, 0)
    other_architecture = after("c", 0, 1)
    assert torch.equal(normal, other_weights[0])  # first order: no trace of the weights' half
    assert not torch.equal(layer, other_weights[1])
    assert not torch.equal(normal, other_architecture[0])


def test_the_architecture_moves_against_the_gradient_of_its_batch(tmp_path):
    settings = replace(TINY, architecture_weight_decay=0.0)
    search = _Search(settings, SearchFolder(tmp_path / "search", settings.to_dict(), resume=False), False)
    weights, architecture = next(search.halves.epoch(0))
    loss = torch.nn.functional.cross_entropy(search.net(architecture.images), architecture.labels)
    gradient = torch.autograd.grad(loss, search.net.normal)[0]
    search.advance(0, weights, architecture)
    moved = gradient.abs() > 1e-6  # Adam's first step is the sign, times the rate
    assert moved.any()
    assert_close(search.net.normal.detach()[moved], -0.1 * gradient.sign()[moved], rtol=0, atol=2e-3)


@pytest.mark.parametrize("settings", [TINY, INDIVIDUAL], ids=["shared", "individual"])
def test_the_architecture_gets_better_at_its_own_half(tmp_path, settings):
    search = _Search(settings, SearchFolder(tmp_path / "search", settings.to_dict(), resume=False), False)
    _, architecture = next(search.halves.epoch(0))
    losses = [search._descend(search.architecture, architecture, None)[0] for _ in range(4)]
    assert losses[-1] < losses[0]


def test_the_halves_never_meet_and_have_as_many_of_each_class():
    labels = np.repeat([0, 1, 2], [11, 5, 7])
    weights, architecture = halve(labels, seed=0)
    assert sorted([*weights, *architecture]) == list(range(23))
    assert (len(weights), len(architecture)) == (12, 11)
    for label in range(3):
        assert abs((labels[weights] == label).sum() - (labels[architecture] == label).sum()) <= 1
    assert not np.array_equal(halve(labels, seed=1)[0], weights)


def test_an_epoch_reads_each_image_of_its_half_once_and_begins_anywhere():
    halves = Halves(TINY)
    names = [[set(batch.names) for batch in pair] for epoch in (0, 1) for pair in halves.epoch(epoch)]
    weights, architecture = (set.union(*(pair[which] for pair in names)) for which in (0, 1))
    assert not weights & architecture
    assert sum(len(pair[0]) for pair in names[:3]) == len(set.union(*(pair[0] for pair in names[:3]))) == 3 * 180
    in_others = Halves(replace(TINY, data=replace(DIGITS, workers=2)))  # processes that read
    whole, rest = list(halves.epoch(1)), list(in_others.epoch(1, start_step=2))
    assert len(rest) == 1
    for one, other in zip(whole[2], rest[0], strict=True):
        assert one.names == other.names
        assert torch.equal(one.images, other.images)
    assert whole[0][0].names != next(halves.epoch(0))[0].names


@pytest.fixture
def torn(tmp_path) -> Path:
    """Twenty images of two classes, of which one is damaged."""
    for number in range(20):
        file = tmp_path / "images" / "train" / "ab"[number % 2] / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 9 * number, dtype=np.uint8)).save(file)
    (tmp_path / "images" / "train" / "a" / "06.png").write_bytes(b"torn")
    return tmp_path / "images"


def test_an_image_that_cannot_be_read_is_replaced_and_named_or_stops_the_search(torn, tmp_path, capsys):
    settings = replace(TINY, data=replace(DIGITS, root=str(torn)), batch_size=5, epochs=1, checkpoint_steps=None)
    search_cells(settings, tmp_path / "search", console=Console())
    assert "skipped images/train/a/06.png (" in " ".join(capsys.readouterr().out.split())
    stopping = replace(settings, data=replace(settings.data, corrupt="stop"))
    with pytest.raises(ValueError, match=r"cannot read the image images/train/a/06\.png: .*data\.corrupt=skip"):
        search_cells(stopping, tmp_path / "other")
    for file in torn.glob("*/*/*"):
        file.write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"no image of .*can be read: 10 in a row failed, the first of them images/"):
        list(Halves(settings).epoch(0))


def test_a_loss_that_is_not_finite_stops_the_search(tmp_path):
    with pytest.raises(ValueError, match=r"at step \d.*diverged and was stopped.*lower lr or architecture_lr"):
        search_cells(replace(TINY, lr=1e30, clip_grad=None), tmp_path / "search")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, r"epochs=0 must be above zero"),
        ({"depth": 2}, r"depth=2: a network has two reduction cells"),
        ({"operations": ("skip", "conv")}, r"unknown operation 'conv'"),
        ({"augment": Augment(mixup=0.2)}, r"augment\.mixup and augment\.cutmix must be 0"),
        (
            {"batch_size": 1000},
            r"batch_size=1000, but half of the training images are 718.*Set batch_size to 718 or less",
        ),
        ({"data": replace(DIGITS, root="wds/shards-{0..3}.tar")}, r"is a stream, and a search reads two halves"),
    ],
)
def test_settings_that_cannot_work_are_explained(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        search_cells(replace(TINY, **changes), tmp_path / "search")
    assert not (tmp_path / "search").exists()


def test_a_folder_keeps_its_own_search(unbroken, tmp_path):
    with pytest.raises(ValueError, match=r"already holds this search. Add --resume to continue it, or give another"):
        search_cells(TINY, unbroken)
    other = replace(TINY, cells="individual", data=replace(DIGITS, image_size=16))
    with pytest.raises(
        ValueError, match=r"holds another search; it differs in cells \('shared' there, 'individual' given"
    ):
        search_cells(other, unbroken, resume=True)
    with pytest.raises(ValueError, match=r"nothing to resume in .*: it holds no search\.json. Start without --resume"):
        search_cells(TINY, tmp_path, resume=True)
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is not empty and holds no search of ours. Give an empty or a new folder"):
        search_cells(TINY, tmp_path)
    (tmp_path / "search.json").write_text('{"cells": ')
    with pytest.raises(ValueError, match=r"search\.json is damaged: .*Give another folder with --out"):
        search_cells(TINY, tmp_path, resume=True)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write the search's folder .*file/search.*--out"):
        search_cells(TINY, tmp_path / "file" / "search")


def test_a_search_is_one_process(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"a search runs in one process. Start it without a launcher"):
        search_cells(TINY, tmp_path / "search")


def test_the_defaults_are_the_papers():
    settings = CellSearch()
    assert (settings.depth, settings.nodes, settings.channels, settings.epochs, settings.batch_size) == (
        8,
        4,
        16,
        50,
        64,
    )
    assert (settings.lr, settings.weight_decay, settings.architecture_lr) == (0.025, 3e-4, 3e-4)
    assert (settings.architecture_betas, settings.architecture_weight_decay) == ((0.5, 0.999), 1e-3)
