"""Order, randomness and damaged images in batches, whatever they come from."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from data.pictures_for_tests import (
    CLASSES,
    LIVELY,
    SMALL,
    assert_equal,
    evaluation,
    names,
    recipe,
    zipped,
)

from plainvision.data.batches import Batch, EvaluationBatches, TrainingBatches
from plainvision.data.rows import workers_of
from plainvision.training.recipe import Augment, Data, Machine


def test_batches_do_not_depend_on_workers_and_an_epoch_can_be_entered_at_any_step(folder):
    archive = zipped(folder)
    alone = TrainingBatches(recipe(archive))
    assert (alone.images_per_epoch, alone.steps_per_epoch, alone.classes) == (12, 3, CLASSES)
    epochs = [list(alone.epoch(number)) for number in (0, 1)]
    helped = TrainingBatches(recipe(archive, workers=2))
    for number in (1, 0):  # in the other order: an epoch owes nothing to the one before
        assert_equal(epochs[number], list(helped.epoch(number)))
        assert_equal(epochs[number][2:], list(helped.epoch(number, start_step=2)))
        assert_equal(epochs[number][1:], list(alone.epoch(number, start_step=1)))
    assert list(alone.epoch(0, start_step=3)) == []


@pytest.mark.parametrize(
    ("root", "given", "processors", "share", "expected"),
    [
        ("photos.zip", None, 16, "1", 8),
        ("photos.zip", None, 2, "1", 2),
        ("photos.zip", None, 16, "4", 4),
        ("photos.zip", None, 4, "8", 1),
        ("photos.zip", 0, 16, "1", 0),
        ("digits", None, 16, "1", 0),
        ("digits", 3, 16, "1", 3),
    ],
)
def test_as_many_processes_read_as_pay(monkeypatch, root, given, processors, share, expected):
    monkeypatch.setattr("plainvision.processes._processors", lambda: processors)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", share)
    assert workers_of(Data(root=root, workers=given)) == expected


def test_an_epoch_is_a_permutation_by_seed_and_epoch(folder):
    orders = set()
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (-1, 0)):
        order = names(list(TrainingBatches(recipe(folder, seed=seed)).epoch(epoch)))
        assert len(set(order)) == 12
        orders.add(tuple(order))
    assert len(orders) == 4


def test_augmentation_differs_between_epochs_and_between_repeats(folder):
    training = TrainingBatches(recipe(folder, batch_size=36, augment=replace(LIVELY, repeats=3)))
    assert training.images_per_epoch == 36
    (batch,) = training.epoch(0)
    assert set(Counter(batch.names).values()) == {3}
    assert batch.names[:12] == batch.names[12:24] == batch.names[24:]  # repeats meet in one batch, far apart
    assert len(batch.images.flatten(1).unique(dim=0)) > 30
    once = TrainingBatches(recipe(folder, batch_size=12))
    first, second = (dict(zip(b.names, b.images, strict=True)) for e in (0, 1) for b in once.epoch(e))
    assert sum(not torch.equal(first[name], second[name]) for name in first) > 9


def test_processes_share_each_batch(folder):
    whole = list(TrainingBatches(recipe(folder)).epoch(2))
    shares = [list(TrainingBatches(recipe(folder), rank=rank, processes=2).epoch(2)) for rank in (0, 1)]
    joined = [
        Batch(
            torch.cat([a.images, b.images]),
            torch.cat([a.labels, b.labels]),
            a.names + b.names,
            a.skipped + b.skipped,
        )
        for a, b in zip(*shares, strict=True)
    ]
    assert_equal(whole, joined)


@pytest.mark.parametrize("processes", [1, 2, 4, 5])
def test_evaluation_sees_each_image_once_over_all_processes(folder, processes):
    data = Data(root=str(folder), **SMALL)  # type: ignore[arg-type]
    shares = [EvaluationBatches(data, batch_size=2, rank=r, processes=processes) for r in range(processes)]
    seen = [name for share in shares for name in names(list(share))]
    assert len(seen) == len(set(seen)) == 6
    assert [share.images for share in shares] == [len(names(list(share))) for share in shares]


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_leaves_the_random_numbers_of_training_alone(folder, workers):
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    list(TrainingBatches(recipe(folder, workers=workers)).epoch(0))
    list(evaluation(folder, workers=workers))
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_an_abandoned_epoch_does_not_spoil_the_next(folder, workers):
    training = TrainingBatches(recipe(folder, workers=workers))
    expected = list(TrainingBatches(recipe(folder)).epoch(1))
    old = training.epoch(0)
    next(old)
    new = training.epoch(1)
    assert_equal(expected[:1], [next(new)])
    with pytest.raises(RuntimeError, match="another call of epoch"):
        next(old)
    assert_equal(expected[1:], list(new))


@pytest.mark.parametrize("workers", [0, 2])
def test_training_takes_the_next_readable_image_and_names_the_damaged_one(damaged, workers):
    training = TrainingBatches(recipe(damaged, workers=workers))
    batches = list(training.epoch(0))
    assert [len(batch.labels) for batch in batches] == [4, 4, 4]
    told = {name for batch in batches for name in batch.skipped}
    assert len(told) == 2
    assert "clothes/train/shoe/2.png (cannot identify image file)" in told
    assert any(name.startswith("clothes/train/hat/1.png (") for name in told)
    assert not any("0x" in name or str(damaged.parent) in name for name in told)
    # Each substitute is the next image of the order, so it appears twice.
    assert sorted(Counter(names(batches)).values(), reverse=True)[:2] in ([2, 2], [3, 1])
    assert_equal(batches[1:], list(training.epoch(0, start_step=1)))
    assert_equal(batches, list(TrainingBatches(recipe(damaged)).epoch(0)))


def test_training_names_a_damaged_image_once_for_its_repeats(damaged):
    (batch,) = TrainingBatches(recipe(damaged, batch_size=24, augment=Augment(repeats=2))).epoch(0)
    assert len(batch.names) == 24
    assert len(batch.skipped) == 2


def test_evaluation_leaves_a_damaged_image_out_and_names_it(damaged):
    for batch_size in (1, 2, 6):
        batches = list(evaluation(damaged, batch_size=batch_size))
        assert len(names(batches)) == 5
        assert all(len(batch.names) for batch in batches)
        assert [name for b in batches for name in b.skipped] == [
            "clothes/validation/coat/0.png (cannot identify image file)"
        ]
    (damaged / "validation" / "shoe" / "1.png").write_bytes(b"")
    assert [len(batch.skipped) for batch in evaluation(damaged, batch_size=1)] == [1, 0, 0, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_stops_the_run_where_the_recipe_says_so(damaged, workers):
    match = r"^cannot read the image clothes/train/(hat/1|shoe/2)\.png: .*set data\.corrupt=skip"
    training = TrainingBatches(recipe(damaged, workers=workers, corrupt="stop"))
    with pytest.raises(ValueError, match=match):
        list(training.epoch(0))
    with pytest.raises(ValueError, match=match):  # and again: the workers have not died
        list(training.epoch(0))
    with pytest.raises(ValueError, match=r"^cannot read the image clothes/validation/coat/0\.png"):
        list(evaluation(damaged, workers=workers, corrupt="stop"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_that_cannot_be_read_at_all_is_an_error(folder, workers):
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"^no image of .* 'train', can be read: 12 in a row"):
        list(TrainingBatches(recipe(folder, workers=workers)).epoch(0))
    with pytest.raises(ValueError, match=r"^no image of .* 'validation', can be read: 6 in a row"):
        list(evaluation(folder, workers=workers))


def test_batches_must_fit_the_data_and_the_processes(folder):
    with pytest.raises(ValueError, match=r"batch_size=16 but only 12 images.*Set batch_size to 12 or less"):
        TrainingBatches(recipe(folder, batch_size=16))
    with pytest.raises(ValueError, match=r"batch_size=5 cannot be shared equally by 2 processes.*Set batch_size=4"):
        TrainingBatches(recipe(folder, batch_size=5), processes=2)
    with pytest.raises(ValueError, match=r"in 4 passes each \(machine\.accumulate\).*multiple of 8.*batch_size=8"):
        TrainingBatches(replace(recipe(folder), machine=Machine(accumulate=4)), processes=2)
    with pytest.raises(ValueError, match=r"start_step=4 lies outside an epoch of 3 steps"):
        TrainingBatches(recipe(folder)).epoch(0, start_step=4)
