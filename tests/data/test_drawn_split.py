"""Without a validation split, one is drawn from the training images: by class, by seed and by the images' names."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands.running import plainvision, said
from data.pictures_for_tests import CLASSES, encoded, names, recipe, tarred, zipped

from plainvision.data import image_kinds as images_module
from plainvision.data.batches import EvaluationBatches, TrainingBatches
from plainvision.data.drawn_split import DrawnSplit, draw
from plainvision.data.images import open_images
from plainvision.data.settings import Data
from plainvision.data.survey import survey_images
from plainvision.deploy import Examination
from plainvision.training import loop


@pytest.fixture
def photos(tmp_path) -> Path:
    """``photos/CLASS/N.png``: three classes of 20, 10 and 1 images, in no split."""
    seed = 0
    for name, count in zip(CLASSES, (20, 10, 1), strict=True):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(count):
            seed += 1
            (tmp_path / "photos" / name / f"{number}.png").write_bytes(encoded(seed))
    return tmp_path / "photos"


def drawn(root: object, **data: object) -> DrawnSplit:
    found = open_images(Data(root=str(root), **{"validation_share": 0.2, **data}), "train").drawn  # type: ignore[arg-type]
    assert found is not None
    return found


def parts(root: object, **data: object) -> tuple[set[str], set[str]]:
    both = []
    for role in ("train", "validation"):
        images = open_images(Data(root=str(root), **{"validation_share": 0.2, **data}), role)
        both.append({images.name(index) for index in range(len(images.labels))})
    return both[0], both[1]


@pytest.mark.parametrize("pack", [lambda folder: folder, zipped, tarred], ids=["folder", "zip", "tar"])
def test_each_class_gives_its_share_and_no_image_is_in_both_parts(photos, pack):
    root = pack(photos)
    train, validation = parts(root)
    assert not train & validation
    assert len(train | validation) == 31
    counts = [sum(f"/{name}/" in image for image in validation) for name in CLASSES]
    assert counts == [4, 2, 0]  # a class of one image keeps it
    assert drawn(root) == drawn(photos)  # wherever the images lie


def test_the_seed_decides_and_the_order_of_files_does_not(photos, monkeypatch):
    first = drawn(photos)
    assert drawn(photos, split_seed=1).validation != first.validation
    find = images_module.find_classes

    def turned(*words, **options):
        found = find(*words, **options)
        for paths in found.classes.values():
            paths.reverse()
        return found

    monkeypatch.setattr(images_module, "find_classes", turned)
    assert drawn(photos) == first


def test_another_folder_of_the_same_images_gives_the_same_split(photos):
    first = drawn(photos)
    shutil.copytree(photos, photos.parent / "moved" / "train")
    assert drawn(photos.parent / "moved") == first


@pytest.mark.parametrize(("count", "share", "taken"), [(2, 0.01, 1), (2, 0.99, 1), (10, 0.15, 2), (100, 0.15, 15)])
def test_a_class_keeps_an_image_and_gives_one(count, share, taken):
    chosen = draw([f"a/{number}" for number in range(count)], np.zeros(count, int), share, 0)
    assert chosen.sum() == taken


def test_every_process_trains_and_validates_on_the_same_split(photos):
    made = recipe(photos, batch_size=2, validation_share=0.2)
    prints, seen = set(), []
    for rank in range(2):
        training = TrainingBatches(made, rank=rank, processes=2)
        validation = EvaluationBatches(made.data, batch_size=2, classes=training.classes, rank=rank, processes=2)
        prints.add((training.fingerprint, validation.fingerprint, training.drawn.fingerprint))
        seen += names(list(validation))
    assert len(prints) == 1
    assert set(seen) == parts(photos)[1]
    assert len(seen) == len(set(seen)) == 6


def test_the_training_split_can_be_read_as_for_evaluation_without_what_validates(photos):
    """Calibration of int8 does that."""
    train, validation = parts(photos)
    named = open_images(Data(root=str(photos), validation_share=0.2, validation_split="train"), "validation")
    assert {named.name(index) for index in range(len(named.labels))} == train
    with pytest.raises(ValueError, match="is the training split, so that training would validate on what it has seen"):
        TrainingBatches(recipe(photos, validation_share=0.2, validation_split="train"))
    assert validation


def test_a_share_beside_a_validation_split_is_an_error_that_says_what_to_drop(folder, photos):
    for root in (folder, zipped(folder)):
        with pytest.raises(
            ValueError, match=r"in its folder 'validation', has .* Drop one of them: data.validation_sh"
        ):
            drawn(root)
    with pytest.raises(ValueError, match=r"Drop one of them: data\.validation_share, or data\.validation_root"):
        drawn(photos, validation_root=str(folder))
    with pytest.raises(ValueError, match=r"'digits' has validation images already"):
        drawn("digits")
    assert len(drawn(folder, validation_split="none").validation) == 3


def test_a_root_without_validation_images_is_told_of_the_share(folder, photos):
    shutil.rmtree(folder / "validation")
    with pytest.raises(ValueError, match=r"or draw the validation images .* with data\.validation_share=0\.15"):
        EvaluationBatches(Data(root=str(folder)), batch_size=1)
    with pytest.raises(ValueError, match=r"to take these for classes, .* data\.validation_share=0\.15"):
        open_images(Data(root=str(photos)), "train")


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"data\.validation_share=.* must"):
        Data(validation_share=share)


def test_a_stream_draws_nothing():
    with pytest.raises(ValueError, match=r"data\.validation_share=0\.2 goes by the names of all images"):
        TrainingBatches(recipe("wds/none", validation_share=0.2))


def test_single_images_leave_nothing_to_draw(tmp_path):
    for name in CLASSES:
        (tmp_path / "single" / name).mkdir(parents=True)
        (tmp_path / "single" / name / "0.png").write_bytes(encoded(1))
    with pytest.raises(ValueError, match=r"each class has a single one\. Add images"):
        drawn(tmp_path / "single")


def test_images_that_a_recorded_split_was_not_drawn_from_are_refused(photos):
    print_ = drawn(photos).fingerprint
    assert drawn(photos, split_fingerprint=print_).fingerprint == print_
    with pytest.raises(ValueError, match="the network may have seen some in training"):
        drawn(photos, split_fingerprint=print_, split_seed=1)
    (photos / "coat" / "new.png").write_bytes(encoded(99))
    with pytest.raises(ValueError, match="are not those that the run drew its validation images from"):
        drawn(photos, split_fingerprint=print_)


def test_a_survey_is_of_the_split_that_training_would_draw(photos):
    shutil.copy(photos / "coat" / "0.png", photos / "hat" / "copy.png")
    train, validation = survey_images(Data(root=str(photos), image_size=8, validation_share=0.2)).splits
    assert (train.images, validation.images) == (26, 6)
    assert (train.name, validation.name) == ("train", "validation")


TRAIN = (
    *("train", "vanillanet_digits", "--epochs", "2", "--warmup-epochs", "0", "--techniques.0.epochs", "1"),
    *("--batch-size", "4", "--model-options.width", "0.0625", "--data.workers", "0", "--data.image-size", "32"),
)


def test_a_run_writes_its_split_down_and_every_verb_scores_on_it(photos, tmp_path):
    shutil.rmtree(photos / "shoe")
    out = tmp_path / "run"
    ended = plainvision(*TRAIN, "--data.root", photos, "--data.validation-share", "0.2", "--out", out)
    assert (ended.status, ended.err) == (0, "")
    assert "train: 24 images of 2 classes, 8 (hat) to 16 (coat) of each" in ended.out
    assert "validation: 6 images of 2 classes, 2 (hat) to 4 (coat) of each" in ended.out
    written = json.loads((out / "split.json").read_text())
    split = drawn(photos)
    assert written["fingerprint"] == split.fingerprint
    assert (tuple(written["train"]), tuple(written["validation"])) == (split.train, split.validation)
    resumed = plainvision(*TRAIN, "--data.root", photos, "--data.validation-share", "0.2", "--out", out, "--resume")
    assert (resumed.status, resumed.err) == (0, "")
    scored = plainvision("evaluate", out, "--data.root", photos, "--csv", tmp_path / "a.csv")
    assert (scored.status, scored.err) == (0, "")
    lines = (tmp_path / "a.csv").read_text().splitlines()[1:]
    assert {line.split(",")[0] for line in lines} == parts(photos)[1]
    assert said(plainvision("evaluate", out, "--data.root", photos, "--data.split-seed", "1"), "may have seen some")
    shutil.copytree(photos, tmp_path / "other" / "test")
    named = plainvision("evaluate", out, "--data.root", tmp_path / "other", "--data.validation-split", "test")
    assert (named.status, named.err) == (0, "")
    assert "30 images of" in named.out
    (photos / "coat" / "0.png").rename(photos / "coat" / "renamed.png")
    again = plainvision(*TRAIN, "--data.root", photos, "--data.validation-share", "0.2", "--out", out, "--resume")
    assert said(again, "the images are not those that the run in", "began with")
    assert said(plainvision("evaluate", out, "--data.root", photos), "are not those that the run drew")


def test_the_recipe_of_an_older_run_is_that_of_a_run_without_a_share(tmp_path):
    out = tmp_path / "run"
    words = (*TRAIN, "--data.train-per-class", "2", "--data.validation-per-class", "1", "--out", out)
    assert plainvision(*words).status == 0
    older = json.loads((out / "recipe.json").read_text())
    for name in ("validation_share", "split_seed", "split_fingerprint", "labels"):
        del older["data"][name]
    (out / "recipe.json").write_text(json.dumps(older))
    ended = plainvision(*words, "--resume")
    assert (ended.status, ended.err) == (0, "")
    assert not (out / "split.json").exists()


def test_a_run_that_stopped_and_went_on_is_one_that_never_stopped(photos, tmp_path, monkeypatch):
    shutil.rmtree(photos / "shoe")
    words = (*TRAIN, "--data.root", photos, "--data.validation-share", "0.2", "--out")
    assert plainvision(*words, tmp_path / "whole").status == 0
    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "everyone_stops", lambda run, _: run.state.step == 8)
        assert plainvision(*words, tmp_path / "half").status == 130
    assert plainvision(*words, tmp_path / "half", "--resume").status == 0
    for name in ("last.safetensors", "best.safetensors", "split.json"):
        assert (tmp_path / "half" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_forms_of_lower_precision_are_calibrated_and_judged_by_different_images(photos):
    shutil.rmtree(photos / "shoe")
    data = Data(root=str(photos), validation_share=0.2, image_size=8, workers=0)
    examination = Examination.of(data, classes=("coat", "hat"), images=24)
    assert (len(examination.calibration), examination.judged.images) == (20, 6)
    judged = torch.cat([batch.images for batch in examination.judged])
    assert not any(torch.equal(torch.from_numpy(one)[0], image) for one in examination.calibration for image in judged)


def test_a_hugging_face_data_set_gives_a_share_where_it_has_no_validation_split(folder, hub):
    (folder / "train" / "contact_sheet.png").unlink()  # else its loader finds no classes
    with pytest.raises(ValueError, match=r"as split 'validation', has validation images already"):
        parts(f"hfds/{folder}")
    shutil.rmtree(folder / "validation")
    train, validation = parts(f"hfds/{folder}")
    assert (len(train), len(validation), train & validation) == (9, 3, set())
    found = survey_images(Data(root=f"hfds/{folder}", image_size=8, validation_share=0.2))
    assert [one.images for one in found.splits] == [9, 3]
