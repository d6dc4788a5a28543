"""Class folders and archives of them, and what is said of those that cannot work."""

import gzip
import lzma
import os
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from data.pictures_for_tests import (
    CLASSES,
    LIVELY,
    assert_equal,
    evaluation,
    names,
    picture,
    recipe,
    tarred,
    zipped,
)
from PIL import Image

from plainvision.data.batches import TrainingBatches
from plainvision.data.images import open_images
from plainvision.training.recipe import Data


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_gives_what_its_folder_gives(folder, pack):
    archive = pack(folder)
    expected = list(TrainingBatches(recipe(folder)).epoch(0))
    for workers in (0, 2):
        assert_equal(expected, list(TrainingBatches(recipe(archive, workers=workers)).epoch(0)))
    assert_equal(list(evaluation(folder)), list(evaluation(archive)))


def test_a_split_is_found_at_any_depth_and_read_in_the_order_of_its_names(folder):
    batches = evaluation(folder.parent, batch_size=6)
    assert batches.classes == CLASSES
    (batch,) = batches
    assert batch.images.shape == (6, 3, 8, 8)
    assert batch.images.dtype == torch.float32
    assert batch.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.labels.dtype == torch.int64
    top = folder.parent.name
    assert batch.names == tuple(f"{top}/clothes/validation/{c}/{n}.png" for c in CLASSES for n in (0, 1))
    assert batch.skipped == ()


def test_pixels_are_normalised(folder):
    white = folder / "validation" / "hat" / "0.png"
    Image.new("RGB", (9, 9), (255, 255, 255)).save(white)
    batch = next(iter(evaluation(folder, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))))
    assert batch.names[2] == "clothes/validation/hat/0.png"
    assert torch.equal(batch.images[2, :, 0, 0], torch.tensor([1.0, 3.0, 0.5]))


def test_class_folders_without_splits_are_read_where_validation_has_its_own_place(folder):
    expected = list(TrainingBatches(recipe(folder, validation_root=str(folder))).epoch(0))
    parted = list(TrainingBatches(recipe(folder / "train", validation_root=str(folder / "validation"))).epoch(0))
    assert [name.partition("/")[2] for name in names(expected)] == names(parted)
    assert torch.equal(expected[0].images, parted[0].images)
    batches = evaluation(folder / "train", validation_root=str(folder / "validation"))
    assert names(list(batches)) == [f"validation/{c}/{n}.png" for c in CLASSES for n in (0, 1)]


def test_class_folders_alone_can_be_evaluated_but_not_trained_on(folder):
    assert len(names(list(evaluation(folder / "validation")))) == 6
    with pytest.raises(ValueError, match=r"no folder called 'train'.*'coat', 'hat', 'shoe'.*data\.validation_root"):
        TrainingBatches(recipe(folder / "validation"))


def test_training_and_validation_may_lie_in_two_archives(folder):
    whole = zipped(folder)
    training = TrainingBatches(recipe(whole, validation_root=str(whole), validation_split="validation"))
    batches = list(evaluation(whole, validation_root=str(tarred(folder)), classes=training.classes))
    assert len(batches) == 2
    assert len(names(batches)) == 6


def test_hard_links_in_a_tar_are_followed(folder):
    twin = folder / "validation" / "hat" / "9.png"
    os.link(folder / "validation" / "hat" / "0.png", twin)
    (batch,) = evaluation(tarred(folder), batch_size=7)
    first, second = (
        batch.names.index("clothes/validation/hat/0.png"),
        batch.names.index("clothes/validation/hat/9.png"),
    )
    assert torch.equal(batch.images[first], batch.images[second])


