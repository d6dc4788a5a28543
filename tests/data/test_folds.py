"""Folds of cross-validation: a partition, by class, by seed and by the images' names."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from commands.running import plainvision, said
from data.pictures_for_tests import encoded, recipe, zipped

from plainvision.data.batches import EvaluationBatches, TrainingBatches
from plainvision.data.drawn_split import draw_folds
from plainvision.data.images import open_images
from plainvision.data.settings import Data
from plainvision.training import loop
from plainvision.training.cross_validation import CrossValidation, FoldScore

COUNTS = {"coat": 11, "hat": 7, "shoe": 2}


@pytest.fixture
def photos(tmp_path) -> Path:
    """``photos/CLASS/N.png``: three classes, in no split, one of them of fewer images than there are folds."""
    seed = 0
    for name, count in COUNTS.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(count):
            seed += 1
            (tmp_path / "photos" / name / f"{number}.png").write_bytes(encoded(seed))
    return tmp_path / "photos"


def parts(root: object, fold: int, **data: object) -> tuple[set[str], set[str]]:
    both = []
    for role in ("train", "validation"):
        images = open_images(Data(root=str(root), folds=5, fold=fold, **data), role)
        both.append({images.name(index).split("photos/")[-1] for index in range(len(images.labels))})
    return both[0], both[1]


def test_each_image_validates_once_and_trains_otherwise(photos):
    found = [parts(photos, fold) for fold in range(1, 6)]
    every = found[0][0] | found[0][1]
    assert len(every) == 20
    assert all(train | validation == every and not train & validation for train, validation in found)
    assert Counter(name for _, validation in found for name in validation) == Counter(every)
    assert [len(validation) for _, validation in found] == [4] * 5
    for name, count in COUNTS.items():
        own = [sum(image.startswith(name) for image in validation) for _, validation in found]
        assert sum(own) == count
        assert max(own) - min(own) <= 1


@pytest.mark.parametrize("folds", [2, 3, 10])
def test_folds_are_equal_in_all_and_in_each_class(folds):
    labels = np.repeat(np.arange(4), (13, 2, 40, 5))
    keys = [f"{label}/{number}" for number, label in enumerate(labels)]
    found = draw_folds(keys, labels, folds, 0)
    for chosen in (np.full(60, True), *(labels == label for label in range(4))):
        sizes = np.bincount(found[chosen], minlength=folds + 1)[1:]
        assert sizes.max() - sizes.min() <= 1


def test_the_folds_are_the_same_everywhere():
    """Recorded once: they depend on names and seed, and on nothing of the machine."""
    keys = [f"{'ab'[number % 2]}/{number}.jpg" for number in range(10)]
    labels = np.arange(10) % 2
    assert draw_folds(keys, labels, 3, 0).tolist() == FOLDS[0]
    assert draw_folds(keys, labels, 3, 1).tolist() == FOLDS[1]
    turned = draw_folds(keys[::-1], labels[::-1], 3, 0)[::-1]
    assert turned.tolist() == FOLDS[0]  # whatever the order of the files


FOLDS = ([1, 2, 1, 1, 2, 3, 2, 1, 3, 3], [1, 3, 2, 2, 3, 1, 1, 3, 2, 1])


def test_an_archive_of_the_same_images_has_the_same_folds(photos):
    packed = zipped(photos)
    for fold in (1, 4):
        images = open_images(Data(root=str(packed), folds=5, fold=fold), "validation")
        own = {f"{images.classes[label]}/{images.key(index)}" for index, label in enumerate(images.labels)}
        assert own == parts(photos, fold)[1]


def test_every_process_has_the_same_folds(photos):
    made = recipe(photos, batch_size=2, folds=5, fold=2)
    seen, prints = [], set()
    for rank in range(2):
        training = TrainingBatches(made, rank=rank, processes=2)
        validation = EvaluationBatches(made.data, batch_size=2, classes=training.classes, rank=rank, processes=2)
        seen += [name for batch in validation for name in batch.names]
        prints.add(training.drawn.fingerprint)
    assert len(seen) == len(set(seen)) == 4
    assert len(prints) == 1


def test_a_validation_split_stays_out(folder):
    train = open_images(Data(root=str(folder), train_split="train"), "train")
    every = {train.name(index) for index in range(len(train.labels))}
    for fold in (1, 2):
        images = open_images(Data(root=str(folder), folds=2, fold=fold), "validation")
        own = {images.name(index) for index in range(len(images.labels))}
        assert own < every


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"folds": 1}, r"data\.folds=1 must be at least 2"),
        ({"fold": 2}, r"data\.fold=2 with data\.folds=None: it is the number of one of the folds"),
        ({"folds": 3, "fold": 4}, r"data\.fold=4 with data\.folds=3"),
        ({"folds": 3, "fold": 0}, r"data\.fold=0 must be"),
        ({"folds": 3, "validation_share": 0.1}, r"are two answers to what validates\. Give one of them"),
    ],
)
def test_settings_that_cannot_be_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        Data(**data)


def test_images_that_cannot_be_folded_are_named(photos, folder):
    with pytest.raises(ValueError, match=r"data\.folds=5 and no data\.fold: which of them validates\?"):
        open_images(Data(root=str(photos), folds=5), "train")
    with pytest.raises(ValueError, match=r"data\.folds=30 of .*: there are 20, and each image validates once"):
        open_images(Data(root=str(photos), folds=30, fold=1), "train")
    with pytest.raises(ValueError, match=r"Drop one of them: data\.folds, or data\.validation_root"):
        open_images(Data(root=str(photos), folds=5, fold=1, validation_root=str(folder)), "train")
    with pytest.raises(ValueError, match=r"data\.folds=5 goes by the names of all images"):
        TrainingBatches(recipe("wds/none", folds=5, fold=1))
    (photos / "shoe" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"the class 'shoe' has a single one.* Add images, remove the class"):
        open_images(Data(root=str(photos), folds=5, fold=1), "train")


def test_the_spread_is_that_of_a_sample():
    found = CrossValidation(tuple(FoldScore(fold, 10, top1, top1) for fold, top1 in enumerate((50.0, 60.0, 70.0), 1)))
    assert (found.mean, found.std, found.images) == (60.0, 10.0, 30)


TRAIN = (
    *("train", "vanillanet_digits", "--epochs", "2", "--warmup-epochs", "0", "--techniques.0.epochs", "1"),
    *("--batch-size", "4", "--model-options.width", "0.0625", "--data.workers", "0", "--data.image-size", "32"),
)


def test_all_folds_train_one_after_the_other_and_stop_and_go_on(photos, tmp_path, monkeypatch):
    words = (*TRAIN, "--data.root", photos, "--data.folds", "3")
    whole = plainvision(*words, "--out", tmp_path / "whole")
    assert (whole.status, whole.err) == (0, "")
    record = json.loads((tmp_path / "whole" / "cross_validation.json").read_text())
    assert (record["n"], record["images"], [one["fold"] for one in record["folds"]]) == (3, 20, [1, 2, 3])
    told = f"top-1 {record['top1_mean']:.2f} ± {record['top1_std']:.2f} % (mean and standard deviation of 3 folds"
    assert told in " ".join(whole.out.split())
    splits = [json.loads((tmp_path / "whole" / f"fold_{fold}" / "split.json").read_text()) for fold in (1, 2, 3)]
    assert [(one["folds"], one["fold"]) for one in splits] == [(3, 1), (3, 2), (3, 3)]
    assert sorted(name for one in splits for name in one["validation"]) == sorted(
        splits[0]["train"] + splits[0]["validation"]
    )

    stops = {"fold_2"}  # in its second epoch
    steps = []
    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "everyone_stops", lambda run, _: run.folder.path.name in stops and run.state.step == 4)
        stopped = plainvision(*words, "--out", tmp_path / "half")
    assert stopped.status == 130
    assert "--data.folds 3 --out" in " ".join(stopped.err.split())
    step = loop._Run.step

    def counted(run, batch):
        steps.append(run.folder.path.name)
        step(run, batch)

    monkeypatch.setattr(loop._Run, "step", counted)
    again = plainvision("train", "--resume", tmp_path / "half", "--data.root", photos)
    assert (again.status, again.err) == (0, "")
    assert "fold_1" not in steps  # it had ended
    assert steps.count("fold_2") == 6 - 4
    for fold in (1, 2, 3):
        files = [tmp_path / name / f"fold_{fold}" / "last.safetensors" for name in ("whole", "half")]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert json.loads((tmp_path / "half" / "cross_validation.json").read_text()) == record
    assert said(plainvision(*words, "--out", tmp_path / "half"), "already holds a run", "Add --resume")
    scored = plainvision("evaluate", tmp_path / "half" / "fold_2", "--data.root", photos)
    assert (scored.status, scored.err) == (0, "")
    assert f"{record['folds'][1]['images']} images of" in scored.out


def test_one_fold_is_a_run_like_any_other(photos, tmp_path):
    words = (*TRAIN, "--data.root", photos, "--data.folds", "3", "--data.fold", "2", "--out", tmp_path / "run")
    ended = plainvision(*words)
    assert (ended.status, ended.err) == (0, "")
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["data"]["fold"] == 2
    assert not (tmp_path / "cross_validation.json").exists()
    assert plainvision(*words, "--resume").status == 0
