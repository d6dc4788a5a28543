"""Images in no class folders, whose labels are in a .csv; every line that cannot work is named."""

from pathlib import Path

import pytest
from data.pictures_for_tests import encoded, evaluation, names, recipe, tarred, zipped

from plainvision.data import labels as labels_module
from plainvision.data.batches import TrainingBatches
from plainvision.data.images import open_images
from plainvision.data.locations import absolute
from plainvision.data.settings import RECORDED, Data
from plainvision.data.survey import survey_images
from plainvision.training.recipe import as_recorded


@pytest.fixture
def flat(tmp_path) -> Path:
    """``flat/N.png`` and ``flat/below/N.png``, four of each."""
    (tmp_path / "flat" / "below").mkdir(parents=True)
    for number in range(8):
        (tmp_path / "flat" / ("below" if number % 2 else "") / f"{number}.png").write_bytes(encoded(number))
    return tmp_path / "flat"


LINES = [f"{'below/' if number % 2 else './'}{number}.png,{'hat' if number < 4 else 'shoe'}" for number in range(8)]
SPLIT = [f"{line},{'validation' if number in (0, 4) else 'train'}" for number, line in enumerate(LINES)]


def written(tmp_path: Path, *lines: str, head: str = "image,label") -> str:
    (tmp_path / "labels.csv").write_text("\n".join([head, *lines]), encoding="utf-8")
    return str(tmp_path / "labels.csv")


@pytest.mark.parametrize("pack", [lambda folder: folder, zipped, tarred], ids=["folder", "zip", "tar"])
def test_a_column_of_splits_says_which_images_train(flat, tmp_path, pack):
    inside = [line.replace("./", "") for line in SPLIT] if pack(flat) == flat else [f"flat/{line}" for line in SPLIT]
    data = {"labels": written(tmp_path, *inside, head="image,label,split")}
    batches = TrainingBatches(recipe(pack(flat), batch_size=2, **data))
    assert (batches.classes, batches.images_per_epoch) == (("hat", "shoe"), 6)
    assert sorted(names(list(evaluation(pack(flat), **data)))) == ["flat/0.png", "flat/4.png"]


def test_without_splits_a_share_is_drawn(flat, tmp_path):
    data = Data(root=str(flat), labels=written(tmp_path, *LINES), validation_share=0.25)
    train, validation = (open_images(data, role) for role in ("train", "validation"))
    assert (len(train.labels), validation.labels.tolist()) == (6, [0, 1])
    assert train.drawn == validation.drawn


def test_without_splits_and_share_training_says_what_is_missing_and_a_survey_is_of_all(flat, tmp_path):
    data = Data(root=str(flat), labels=written(tmp_path, *LINES), image_size=8)
    with pytest.raises(ValueError, match=r"does not say which images validate\. Add a column split with 'train' and"):
        open_images(data, "train")
    (split,) = survey_images(data).splits
    assert (split.name, split.per_class) == ("all", {"hat": 4, "shoe": 4})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("none.png,hat", r"line 3: there is no image 'none\.png' below '.*flat'\. Correct the path"),
        ("2,hat", r"line 3: there is no image '2' below .* Did you mean '2\.png'\?"),
        ("2.png,", r"line 3: the label is empty\. Fill it in"),
        (",hat", r"line 3: the image is empty"),
        ("0.png,shoe", r"line 3: '0\.png' is in line 2 already"),
        ("below/../0.png,shoe", r"line 3: '0\.png' is in line 2 already"),
        ("../secret.png,hat", r"line 3: '\.\./secret\.png' leads out of data\.root"),
        ("below/../../x.png,hat", r"line 3: .* leads out of data\.root"),
        ("/etc/passwd,hat", r"line 3: '/etc/passwd' leads out of data\.root"),
        ("a.png,hat,more", r"line 3: it has 3 cells for 2 columns\. Put quotes"),
        ('"a.png,hat', r"line 3: .*Save it as a \.csv again"),
        ("x.heic,hat", r"line 3: 'x\.heic' is of a kind that is not read\. Convert it"),
    ],
)
def test_a_line_that_cannot_work_is_named(flat, tmp_path, line, message):
    (flat / "x.heic").write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        evaluation(flat, labels=written(tmp_path, "0.png,hat", line))


def test_a_file_that_is_no_such_table_is_refused(flat, tmp_path, monkeypatch):
    for head, message in (
        ("name,class", r"line 1: the columns are name, class, and must be image,label"),
        ("", r"line 1: the columns are missing"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluation(flat, labels=written(tmp_path, head=head))
    with pytest.raises(ValueError, match="has no line below its head"):
        evaluation(flat, labels=written(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"there are no labels at data\.labels='none\.csv'"):
        evaluation(flat, labels="none.csv")
    (tmp_path / "labels.csv").write_bytes(b"image,label\n\xff.png,hat")
    with pytest.raises(ValueError, match="is no text in UTF-8"):
        evaluation(flat, labels=str(tmp_path / "labels.csv"))
    monkeypatch.setattr(labels_module, "_MOST_BYTES", 10)
    with pytest.raises(ValueError, match="has 17 bytes, and labels of 10 are the most"):
        evaluation(flat, labels=written(tmp_path, "a.png"))


def test_two_answers_to_one_question_are_refused(flat, tmp_path):
    splits = written(tmp_path, *SPLIT, head="image,label,split")
    with pytest.raises(ValueError, match=r"as split 'validation', has validation images already\. Drop one of them"):
        open_images(Data(root=str(flat), labels=splits, validation_share=0.5), "train")
    with pytest.raises(ValueError, match=r"data\.validation_root is a second one"):
        open_images(Data(root=str(flat), labels=splits, validation_root=str(flat)), "train")
    with pytest.raises(ValueError, match=r"which has labels of its own\. Drop data\.labels"):
        open_images(Data(labels=splits), "train")
    with pytest.raises(ValueError, match=r"data\.labels=.* goes by the names of all images"):
        TrainingBatches(recipe("wds/none", labels=splits))
    with pytest.raises(ValueError, match="no line of the split 'test'; there are 'train', 'validation'"):
        evaluation(flat, labels=splits, validation_split="test")


def test_a_recorded_file_of_labels_is_text_that_nothing_opens(flat, tmp_path):
    made = recipe(flat, labels=written(tmp_path, *LINES))
    found = as_recorded(made).data.labels
    assert found == f"{RECORDED}{made.data.labels}"
    with pytest.raises(ValueError, match=r"records data\.labels as .* Give the images with --data\.labels"):
        open_images(Data(root=str(flat), labels=found), "validation")


def test_a_run_remembers_the_full_path(flat, tmp_path, monkeypatch):
    file = written(tmp_path, *LINES)
    monkeypatch.chdir(tmp_path)
    assert absolute(Data(root="flat", labels="labels.csv")).labels == file
