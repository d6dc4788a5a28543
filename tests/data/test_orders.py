"""The order of classes, the names of splits, and the order of repeated images."""

import numpy as np
import pytest
from PIL import Image

from plainvision.data.batches import EvaluationBatches, TrainingBatches
from plainvision.data.class_folders import order_told
from plainvision.data.epochs import repeated
from plainvision.data.settings import Augment, Data
from plainvision.training.recipe import Recipe

NUMBERS = ("0", "1", "2", "10", "11")


def write(folder, classes, images=2):
    """Write images of one colour a class."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for image in range(images):
            Image.new("RGB", (12, 12), (20 * number, 0, image)).save(folder / name / f"{image}.png")


def data(root, **changes):
    return Data(root=str(root), image_size=12, workers=0, **changes)


def test_folders_that_are_numbers_are_labelled_by_value(tmp_path):
    write(tmp_path / "val", NUMBERS, images=1)
    batches = EvaluationBatches(data(tmp_path), batch_size=8)
    (batch,) = batches
    assert batches.classes == NUMBERS
    assert [(name.split("/")[-2], int(label)) for name, label in zip(batch.names, batch.labels, strict=True)] == [
        (name, number) for number, name in enumerate(NUMBERS)
    ]


def test_a_class_map_sets_the_order_and_may_name_more_classes(tmp_path):
    write(tmp_path / "images/train", ("cat", "dog"))
    write(tmp_path / "images/val", ("dog",))
    (tmp_path / "classes.txt").write_text("dog\nemu\ncat\n", encoding="utf-8")
    given = data(tmp_path / "images", class_map=str(tmp_path / "classes.txt"))
    batches = EvaluationBatches(given, batch_size=8)
    assert batches.classes == ("dog", "emu", "cat")
    assert batches.labels.tolist() == [0, 0]
    training = TrainingBatches(Recipe(name="t", model="vanillanet_5", data=given, batch_size=2))
    assert training.labels.tolist() == [2, 2, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog\n\ncat\n", r"line 2, is empty. Give one name"),
        ("dog\ncat\ndog\n", r"line 3, repeats 'dog' of line 1. Name each class once"),
        ("dog\n", r"lists 1 classes, and the images have 'cat' beside them. Add the names"),
        ("", r"line 1, is empty"),
    ],
)
def test_a_wrong_class_map_is_said(tmp_path, text, message):
    write(tmp_path / "images", ("cat", "dog"))
    (tmp_path / "classes.txt").write_text(text, encoding="utf-8")
    given = data(tmp_path / "images", class_map=str(tmp_path / "classes.txt"))
    with pytest.raises(ValueError, match=message):
        EvaluationBatches(given, batch_size=8)


def test_a_class_map_that_is_not_there_or_no_text(tmp_path):
    write(tmp_path / "images", ("cat", "dog"))
    with pytest.raises(FileNotFoundError, match=r"no file at data.class_map=.*Correct the path"):
        EvaluationBatches(data(tmp_path / "images", class_map=str(tmp_path / "none.txt")), batch_size=8)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"is no text in UTF-8"):
        EvaluationBatches(data(tmp_path / "images", class_map=str(tmp_path / "bytes.txt")), batch_size=8)


@pytest.mark.parametrize("name", ["validation", "val", "valid", "test"])
def test_the_validation_split_is_found_under_its_usual_names(tmp_path, name):
    synsets = ("n01440764", "n01443537")
    write(tmp_path / "imagenet/train", synsets)
    write(tmp_path / f"imagenet/{name}", synsets, images=1)
    batches = EvaluationBatches(data(tmp_path), batch_size=8)
    assert (batches.split, batches.images, batches.classes) == (name, 2, synsets)


def test_a_test_split_validates_only_where_there_is_no_other(tmp_path):
    for split, images in (("train", 2), ("test", 3), ("valid", 1)):
        write(tmp_path / split, ("cat", "dog"), images)
    assert EvaluationBatches(data(tmp_path), batch_size=8).split == "valid"
    (tmp_path / "valid").rename(tmp_path / "other")
    assert EvaluationBatches(data(tmp_path), batch_size=8).split == "test"
    with pytest.raises(ValueError, match=r"no folder called 'val'"):  # who asks for it does not get the test images
        EvaluationBatches(data(tmp_path, validation_split="val"), batch_size=8)


def test_classes_called_like_a_split_are_none(tmp_path):
    write(tmp_path / "train", ("invalid", "valid"))
    with pytest.raises(ValueError, match=r"no folder called 'validation'"):
        EvaluationBatches(data(tmp_path), batch_size=8)


def test_a_share_is_not_drawn_beside_validation_images_of_any_usual_name(tmp_path):
    write(tmp_path / "train", ("cat", "dog"), 4)
    write(tmp_path / "val", ("cat", "dog"))
    with pytest.raises(ValueError, match=r"in its folder 'val', has validation images already"):
        TrainingBatches(Recipe(name="t", model="vanillanet_5", data=data(tmp_path, validation_share=0.5), batch_size=2))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_repeats_of_an_image_meet_in_a_batch_and_part_over_its_processes(tmp_path, processes):
    write(tmp_path, ("cat", "dog"), 16)
    recipe = Recipe(
        name="t",
        model="vanillanet_5",
        data=data(tmp_path, validation_root=str(tmp_path)),
        augment=Augment(repeats=3, flip=0.0),
        batch_size=24,
    )
    shares = [
        [batch.names for batch in TrainingBatches(recipe, rank=rank, processes=processes).epoch(0)]
        for rank in range(processes)
    ]
    for parts in zip(*shares, strict=True):
        whole = [name for part in parts for name in part]
        assert len(set(whole)) == 8  # three of each: repeats meet, which is the technique
        assert [len(set(part)) for part in parts] == [min(8, 24 // processes)] * processes
        pairs = list(zip(whole, reversed(whole), strict=True))  # as Mixup pairs them
        assert sum(a != b for a, b in pairs) == len(pairs)


def test_the_order_of_repeats_is_a_permutation_at_any_batch_size():
    drawn = np.random.default_rng(0).permutation(11)
    for batch_size in (1, 4, 7, 9, 64):
        order = repeated(drawn, 3, batch_size)
        assert np.bincount(order).tolist() == [3] * 11
        whole = np.repeat(drawn, 3)
        for start in range(0, 33, batch_size):
            assert sorted(order[start : start + batch_size]) == sorted(whole[start : start + batch_size])
    assert repeated(drawn, 1, 4).tolist() == drawn.tolist()


@pytest.mark.parametrize(
    ("names", "how"),
    [
        (NUMBERS, "5 classes, sorted by value: label 0 is 0, 1 is 1, 2 is 2."),
        (("3", "4"), "2 classes, sorted by value: label 0 is 3, 1 is 4."),
        (("a", "b"), "2 classes, sorted by letters: label 0 is a, 1 is b."),
        (("dog", "cat", "emu"), "3 classes, in the order of the data: label 0 is dog, 1 is cat, 2 is emu."),
    ],
)
def test_the_order_of_classes_is_told_in_words(names, how):
    assert order_told(names) == f"{how} --data.class-map FILE gives another order"
