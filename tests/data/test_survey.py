"""A survey finds what is there twice, what cannot be read and what belongs to no class, before training."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands.running import plainvision, said
from data.pictures_for_tests import CLASSES, encoded, picture, tarred, zipped
from PIL import Image

from plainvision.data import survey as survey_module
from plainvision.data.settings import Data
from plainvision.data.survey import Survey, first_line, survey_images
from plainvision.figures.survey import findings, survey_page


def survey(root: object, **data: object) -> Survey:
    return survey_images(Data(root=str(root), **{"image_size": 8, "crop_ratio": 1.0, **data}))  # type: ignore[arg-type]


def equal(found: Survey) -> list[set[str]]:
    return [{"/".join(member.name.split("/")[-3:]) for member in group.members} for group in found.copies]


@pytest.mark.parametrize("pack", [lambda folder: folder, zipped, tarred], ids=["folder", "zip", "tar"])
def test_a_survey_counts_what_a_folder_or_an_archive_holds(folder, pack):
    found = survey(pack(folder))
    train, validation = found.splits
    assert (train.name, train.per_class) == ("train", dict.fromkeys(CLASSES, 4))
    assert (validation.name, validation.per_class) == ("validation", dict.fromkeys(CLASSES, 2))
    assert (train.read, train.grey, train.unreadable_count, train.beside) == (12, 0, 0, 1)
    assert train.others == {".txt": 3}
    assert (train.width.least, train.width.median, train.width.largest) == (10, 10, 10)
    assert train.aspect.median == pytest.approx(10 / 12)
    assert (found.copies, found.leaked, found.repeated, found.missing) == ((), 0, 0, ())
    assert {name: len(some) for name, some in found.pictures.items()} == dict.fromkeys(CLASSES, 4)


def test_an_image_that_was_saved_again_in_another_split_and_class_is_found(folder):
    Image.open(folder / "train" / "hat" / "0.png").save(folder / "validation" / "shoe" / "new.tif")
    found = survey(folder)
    assert equal(found) == [{"train/hat/0.png", "validation/shoe/new.tif"}]
    assert (found.leaked, found.repeated, found.conflicting) == (1, 0, 2)
    (group,) = found.copies
    assert (group.across, group.conflicting, group.same_file) == (True, True, False)
    assert any(line.startswith("validation: 1 of 7 images are in train too") for line in findings(found))


def test_a_file_that_is_in_one_split_twice_is_found_behind_those_across_splits(folder):
    shutil.copy(folder / "train" / "coat" / "0.png", folder / "train" / "coat" / "copy.png")
    shutil.copy(folder / "train" / "hat" / "0.png", folder / "validation" / "hat" / "9.png")
    found = survey(folder)
    assert equal(found) == [
        {"train/hat/0.png", "validation/hat/9.png"},
        {"train/coat/0.png", "train/coat/copy.png"},
    ]
    assert (found.leaked, found.repeated, found.conflicting) == (1, 1, 0)
    assert all(group.same_file for group in found.copies)


def test_pixels_count_and_not_the_shape_that_they_are_written_in(folder):
    flat = Image.new("RGB", (4, 6), (9, 9, 9))
    flat.save(folder / "train" / "hat" / "high.png")
    flat.transpose(Image.Transpose.ROTATE_90).save(folder / "train" / "hat" / "wide.png")
    assert survey(folder).copies == ()


def test_what_cannot_be_read_is_named_with_its_reason(damaged):
    train, validation = survey(damaged).splits
    assert (train.unreadable_count, train.read, validation.unreadable_count) == (2, 10, 1)
    assert any(re.search(r"shoe/2\.png \(cannot identify image file\)", name) for name in train.unreadable)


def test_mean_and_std_are_those_of_evaluation_with_every_image_alike(tmp_path):
    for name, value, side in (("a", 0, 8), ("b", 255, 64)):
        (tmp_path / "flat" / name).mkdir(parents=True)
        Image.new("L", (side, side), value).save(tmp_path / "flat" / name / "0.png")
    (split,) = survey(tmp_path / "flat").splits
    assert split.mean == pytest.approx((0.5,) * 3)
    assert split.std == pytest.approx((0.5,) * 3)
    assert (split.name, split.grey) == ("all", 2)


def test_one_channel_is_surveyed_as_one():
    train, validation = survey("digits", channels=1, mean=(0.5,), std=(0.5,)).splits
    assert (len(train.mean), train.images, validation.images) == (1, 1437, 360)


def test_a_split_that_is_not_there_is_told_and_the_other_one_surveyed(folder):
    found = survey(folder, validation_split="test")
    assert [one.name for one in found.splits] == ["train"]
    assert "has no folder called 'test'" in found.missing[0]
    with pytest.raises(ValueError, match="has no folder called 'a'; the folders there are"):
        survey(folder, train_split="a", validation_split="b")


def test_names_pictures_and_groups_have_a_bound(folder, monkeypatch):
    for name, most in (("MOST_NAMES", 2), ("MOST_COPIES", 1), ("MOST_PICTURED", 1), ("MOST_OF_ONE", 2)):
        monkeypatch.setattr(survey_module, name, most)
    for number in range(3):
        (folder / "train" / "hat" / f"bad{number}.png").write_bytes(b"")
        for copy in range(4):
            (folder / "train" / "hat" / f"copy{number}{copy}.png").write_bytes(encoded(100 + number))
    found = survey(folder)
    assert (len(found.splits[0].unreadable), found.splits[0].unreadable_count) == (2, 3)
    assert (len(found.copies), found.copies_count, found.repeated) == (1, 3, 9)
    assert (len(found.copies[0].members), found.copies[0].count) == (2, 4)
    assert list(found.pictures) == ["coat"]
    assert "And 1 more." in _text(survey_page(found, "x"))


def test_progress_is_told_of_every_image(folder):
    told = []
    survey_images(Data(root=str(folder), image_size=8), lambda done, total: told.append((done, total)))
    assert told == [(number, 18) for number in range(1, 19)]


@pytest.mark.parametrize("root", ["wds/shards", "hfids/name"])
def test_a_stream_is_refused(root):
    with pytest.raises(ValueError, match=r"is a stream, .* Give a folder of class folders, a \.zip or \.tar"):
        survey(root)


def test_the_page_escapes_names_and_needs_no_other_file(folder, tmp_path):
    strange = "<img src=x onerror=alert(1)>\x1b[31m&"
    (folder / "train" / "hat").rename(folder / "train" / strange)
    (folder / "validation" / "hat").rename(folder / "validation" / strange)
    (folder / "train" / strange / "<script>.png").write_bytes(b"")
    ended = plainvision("data", folder, "--image-size", "8", "--out", tmp_path / "page.html")
    assert (ended.status, ended.err) == (0, "")
    assert "\x1b" not in ended.out
    assert r"<img src=x onerror=alert(1)>\x1b[31m&" in ended.out
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "\x1b" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:image)", page)


def test_the_verb_prints_the_table_and_says_where_its_page_is(folder, tmp_path):
    shutil.copy(folder / "train" / "hat" / "0.png", folder / "validation" / "hat" / "9.png")
    ended = plainvision("data", zipped(folder), "--out", tmp_path / "page.html")
    assert ended.status == 0
    assert re.search(r"images +12 +7", ended.out)
    assert "equal: clothes/train/hat/0.png  =  clothes/validation/hat/9.png  (the same file)" in ended.out
    assert f"page in {tmp_path / 'page.html'}" in ended.out


def test_the_verb_says_what_it_cannot_do(tmp_path, folder):
    assert said(plainvision("data", tmp_path / "none", "--out", tmp_path / "a.html"), "no such folder or archive")
    assert said(plainvision("data", folder, "--out", tmp_path), "cannot write", "Give another file with --out")


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        ([0, 0, 1, 1], "train: 4 images of 2 classes, 2 of each"),
        ([0, 1, 1, 1], "train: 4 images of 2 classes, 1 (coat) to 3 (hat) of each"),
        ([], "train: 0 images of 0 classes"),
    ],
)
def test_the_first_line_counts_without_decoding(labels, line):
    assert first_line("train", CLASSES, np.array(labels, dtype=np.int64)) == line


def test_a_very_long_image_has_a_small_picture(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "long" / name).mkdir(parents=True)
        picture(1).resize((2000, 2)).save(tmp_path / "long" / name / "0.png")
    found = survey(tmp_path / "long")
    assert all(len(small) < 10_000 for some in found.pictures.values() for small in some)


def _text(page) -> str:
    return "\n".join(page._parts)


def test_a_picture_beside_the_class_folders_is_told(folder: Path):
    assert "train: images beside the class folders, and so in no class: 1." in findings(survey(folder))
