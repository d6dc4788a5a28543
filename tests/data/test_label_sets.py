"""Images with sets of labels: from a .csv of either form, or from folders; drawn splits keep the shares of labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data.pictures_for_tests import encoded, recipe, zipped

from plainvision.data import label_sets
from plainvision.data.batches import EvaluationBatches, TrainingBatches
from plainvision.data.label_sets import open_label_sets, stratify
from plainvision.data.settings import Data

OWN = [{"cat"}, {"dog", "cat"}, set(), {"dog"}, {"cat", "bird"}, {"bird"}, {"dog"}, {"cat"}]
NAMES = ("bird", "cat", "dog")


@pytest.fixture
def flat(tmp_path) -> Path:
    (tmp_path / "flat").mkdir()
    for number in range(len(OWN)):
        (tmp_path / "flat" / f"{number}.png").write_bytes(encoded(number))
    return tmp_path / "flat"


def joined(number: int) -> str:
    return "|".join(sorted(OWN[number], reverse=True))


def marked(number: int) -> str:
    return ",".join(str(int(name in OWN[number])) for name in ("dog", "cat", "bird"))


FORMS = {
    "labels": ("image,labels,split", joined),
    "label": ("image,label,split", joined),
    "columns": ("image,dog,cat,bird,split", marked),
    "pandas": ("image,dog,cat,bird,split", lambda number: marked(number).replace(",", ".0,") + ".0"),
}


def written(tmp_path: Path, form: str = "labels") -> str:
    head, cells = FORMS[form]
    lines = [f"{number}.png,{cells(number)},{'validation' if number > 5 else 'train'}" for number in range(len(OWN))]
    (tmp_path / "labels.csv").write_text("\n".join([head, *lines]))
    return str(tmp_path / "labels.csv")


def own_sets(images) -> dict[str, set[str]]:
    """Return the labels of each image by its name."""
    return {
        images.name(index).rpartition("/")[2]: {images.classes[place] for place in np.flatnonzero(images.labels[index])}
        for index in range(len(images.labels))
    }


@pytest.mark.parametrize("pack", [lambda folder: folder, zipped], ids=["folder", "zip"])
@pytest.mark.parametrize("form", FORMS)
def test_both_forms_of_a_csv_say_the_same(flat, tmp_path, form, pack):
    data = Data(root=str(flat), labels=written(tmp_path, form))
    if pack is zipped:
        text = Path(data.labels).read_text().splitlines()
        Path(data.labels).write_text("\n".join([text[0], *(f"flat/{line}" for line in text[1:])]))
        data = replace(data, root=str(pack(flat)))
    images = open_label_sets(data, "train")
    assert sorted(images.classes) == sorted(NAMES)
    assert images.classes == (("dog", "cat", "bird") if "," in FORMS[form][1](0) else NAMES)
    assert own_sets(images) == {f"{number}.png": OWN[number] for number in range(6)}
    assert images.labels.dtype == bool


def test_folders_are_called_like_their_set(tmp_path):
    for split in ("train", "validation"):
        for number, own in enumerate(OWN):
            place = tmp_path / "sets" / split / ("+".join(sorted(own)) or "+")
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}.png").write_bytes(encoded(number))
    data = Data(root=str(tmp_path / "sets"))
    assert own_sets(open_label_sets(data, "train")) == {f"{number}.png": own for number, own in enumerate(OWN)}
    drawn = open_label_sets(Data(root=str(tmp_path / "sets" / "train"), validation_share=0.4), "train").drawn
    assert drawn is not None
    assert len(drawn.train) + len(drawn.validation) == len(OWN)
    assert all("/" in name for name in drawn.train)


def test_batches_hold_marks_in_the_order_of_training(flat, tmp_path):
    data = {"labels": written(tmp_path)}
    training = TrainingBatches(recipe(flat, batch_size=3, **data), opened=open_label_sets)
    for workers in (0, 2):
        validation = EvaluationBatches(
            Data(root=str(flat), image_size=8, workers=workers, **data),
            batch_size=2,
            classes=training.classes,
            opened=open_label_sets,
        )
        (batch,) = validation
        assert batch.labels.dtype == torch.float32
        assert batch.labels.tolist() == [[0, 0, 1], [0, 1, 0]]
    for batch in training.epoch(0):
        for name, marks in zip(batch.names, batch.labels, strict=True):
            own = OWN[int(Path(name).stem)]
            assert {NAMES[place] for place in marks.nonzero()[:, 0].tolist()} == own


def test_the_fingerprint_is_of_every_label(flat, tmp_path):
    data = Data(root=str(flat), labels=written(tmp_path))
    before = open_label_sets(data, "train").fingerprint()
    assert open_label_sets(data, "train").fingerprint() == before
    text = Path(data.labels).read_text()
    Path(data.labels).write_text(text.replace("3.png,dog", "3.png,dog|bird"))
    assert open_label_sets(data, "train").fingerprint() != before


def test_a_class_map_sets_the_order(flat, tmp_path):
    (tmp_path / "names.txt").write_text("dog\nfish\ncat\nbird\n")
    data = Data(root=str(flat), labels=written(tmp_path), class_map=str(tmp_path / "names.txt"))
    images = open_label_sets(data, "train")
    assert images.classes == ("dog", "fish", "cat", "bird")
    assert own_sets(images) == {f"{number}.png": OWN[number] for number in range(6)}


@pytest.mark.parametrize(
    ("head", "line", "message"),
    [
        ("image,labels,split", "0.png,cat|cat,train", r"line 2: 'cat' is there twice in 'cat\|cat'\. Write each label"),
        ("image,labels,split", "0.png,cat|,train", r"line 2: a label is empty in 'cat\|'"),
        ("image,labels,split", "0.png,cat", r"line 2: it has 2 cells for 3 columns"),
        ("image,labels,split", "0.png,cat,", r"line 2: the split is empty"),
        ("image,labels,split", "../0.png,cat,train", r"line 2: '\.\./0\.png' leads out of data\.root"),
        ("image,labels,split", "9.png,cat,train", r"line 2: there is no image '9\.png' below"),
        ("image,cat,dog,split", "0.png,1,2,train", r"line 2: the label 'dog' is '2'\. Write 1 where the image has it"),
        ("image,cat,dog,split", "0.png,1,,train", r"line 2: the label 'dog' is ''\."),
        ("image,cat,dog,split", "0.png,1,-1,train", r"line 2: the label 'dog' is '-1'\."),
        (
            "image,cat,cat,split",
            "0.png,1,1,train",
            r"line 1: the columns are image, cat, cat, split, and must be image",
        ),
        ("image,cat|dog,dog", "0.png,1,1", r"line 1: the columns are image, cat\|dog, dog, and must be"),
        ("image,,dog", "0.png,1,1", r"line 1: the columns are image, , dog, and must be"),
        ("name,cat,dog", "0.png,1,1", r"line 1: the columns are name, cat, dog, and must be image, then labels with"),
        ("image,split", "0.png,train", r"line 1: the columns are image, split, and must be image, then labels"),
        ("", "", r"line 1: the columns are missing, and must be image, then labels"),
        ("image,labels,split", "0.png,cat,train", r"have the one label 'cat': sets take two labels or more"),
        ("image,labels,split", "0.png,,train", r"have no label at all: sets take two labels"),
    ],
)
def test_a_csv_that_cannot_work_is_refused_with_its_line(flat, tmp_path, head, line, message):
    (tmp_path / "labels.csv").write_text(f"{head}\n{line}\n")
    with pytest.raises(ValueError, match=message):
        open_label_sets(Data(root=str(flat), labels=str(tmp_path / "labels.csv")), "train")


def test_what_counts_images_by_class_is_refused(flat, tmp_path):
    data = Data(root=str(flat), labels=written(tmp_path))
    for changes, message in (
        ({"sampling": "balanced"}, r"data\.sampling='balanced' counts images by class"),
        ({"train_per_class": 3}, r"data\.train_per_class=3 counts images by class"),
        ({"root": "digits", "labels": None}, r"'digits' has one label for each image.*data\.labels.*cat\+dog"),
        ({"root": "wds/none", "labels": None}, r"'wds/none' has one label for each image"),
    ):
        with pytest.raises(ValueError, match=message):
            open_label_sets(replace(data, **changes), "train")


def test_a_label_that_training_lacks_is_named(flat, tmp_path):
    data = Data(root=str(flat), labels=written(tmp_path), image_size=8, workers=0)
    Path(data.labels).write_text(Path(data.labels).read_text().replace("7.png,cat", "7.png,fox"))
    with pytest.raises(ValueError, match=r"has the class 'fox', which training does not have"):
        EvaluationBatches(data, batch_size=2, opened=open_label_sets)


def test_too_many_marks_to_hold_are_refused(flat, tmp_path, monkeypatch):
    monkeypatch.setattr(label_sets, "_MOST_MARKS", 10)
    with pytest.raises(ValueError, match=r"6 images with 3 labels are too many to hold: their product may be 10"):
        open_label_sets(Data(root=str(flat), labels=written(tmp_path)), "train")


# drawn splits


def marks(images: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.random((images, 6)) < np.array([0.5, 0.3, 0.1, 0.05, 0.03, 0.01])


@pytest.mark.parametrize("shares", [[0.8, 0.2], [0.2] * 5])
def test_each_part_has_its_share_of_each_label(shares):
    sets = marks(1000)
    parts = stratify([str(number) for number in range(1000)], sets, shares, 0)
    for part, share in enumerate(shares):
        own = sets[parts == part]
        assert abs(len(own) - 1000 * share) <= 15
        assert np.abs(own.sum(0) - share * sets.sum(0)).max() <= 3
        assert abs((~own.any(1)).sum() - share * (~sets.any(1)).sum()) <= 3


def test_who_is_drawn_follows_from_names_and_seed_and_not_from_the_order():
    sets, keys = marks(200), [f"{number}.png" for number in range(200)]
    order = np.random.default_rng(5).permutation(200)
    parts = stratify(keys, sets, [0.75, 0.25], 7)
    again = stratify([keys[index] for index in order], sets[order], [0.75, 0.25], 7)
    assert (parts[order] == again).all()
    assert (parts != stratify(keys, sets, [0.75, 0.25], 8)).any()


def test_folds_validate_each_image_once(flat, tmp_path):
    data = Data(root=str(flat), labels=written(tmp_path), folds=2)
    text = Path(data.labels).read_text().replace(",validation", ",train")
    Path(data.labels).write_text(text)
    seen: list[str] = []
    for fold in (1, 2):
        own = replace(data, fold=fold)
        train, validation = (set(own_sets(open_label_sets(own, role))) for role in ("train", "validation"))
        assert train.isdisjoint(validation)
        assert len(train | validation) == len(OWN)
        seen += validation
    assert len(seen) == len(set(seen)) == len(OWN)
    with pytest.raises(ValueError, match=r"data\.folds=2 and no data\.fold"):
        open_label_sets(data, "train")
    with pytest.raises(ValueError, match=r"are not those that the run drew its validation images from"):
        open_label_sets(replace(data, fold=1, split_fingerprint="0"), "train")


def test_a_validation_split_may_have_one_label_alone(flat, tmp_path):
    data = Data(root=str(flat), labels=written(tmp_path), image_size=8, workers=0)
    Path(data.labels).write_text(Path(data.labels).read_text().replace("7.png,cat", "7.png,dog"))
    (batch,) = EvaluationBatches(data, batch_size=2, opened=open_label_sets)
    assert batch.labels.tolist() == [[0, 0, 1], [0, 0, 1]]
