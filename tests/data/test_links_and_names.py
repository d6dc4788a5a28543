"""A folder and what packs it agree: names, links, clutter; and what is damaged is never a shorter data set."""

import os
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from data.pictures_for_tests import add, encoded, evaluation, names, picture, recipe, tarred, zipped

from plainvision.data.batches import EvaluationBatches, TrainingBatches
from plainvision.data.images import open_images
from plainvision.data.locations import absolute
from plainvision.training.recipe import Data


def paths(root: object, **data: object) -> list[str]:
    """The images of the training split, without the name of the folder."""
    images = open_images(Data(root=str(root), **data), "train")  # type: ignore[arg-type]
    return [images.name(index).partition("train/")[2] for index in range(len(images.labels))]


def pictures(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(number))
    return root


def zip_of(root: Path) -> Path:
    """A .zip that keeps links, as `zip --symlinks` writes it."""
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            name = str(file.relative_to(root.parent))
            if file.is_symlink():
                member = zipfile.ZipInfo(name)
                member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
                archive.writestr(member, os.readlink(file))
            elif file.is_file():
                archive.write(file, name)
    return path


ALL = pytest.mark.parametrize("pack", [Path, zip_of, tarred], ids=["folder", "zip", "tar"])


# Names


@pytest.mark.parametrize("form", ["./{}", "/{}", "../../{}", "x/../{}", ".\\{}"])
def test_names_in_an_archive_are_labels(tmp_path, form):
    path = tmp_path / "packed.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("train/cat/0.png", "train/dog/0.png"):
            archive.writestr(form.format(name.replace("/", "\\") if "\\" in form else name), encoded(0))
    assert paths(path) == ["cat/0.png", "dog/0.png"]
    if "\\" not in form:
        with tarfile.open(tmp_path / "packed.tar", "w") as archive:
            for name in ("train/cat/0.png", "train/dog/0.png"):
                add(archive, form.format(name), encoded(0))
        assert paths(tmp_path / "packed.tar") == ["cat/0.png", "dog/0.png"]
    assert [file.name for file in tmp_path.iterdir() if file.is_dir()] == []


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_of_two_members_with_one_name_the_last_is_read_and_the_other_told(tmp_path, suffix):
    path = tmp_path / f"packed{suffix}"
    contents = [("train/a/0.png", 1), ("./train/a/0.png", 2), ("train/b/0.png", 3)]
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, seed in contents:
                archive.writestr(name, encoded(seed))
    else:
        with tarfile.open(path, "w") as archive:
            for name, seed in contents:
                add(archive, name, encoded(seed))
    with pytest.warns(UserWarning, match=r"1 file is left out: 'train/a/0\.png \(the archive has this name twice"):
        images = open_images(Data(root=str(path)), "train")
    assert np.array_equal(np.asarray(images.read(0, "RGB")), np.asarray(picture(2)))


def test_a_zip_that_does_not_say_that_its_names_are_utf8_has_the_classes_of_its_folder(tmp_path):
    root = pictures(tmp_path / "menu", "train/café/0.png", "train/tea/0.png")
    path = zipped(root)
    unsaid = path.read_bytes()
    for offset, mark in ((6, b"PK\x03\x04"), (8, b"PK\x01\x02")):
        start = unsaid.find(mark)
        while start >= 0:
            flags = int.from_bytes(unsaid[start + offset : start + offset + 2], "little") & ~0x800
            unsaid = unsaid[: start + offset] + flags.to_bytes(2, "little") + unsaid[start + offset + 2 :]
            start = unsaid.find(mark, start + 4)
    path.write_bytes(unsaid)
    assert paths(path) == paths(root) == ["café/0.png", "tea/0.png"]


