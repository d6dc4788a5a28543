"""Classes with unequal numbers of images: weights in the loss, and epochs with as many images of each class."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from data.pictures_for_tests import encoded
from rich.console import Console
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.testing import assert_close
from training.recipes_for_tests import PLAIN, TINY
from training.test_resume import assert_same_run

from plainvision.data.batches import Batch, TrainingBatches
from plainvision.data.epochs import balanced_order
from plainvision.training import Augment, Data, Machine, Recipe, loop, train
from plainvision.training.class_loss import ClassLoss
from plainvision.training.class_weights import balanced_weights, image_weights
from plainvision.training.optimization import Optimization

LABELS = np.repeat([0, 1, 3], [70, 28, 2])  # and no image of class 2
COUNTS = {"coat": 12, "hat": 6, "shoe": 2}


@pytest.fixture
def unequal(tmp_path) -> Path:
    for split, share in (("train", 1), ("validation", 2)):
        for place, (name, count) in enumerate(COUNTS.items()):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count // share):
                (folder / f"{number}.png").write_bytes(encoded(100 * place + number))
    return tmp_path / "images"


def recipe(root: Path, **changes) -> Recipe:
    data = Data(root=str(root), image_size=32, workers=0)
    made = replace(TINY, model_options={"width": 1 / 64}, data=data, batch_size=4, epochs=3)
    return replace(made, **changes)


def balanced(root: Path, **changes) -> Recipe:
    made = recipe(root, **changes)
    return replace(made, data=replace(made.data, sampling="balanced"))


def objective(weights: torch.Tensor | None, **changes) -> ClassLoss:
    made = replace(PLAIN, **{"label_smoothing": 0.0, "machine": Machine(threads=1), **changes})
    return ClassLoss(made, 4, weights)


def optimization(weights: torch.Tensor | None, **changes) -> Optimization:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    loss = objective(weights, **changes)
    return Optimization(loss.recipe, model, Accelerator(cpu=True), loss, 5)


# weights


def test_weights_are_those_of_scikit_learn():
    weights = balanced_weights(LABELS, 4)
    assert_close(weights, torch.tensor([100 / (3 * 70), 100 / (3 * 28), 0.0, 100 / (3 * 2)]))
    theirs = compute_class_weight("balanced", classes=np.unique(LABELS), y=LABELS)
    assert_close(weights[[0, 1, 3]].double(), torch.tensor(theirs), rtol=1e-6, atol=0)
    assert weights[LABELS].mean().item() == pytest.approx(1)


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_over_all_images_each_class_weighs_the_same(loss):
    weights = balanced_weights(LABELS, 4)
    labels = torch.from_numpy(LABELS)
    logits = torch.randn(len(labels), 4)
    made = objective(weights, loss=loss)
    found = made.criterion(logits, made.targets(labels))
    one_hot = F.one_hot(labels, 4).float()
    each = (
        F.cross_entropy(logits, labels, reduction="none")
        if loss == "cross_entropy"
        else F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none").mean(1)
    )
    assert_close(found, torch.stack([each[labels == label].mean() for label in (0, 1, 3)]).mean())
    if loss == "cross_entropy":
        assert_close(found, F.cross_entropy(logits, labels, weight=weights))


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_a_mixed_image_counts_by_its_shares_and_smoothing_changes_no_weight(loss, smoothing):
    weights = torch.tensor([0.5, 1.0, 2.0, 20.0])
    shares = torch.tensor([[0.7, 0.3, 0, 0], [0, 0, 1, 0], [0, 0, 0.25, 0.75]])
    targets = (1 - smoothing) * shares + smoothing / 4
    assert_close(image_weights(targets, weights, smoothing), torch.tensor([0.65, 2.0, 15.5]))
    logits = torch.randn(3, 4)
    found = objective(weights, loss=loss, label_smoothing=smoothing).criterion(logits, targets)
    each = (
        -(targets * logits.log_softmax(1)).sum(1)
        if loss == "cross_entropy"
        else F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    )
    assert_close(found, (each * torch.tensor([0.65, 2.0, 15.5])).mean())


def test_the_threshold_of_a_mixed_image_is_taken_after_its_weight():
    weights = torch.tensor([0.5, 1.0, 2.0, 20.0])
    logits, mixed = torch.randn(1, 4), torch.tensor([[0.7, 0.3, 0.0, 0.0]])
    found = objective(weights, loss="bce", bce_threshold=0.0).criterion(logits, mixed)
    hard = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    assert_close(found, 0.65 * F.binary_cross_entropy_with_logits(logits, hard))


def test_weights_of_one_are_no_weights():
    logits, labels = torch.randn(8, 4), torch.arange(8) % 4
    for loss in ("cross_entropy", "bce"):
        with_ones, without = (objective(w, loss=loss, label_smoothing=0.1) for w in (torch.ones(4), None))
        targets = without.targets(labels)
        assert_close(with_ones.criterion(logits, targets), without.criterion(logits, targets))


def test_a_weighted_batch_in_parts_is_the_batch():
    images, labels, weights = torch.randn(8, 1, 4, 4), torch.arange(8) % 4, torch.tensor([0.1, 1.0, 2.0, 30.0])
    found = []
    for accumulate in (1, 4):
        torch.manual_seed(0)
        made = optimization(weights, machine=Machine(accumulate=accumulate))
        loss, _ = made.step(Batch(images, labels, (), ()), 0)
        found.append([loss, *(parameter.detach() for parameter in made.model.parameters())])
    assert_close(found[0], found[1])


@pytest.mark.parametrize("augment", [Augment(scale=(0.6, 1.0)), Augment(scale=(0.6, 1.0), mixup=0.5, cutmix=0.5)])
def test_a_run_with_weights_says_them_and_learns_otherwise(unequal, tmp_path, capsys, augment):
    one = train(recipe(unequal, augment=augment, epochs=1), tmp_path / "none")
    other = train(
        recipe(unequal, augment=augment, epochs=1, class_weights="balanced"), tmp_path / "all", console=Console()
    )
    assert "class weights: 0.556 (coat) to 3.33 (shoe)" in capsys.readouterr().out
    weights = [torch.cat([p.flatten() for p in result.network.parameters()]) for result in (one, other)]
    assert not torch.allclose(*weights)


# sampling


def test_an_order_has_as_many_images_of_each_class():
    order = balanced_order(LABELS, np.random.default_rng(0))
    assert len(order) == len(LABELS)
    assert sorted(Counter(LABELS[order].tolist()).values()) == [33, 33, 34]
    for label in (0, 1, 3):
        own = np.flatnonzero(label == LABELS)
        times = [int((order == index).sum()) for index in own]
        assert max(times) - min(times) <= 1  # no image of a class comes often while another never does
    assert np.abs(np.diff(LABELS[order])).astype(bool).sum() > 40  # classes are mixed
    again, other = (balanced_order(LABELS, np.random.default_rng(seed)) for seed in (0, 1))
    assert np.array_equal(order, again)
    assert set(order) != set(other)  # what one epoch leaves out, another shows


@pytest.mark.parametrize("repeats", [1, 3])
def test_epochs_are_balanced_whoever_reads_them(unequal, repeats):
    whole = balanced(unequal, batch_size=20 * repeats, augment=Augment(repeats=repeats))
    (batch,) = TrainingBatches(whole).epoch(1)
    assert sorted(Counter(batch.labels.tolist()).values()) == [6 * repeats, 7 * repeats, 7 * repeats]
    parts = replace(whole, batch_size=4 * repeats)
    alone = list(TrainingBatches(parts).epoch(1))
    assert sorted(name for part in alone for name in part.names) == sorted(batch.names)
    helped = TrainingBatches(replace(parts, data=replace(parts.data, workers=2)))
    assert [b.names for b in helped.epoch(1, 2)] == [b.names for b in alone[2:]]
    shares = [list(TrainingBatches(parts, rank=rank, processes=2).epoch(1)) for rank in (0, 1)]
    assert [a.names + b.names for a, b in zip(*shares, strict=True)] == [b.names for b in alone]


def test_a_damaged_image_that_comes_several_times_is_named_once(unequal):
    (unequal / "train" / "shoe" / "0.png").write_bytes(b"")
    (batch,) = TrainingBatches(balanced(unequal, batch_size=20)).epoch(0)
    assert len(batch.names) == 20
    assert [name.split(" ")[0] for name in batch.skipped] == ["images/train/shoe/0.png"]


@pytest.mark.parametrize("breaks_at", [3, 7])
def test_a_balanced_run_that_is_killed_in_an_epoch_goes_on_bit_for_bit(unequal, tmp_path, monkeypatch, breaks_at):
    made = balanced(unequal, machine=Machine(threads=1, log_steps=2, checkpoint_steps=2))
    train(made, tmp_path / "whole")
    step = loop._Run.step

    def broken(run, batch):
        assert run.state.step != breaks_at
        step(run, batch)

    monkeypatch.setattr(loop._Run, "step", broken)
    with pytest.raises(AssertionError):
        train(made, tmp_path / "run")
    monkeypatch.undo()
    train(made, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    with pytest.raises(ValueError, match=r"differs in data\.sampling \('balanced' there, 'shuffled' given\)"):
        train(recipe(unequal, machine=made.machine), tmp_path / "run", resume=True)


# what cannot be


def test_both_at_once_are_refused(unequal):
    with pytest.raises(ValueError, match=r"class_weights='balanced' and data\.sampling='balanced' both.*Choose one"):
        balanced(unequal, class_weights="balanced")


@pytest.mark.parametrize("name", ["class_weights", "data.sampling"])
def test_a_stream_refuses_what_needs_its_labels(tmp_path, name):
    made = recipe(tmp_path)
    data = replace(made.data, root="wds/shards", sampling="balanced" if name == "data.sampling" else "shuffled")
    weights = "balanced" if name == "class_weights" else None
    with pytest.raises(ValueError, match=rf"{name}='balanced' needs to know how many .* is a stream.*Leave it out"):
        TrainingBatches(replace(made, data=data, class_weights=weights))