def test_palettes_with_transparency_and_grey_images_are_read_without_a_warning(folder):
    place = folder / "validation" / "coat"
    transparent = picture(5).convert("P")
    transparent.save(place / "0.png", transparency=bytes(range(256)))
    picture(5).convert("L").save(place / "1.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(names(list(evaluation(folder)))) == 6


def test_the_digits_are_split_in_the_same_way_each_time():
    digits = {"channels": 1, "mean": (0.5,), "std": (0.5,)}
    training = TrainingBatches(recipe("digits", batch_size=479, **digits))
    validation = evaluation("digits", batch_size=360, **digits)
    assert training.classes == validation.classes == tuple("0123456789")
    assert (training.images_per_epoch, training.steps_per_epoch, validation.images) == (1437, 3, 360)
    batch = next(iter(validation))
    assert batch.images.shape == (360, 1, 8, 8)
    assert batch.names[:2] == ("digits/validation/0021", "digits/validation/0024")
    assert batch.labels.bincount().min() >= 34  # every digit has its share
    seen = names(list(training.epoch(0)))
    assert len({name.rpartition("/")[2] for name in seen + list(batch.names)}) == 1797
    # At its own size and with crop_ratio=1, an image is its pixels.
    from sklearn.datasets import load_digits

    assert torch.allclose(batch.images[0, 0] * 8 + 8, torch.tensor(load_digits().images[21]).float(), atol=0.04)


@pytest.mark.parametrize("policy", [None, "rand-m9-mstd0.5-inc1", "original", "3a", "augmix-m5-w4-d2"])
def test_every_kind_of_policy_works_on_grey_images(folder, policy):
    augment = replace(LIVELY, policy=policy, color_jitter=0.4)
    for batch in TrainingBatches(recipe(folder, channels=1, mean=(0.5,), std=(0.5,), augment=augment)).epoch(0):
        assert batch.images.shape == (4, 1, 8, 8)
        assert batch.images.isfinite().all()


def test_the_first_images_of_each_class_are_enough(folder):
    data = Data(root=str(folder), image_size=10, workers=0, train_per_class=2, validation_per_class=1)
    training, validation = open_images(data, "train"), open_images(data, "validation")
    assert [training.name(i).split("/")[-2:] for i in range(6)] == [
        [name, f"{number}.png"] for name in CLASSES for number in (0, 1)
    ]
    assert training.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert validation.labels.tolist() == [0, 1, 2]
    whole = open_images(Data(root=str(folder)), "train")
    assert np.array_equal(np.asarray(training.read(3, "RGB")), np.asarray(whole.read(5, "RGB")))


def test_a_bad_member_of_an_archive_is_a_damaged_image(folder):
    archive = zipped(folder)
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        victim = opened.getinfo("clothes/validation/hat/1.png")
    content[victim.header_offset + 100] ^= 255
    archive.write_bytes(content)
    (batch,) = evaluation(archive, batch_size=6)
    damage = "damaged inside the archive: its checksum is wrong"
    assert batch.skipped == (f"clothes/validation/hat/1.png ({damage})",)


def test_a_zip_may_be_compressed_in_the_usual_way_and_in_no_other(folder):
    expected = list(evaluation(folder))
    path = folder.with_suffix(".zip")
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        assert_equal(expected, list(evaluation(zipped(folder, method))))
    zipped(folder, zipfile.ZIP_LZMA)
    with pytest.raises(ValueError, match=r"packed in another way than `zip` does.*with the usual compression"):
        evaluation(path)


def test_a_root_that_is_not_there_gets_a_suggestion(folder):
    with pytest.raises(FileNotFoundError, match=r"no images at '.*clothse'.*Did you mean .*clothes\?"):
        TrainingBatches(recipe(folder.parent / "clothse"))
    with pytest.raises(FileNotFoundError, match=r"Did you mean digits\?"):
        TrainingBatches(recipe("digit"))
    with pytest.raises(FileNotFoundError, match=r"Check data\.root and data\.validation_root"):
        evaluation("/nowhere/at/all")


def test_a_missing_split_lists_the_folders_that_are_there(folder):
    match = r"no folder called 'tests'; the folders there are 'train', 'validation', .*data\.validation_split"
    with pytest.raises(ValueError, match=match):
        evaluation(folder, validation_split="tests")
    with pytest.raises(ValueError, match=match.replace("'train'", "'clothes', 'clothes/train'").split(", 'val")[0]):
        evaluation(zipped(folder), validation_split="tests", validation_root=str(zipped(folder)))


def test_two_folders_with_the_name_of_the_split_are_ambiguous(folder):
    (folder / "more").mkdir()
    for place in ("a", "b"):
        (folder / place / "extra" / "hat").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"several folders called 'extra': 'a/extra', 'b/extra'"):
        TrainingBatches(recipe(folder, train_split="extra"))


def test_empty_folders_and_single_classes_are_refused(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no folder called 'train'; there are no folders in it"):
        TrainingBatches(recipe(tmp_path / "empty"))
    (tmp_path / "empty" / "train").mkdir()
    with pytest.raises(ValueError, match=r"found no class folders with images in 'train'.*train/CLASS/image\.jpg"):
        TrainingBatches(recipe(tmp_path / "empty"))
    (tmp_path / "empty" / "train" / "hat").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "empty" / "train" / "hat" / "0.JPG", "JPEG")
    with pytest.raises(ValueError, match=r"has a single class, 'hat'"):
        TrainingBatches(recipe(tmp_path / "empty", batch_size=1))
    (folder / "train" / "scarf").mkdir()
    for root in (folder, zipped(folder), tarred(folder)):
        with pytest.raises(ValueError, match=r"'scarf' in '.*train' should hold the images of a class"):
            TrainingBatches(recipe(root))


def test_validation_may_lack_a_class_but_not_add_one(folder):
    (folder / "validation" / "hat").rename(folder.parent / "hat")
    batches = evaluation(folder)
    assert batches.classes == CLASSES  # from the training folders
    assert [label for batch in batches for label in batch.labels.tolist()] == [0, 0, 2, 2]
    (folder.parent / "hat").rename(folder / "validation" / "scarf")
    with pytest.raises(ValueError, match=r"has the class 'scarf', which training does not have.*'coat', 'hat', 'shoe'"):
        evaluation(folder, classes=CLASSES)


@pytest.mark.parametrize(("suffix", "pack"), [(".tar.gz", gzip), (".tgz", gzip), (".tar.xz", lzma), (".TAR", lzma)])
def test_a_compressed_tar_is_refused(folder, suffix, pack):
    path = folder.with_name(f"clothes{suffix}")
    path.write_bytes(pack.compress(tarred(folder).read_bytes()))
    with pytest.raises(ValueError, match=r"compressed tar cannot be read at random\. Decompress it.*\.zip"):
        TrainingBatches(recipe(path))


def test_broken_and_unknown_archives_are_refused(folder):
    for suffix, match in (
        (".zip", "Download or pack"),
        (".tar", "as a plain .tar"),
        (".rar", r"neither a \.zip nor"),
    ):
        (folder.parent / f"broken{suffix}").write_bytes(b"broken" * 200)
        with pytest.raises(ValueError, match=match):
            TrainingBatches(recipe(folder.parent / f"broken{suffix}"))