def test_two_spellings_of_a_name_are_one_class(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    spelt = (f"train/{nfc}/0.png", f"train/{nfd}/1.png", "train/tea/0.png", f"val/{nfd}/0.png")
    root = pictures(tmp_path / "menu", *spelt)
    for source in (root, zipped(root), tarred(root)):
        training = TrainingBatches(recipe(source, batch_size=1))
        assert training.classes == (nfc, "tea")
        assert training.images_per_epoch == 3
        for classes in (None, (nfd, "tea"), ("tea", nfc)):
            batches = evaluation(source, validation_split="val", classes=classes)
            (batch,) = batches
            assert batch.labels.tolist() == [list(batches.classes).index(nfd if classes and nfd in classes else nfc)]


def test_folders_that_are_all_numbers_are_in_the_order_of_their_values(tmp_path):
    root = pictures(tmp_path / "n", *(f"train/{number}/0.png" for number in (0, 1, 2, 10, 11)))
    assert open_images(Data(root=str(root)), "train").classes == ("0", "1", "2", "10", "11")
    old = ("0", "1", "10", "11", "2")  # the classes of a checkpoint keep their own order
    (batch,) = evaluation(root, batch_size=5, validation_split="train", classes=old)
    assert [old[label] for label in batch.labels] == ["0", "1", "2", "10", "11"]
    pictures(root, "train/none/0.png")
    assert open_images(Data(root=str(root)), "train").classes == ("0", "1", "10", "11", "2", "none")


@ALL
def test_what_systems_leave_in_folders_is_no_class_and_no_image(tmp_path, pack):
    clutter = ("@eaDir", ".thumbnails", "__MACOSX", "lost+found", ".ipynb_checkpoints", "#recycle", "$RECYCLE.BIN")
    root = pictures(tmp_path / "c", "train/a/0.png", "train/b/0.png", *(f"train/{name}/0.png" for name in clutter))
    pictures(root, *(f"train/a/{name}/1.png" for name in clutter), "train/a/.hidden.png", ".git/train/z/0.png")
    assert paths(pack(root)) == ["a/0.png", "b/0.png"]


@ALL
def test_images_of_a_kind_that_is_not_read_are_named_and_counted(tmp_path, pack):
    root = pictures(tmp_path / "p", "train/a/0.png", "train/b/0.png", "train/a/1.HEIC", "train/b/1.cr2", "val/a/2.heic")
    with pytest.warns(UserWarning, match="left out") as heard:
        assert paths(pack(root)) == ["a/0.png", "b/0.png"]
    (told,) = heard
    assert "split 'train': 2 files or links that look like images are left out" in str(told.message)
    assert "train/a/1.HEIC (a kind of image that is not read)" in str(told.message)
    assert "val" not in str(told.message)
    with pytest.raises(ValueError, match=r"1\.HEIC \(a kind of image that is not read\)'"):
        paths(pack(root), corrupt="stop")
    (root / "train" / "b" / "0.png").unlink()
    with pytest.raises(ValueError, match=r"'b' in .* holds none.* left out: 'p?/?train/a/1\.HEIC"):
        paths(pack(root))


# Links


@ALL
def test_a_link_to_another_place_stands_for_what_is_there(tmp_path, pack):
    root = pictures(tmp_path / "l", "pool/cats/0.png", "pool/cats/in/1.png", "pool/2.png", "train/b/0.png")
    (root / "train" / "a").symlink_to("../pool/cats")
    (root / "train" / "b" / "2.png").symlink_to("../../pool/2.png")
    (root / "train" / "b" / "3.png").symlink_to("2.png")
    assert paths(pack(root)) == ["a/0.png", "a/in/1.png", "b/0.png", "b/2.png", "b/3.png"]
    images = open_images(Data(root=str(pack(root))), "train")
    assert [images.read(index, "RGB").size for index in range(5)] == [(10, 12)] * 5


@ALL
def test_a_link_into_the_split_or_back_to_what_holds_it_is_left_out_with_words(tmp_path, pack):
    root = pictures(tmp_path / "l", "train/a/0.png", "train/b/0.png")
    (root / "train" / "a" / "up").symlink_to("..")
    (root / "train" / "a" / "top").symlink_to("../..")
    (root / "train" / "a" / "other").symlink_to("../b")
    (root / "train" / "b" / "1.png").symlink_to("../a/0.png")
    (root / "train" / "b" / "2.png").symlink_to("nowhere.png")
    with pytest.warns(UserWarning, match="left out") as heard:
        found = paths(pack(root))
    assert found == ["a/0.png", "b/0.png"]
    told = str(heard[0].message)
    for link in ("a/up", "a/top", "a/other", "b/1.png", "b/2.png"):
        assert f"train/{link} (a link " in told


@ALL
def test_a_class_that_is_a_link_into_another_is_refused(tmp_path, pack):
    root = pictures(tmp_path / "l", "train/a/0.png", "train/b/0.png")
    (root / "train" / "c").symlink_to("a")
    with pytest.raises(ValueError, match=r"train/c' stands where .* should be and is a link to (l/)?train/a, whose"):
        paths(pack(root))
    (root / "train" / "c").unlink()
    for target in ("..", "../nowhere", "c"):
        (root / "train" / "c").symlink_to(target)
        with pytest.raises(ValueError, match=r"train/c' stands where .* is a link (that leads nowhere|to l,)"):
            paths(pack(root))
        (root / "train" / "c").unlink()


@ALL
def test_two_classes_that_are_one_folder_are_refused(tmp_path, pack):
    root = pictures(tmp_path / "l", "pool/0.png", "train/z/0.png")
    for name in ("a", "b"):
        (root / "train" / name).symlink_to("../pool")
    with pytest.raises(ValueError, match=r"train/b' stands where the folder of a class should be"):
        paths(pack(root))


def test_the_validation_split_may_be_a_link_to_the_training_split(tmp_path):
    root = pictures(tmp_path / "l", "in/train/a/0.png", "in/train/b/0.png")
    (root / "in" / "validation").symlink_to("train")
    for source in (root, root / "in", zip_of(root), tarred(root)):
        assert len(names(list(EvaluationBatches(Data(root=str(source), image_size=8, workers=0), batch_size=2)))) == 2


def test_folders_that_link_to_each_other_end(tmp_path):
    root = pictures(tmp_path / "l", *(f"train/{name}/0.png" for name in "abcdef"))
    outside = pictures(tmp_path / "outside", "x/0.png")
    (outside / "x" / "again").symlink_to(outside)
    (root / "train" / "a" / "far").symlink_to(outside)
    for one in "abcdef":
        for other in "abcdef":
            (root / "train" / one / f"to_{other}").symlink_to(root / "train" / other)
    with pytest.warns(UserWarning, match="37 files or links"):
        assert paths(root) == ["a/0.png", "a/far/x/0.png", *(f"{name}/0.png" for name in "bcdef")]


def test_a_named_pipe_is_no_image(tmp_path):
    root = pictures(tmp_path / "l", "train/a/0.png", "train/b/0.png")
    os.mkfifo(root / "train" / "a" / "1.png")
    with pytest.warns(UserWarning, match=r"1\.png \(is no file\)"):
        assert paths(root) == ["a/0.png", "b/0.png"]


# Damage


def test_a_tar_that_was_cut_off_is_never_a_shorter_data_set(tmp_path):
    path = tarred(pictures(tmp_path / "t", *(f"train/{name}/{n}.png" for name in "ab" for n in range(3))))
    content = path.read_bytes()
    with tarfile.open(path) as archive:
        end = max(member.offset_data + member.size for member in archive)
    whole = paths(path)
    for cut in (*range(512, len(content), 512), *range(700, end, 371)):
        path.write_bytes(content[:cut])
        if cut >= -(-end // 512) * 512 + 512:  # one block of the archive's end mark is there
            assert paths(path) == whole
        else:
            with pytest.raises(ValueError, match=r"cannot read .*(cut off or damaged|unexpected end of data)"):
                paths(path)


def test_a_tar_with_one_damaged_header_says_behind_which_member(tmp_path):
    path = tarred(pictures(tmp_path / "t", "train/a/0.png", "train/a/1.png", "train/b/0.png"))
    content = path.read_bytes()
    with tarfile.open(path) as archive:
        members = list(archive)
    for before, member in pairwise(members):
        damaged = bytearray(content)
        damaged[member.offset + 1] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"cut off or damaged behind its member '{before.name}' .*bad checksum"):
            paths(path)


def test_a_member_that_unpacks_to_too_much_is_an_unreadable_image(tmp_path):
    root = pictures(tmp_path / "z", "train/a/0.png", "train/b/0.png", "val/a/0.png", "val/b/0.png")
    (root / "val" / "a" / "1.bmp").write_bytes(bytes(3 * 2**20))
    for source in (zipped(root, zipfile.ZIP_DEFLATED), tarred(root)):
        (batch,) = evaluation(source, batch_size=4, validation_split="val", max_pixels=2**18)
        why = f"{3 * 2**20} bytes are more than an image of data.max_pixels=262144 takes"
        assert batch.skipped == (f"z/val/a/1.bmp ({why})",)
        assert len(batch.names) == 2


def test_a_member_that_is_longer_than_it_says_is_not_unpacked(tmp_path, monkeypatch):
    root = pictures(tmp_path / "z", "val/b/0.png")
    path = zipped(root)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("z/val/a/1.bmp", bytes(2**20))
    content = path.read_bytes()
    path.write_bytes(content.replace((2**20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    unpacked = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self, *words: int) -> None:
            self._real = real(*words)

        def decompress(self, *words: object) -> bytes:
            unpacked.append(self._real.decompress(*words))  # type: ignore[arg-type]
            return unpacked[-1]

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    (batch,) = evaluation(path, batch_size=4, validation_split="val")
    assert batch.skipped == ("z/val/a/1.bmp (damaged inside the archive: its checksum is wrong)",)
    assert len(unpacked[0]) == 101


# Where things are


def test_a_relative_root_is_found_from_its_own_folder_and_named_in_full_when_it_is_not(tmp_path, monkeypatch):
    pictures(tmp_path / "here" / "data", "train/a/0.png", "train/b/0.png")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "here"))
    kept = absolute(Data(root="data", validation_root="~/data"))
    assert (kept.root, kept.validation_root) == (str(tmp_path / "here" / "data"),) * 2
    monkeypatch.chdir(tmp_path)
    assert paths(kept.root) == ["a/0.png", "b/0.png"]
    with pytest.raises(FileNotFoundError, match=rf"no images at 'data': .* archive at {tmp_path}/data\."):
        paths("data")


@pytest.mark.parametrize("root", ["digits", "hfds/cifar10", "hfids/x/y", "wds/http://host/x", "wds/pipe:cat x", "/a/b"])
def test_what_is_no_local_path_stays_as_it_is(root):
    assert absolute(Data(root=root)) == Data(root=root)


def test_local_folders_of_streams_are_written_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute(Data(root="wds/shards")).root == f"wds/{tmp_path}/shards"
    assert absolute(Data(root="hfds/./set")).root == f"hfds/{tmp_path}/set"


def test_a_split_without_a_name_is_refused(folder):
    with pytest.raises(ValueError, match=r"data\.validation_split is empty\. Give the name of a folder or a split"):
        evaluation(folder, validation_split="")
    with pytest.raises(ValueError, match=r"data\.train_split is empty"):
        TrainingBatches(recipe(folder, train_split=""))


def test_a_split_may_be_named_with_the_folders_that_hold_it(tmp_path):
    root = pictures(tmp_path / "s", "v1/train/a/0.png", "v2/train/a/1.png", "v2/train/b/1.png")
    for source in (root, zipped(root), tarred(root)):
        images = open_images(Data(root=str(source), train_split="v2/train"), "train")
        assert images.classes == ("a", "b")


def test_an_archive_is_read_from_memory_only(tmp_path):
    root = pictures(tmp_path / "m", "train/a/0.png", "train/b/0.png")
    archive = zipped(root)
    before = sorted(tmp_path.rglob("*"))
    assert len(paths(archive)) == 2
    assert sorted(tmp_path.rglob("*")) == before
