"""Hugging Face data sets and webdataset shards."""

import pickle
import sys
import tarfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from data.pictures_for_tests import (
    add,
    assert_equal,
    encoded,
    evaluation,
    names,
    picture,
    recipe,
    tarred,
    write_shards,
    zipped,
)

from plainvision.data.batches import EvaluationBatches, TrainingBatches
from plainvision.data.streams import _open
from plainvision.training.recipe import Augment, Data, Recipe


def test_a_hugging_face_data_set_gives_what_its_folder_gives(folder, hub):
    (folder / "train" / "contact_sheet.png").unlink()
    for text in folder.rglob("notes.txt"):
        text.unlink()
    packed = f"hfds/{folder}"
    one, other = evaluation(folder), evaluation(packed)
    assert one.classes == other.classes
    assert_equal(list(one), list(other))
    training, expected = TrainingBatches(recipe(packed)), TrainingBatches(recipe(folder))
    assert training.images_per_epoch == 12
    assert_equal(list(training.epoch(1)), list(expected.epoch(1)))


def write_parquet(datasets, place: Path, image: str = "image", classes: bool = True) -> Path:
    """``place/SPLIT-*.parquet``, with the images inside."""
    place.mkdir()
    label = datasets.ClassLabel(names=["b", "a"]) if classes else datasets.Value("int64")
    features = datasets.Features({image: datasets.Image(), "label": label})
    for split, size in (("train", 8), ("validation", 4)):
        rows = [{image: {"bytes": encoded(n), "path": None}, "label": n % 2} for n in range(size)]
        table = datasets.Dataset.from_list(rows, features=features)
        table.to_parquet(place / f"{split}-00000-of-00001.parquet")
    return place


def test_parquet_files_are_read_whatever_their_image_column_is_called(tmp_path, hub):
    for number, (image, classes) in enumerate([("image", True), ("img", True), ("img", False)]):
        root = f"hfds/{write_parquet(hub, tmp_path / f'parquet{number}', image, classes)}"
        training = TrainingBatches(recipe(root, workers=2 if number == 0 else 0))
        assert training.classes == (("b", "a") if classes else ("0", "1"))  # the data set's own order
        batches = list(training.epoch(0))
        assert sorted(names(batches)) == [f"train/{n:08d}" for n in range(8)]
        for batch in batches:
            assert batch.labels.tolist() == [int(name[-1]) % 2 for name in batch.names]
    with pytest.raises(ValueError, match=r'Unknown split "test".*Name the split in data\.validation_split'):
        evaluation(root, validation_split="test")


def write_splits(datasets, place: Path, splits: dict[str, int]) -> str:
    """A data set whose card says which files are of which split, as those on the Hub do; return its place."""
    place.mkdir()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["b", "a"])})
    for number, size in enumerate(splits.values()):
        rows = [{"image": {"bytes": encoded(n), "path": None}, "label": n % 2} for n in range(size)]
        datasets.Dataset.from_list(rows, features=features).to_parquet(place / f"part{number}.parquet")
    files = "".join(f"  - split: {split}\n    path: part{n}.parquet\n" for n, split in enumerate(splits))
    (place / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    return str(place)


@pytest.mark.parametrize("name", ["validation", "val", "valid", "test"])
def test_the_validation_split_of_a_hugging_face_data_set_is_found_under_its_usual_names(tmp_path, hub, name):
    root = write_splits(hub, tmp_path / "set", {"train": 6, name: 4})
    batches = evaluation(f"hfds/{root}")
    assert (batches.split, batches.images) == (name, 4)
    assert names(batches) == [f"{name}/{n:08d}" for n in range(4)]
    hub.load_dataset(root)  # so that the stream's length is known
    assert [one.split("/")[0] for one in names(evaluation(f"hfids/{root}"))] == [name] * 4


def test_a_test_split_of_a_hugging_face_data_set_validates_only_where_there_is_no_other(tmp_path, hub):
    root = write_splits(hub, tmp_path / "set", {"train": 6, "test": 4, "valid": 2})
    assert evaluation(f"hfds/{root}").split == "valid"
    assert evaluation(f"hfds/{root}", validation_split="test").split == "test"
    root = write_splits(hub, tmp_path / "other", {"train": 6, "test": 4})
    with pytest.raises(ValueError, match=r'Unknown split "val".*Name the split in data\.validation_split'):
        evaluation(f"hfds/{root}", validation_split="val")
    share = {"validation_share": 0.5}
    drawn = recipe(f"hfds/{root}", batch_size=2, **share)
    assert TrainingBatches(drawn).images_per_epoch == 2  # a test split is no reason against drawing some
    root = write_splits(hub, tmp_path / "third", {"train": 6, "val": 4})
    with pytest.raises(ValueError, match=r"as split 'val', has validation images already"):
        TrainingBatches(recipe(f"hfds/{root}", batch_size=2, **share))
    lonely = write_splits(hub, tmp_path / "fourth", {"test": 4})
    with pytest.raises(ValueError, match=r'Unknown split "validation"'):
        evaluation(f"hfds/{lonely}")


def test_a_hugging_face_stream_is_read_once_and_shuffled_by_epoch(tmp_path, hub):
    root = f"hfids/{write_parquet(hub, tmp_path / 'parquet')}"
    with pytest.raises(ValueError, match=r"does not say how many images.*use hfds/ instead of hfids/"):
        TrainingBatches(recipe(root))
    plain = evaluation(root.replace("hfids/", "hfds/"))  # with this its length becomes known
    batches = evaluation(root)
    assert batches.classes == ("b", "a")
    (batch,) = batches
    assert batch.labels.tolist() == [0, 1, 0, 1]
    assert torch.equal(batch.images, next(iter(plain)).images)

    training = TrainingBatches(recipe(root, batch_size=2))
    assert (training.images_per_epoch, training.steps_per_epoch) == (8, 4)
    first = list(training.epoch(0))
    assert_equal(first, list(training.epoch(0)))
    assert_equal(first[2:], list(training.epoch(0, start_step=2)))
    assert any(not torch.equal(a.labels, b.labels) for a, b in zip(first, training.epoch(1), strict=True))


def raw(key: int) -> torch.Tensor:
    """What evaluation at 10 pixels makes of the image ``key``: (3, 10, 10) up to normalisation."""
    pixels = np.asarray(picture(key))[1:11].transpose(2, 0, 1) / 255
    mean, std = np.array(Data.mean)[:, None, None], np.array(Data.std)[:, None, None]
    return torch.tensor((pixels - mean) / std).float()


def test_a_stream_refuses_to_count_images_of_a_class(shards):
    data = Data(root=shards, image_size=10, train_per_class=2, validation_per_class=1)
    with pytest.raises(ValueError, match=r"data\.train_per_class=2 picks images .* is a stream.*hfds/"):
        TrainingBatches(Recipe(name="few", model="vanillanet_5", data=data))
    with pytest.raises(ValueError, match=r"data\.validation_per_class=1 picks images .* is a stream"):
        EvaluationBatches(data, batch_size=2)


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_are_evaluated_once_over_all_processes(shards, workers):
    data = Data(root=shards, image_size=10, crop_ratio=1.0, workers=workers)
    for processes in (1, 3, 5):  # 5 is more than there are shards
        rows = []
        for rank in range(processes):
            batches = EvaluationBatches(data, batch_size=3, rank=rank, processes=processes)
            assert batches.classes == ("even", "odd")
            rows += [(image, label) for b in batches for image, label in zip(b.images, b.labels, strict=True)]
        keys = []
        for image, label in rows:
            (key,) = [key for key in range(16) if torch.allclose(image, raw(key), atol=1e-5)]
            assert label == key % 2
            keys.append(key)
        assert sorted(keys) == list(range(16))


def test_a_stream_has_no_number_of_images_and_no_parts(shards):
    assert evaluation(shards).images is None
    with pytest.raises(TypeError, match="has to be read from its beginning"):
        evaluation(shards).part(0, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_are_shuffled_by_seed_and_epoch_and_entered_at_any_step(shards, workers):
    training = TrainingBatches(recipe(shards, workers=workers))
    assert (training.images_per_epoch, training.steps_per_epoch) == (16, 4)
    first = list(training.epoch(0))
    assert [batch.images.shape for batch in first] == [(4, 3, 8, 8)] * 4
    next(training.epoch(0))  # abandoned
    torch.manual_seed(workers)
    assert_equal(first[1:], list(TrainingBatches(recipe(shards, workers=workers)).epoch(0, start_step=1)))
    for other in (training.epoch(1), TrainingBatches(recipe(shards, workers=workers, seed=1)).epoch(0)):
        assert any(not torch.equal(a.images, b.images) for a, b in zip(first, other, strict=True))


def test_processes_read_different_shards(shards):
    shares = [TrainingBatches(recipe(shards), rank=rank, processes=2) for rank in (0, 1)]
    one, other = (list(share.epoch(0)) for share in shares)
    assert [len(batch.labels) for batch in one + other] == [2] * 8
    assert not any(torch.equal(a.images, b.images) for a in one for b in other)


def test_a_damaged_image_in_a_shard_is_told(tmp_path):
    pytest.importorskip("webdataset")
    root = f"wds/{write_shards(tmp_path / 'shards', damaged=5)}"
    batches = list(evaluation(root))
    assert len(names(batches)) == 15
    (told,) = [name for batch in batches for name in batch.skipped]
    assert told == "validation-1.tar/0005.png (cannot identify image file)"
    assert [told.replace("validation", "train")] == [
        name for batch in TrainingBatches(recipe(root)).epoch(0) for name in batch.skipped
    ]
    with pytest.raises(ValueError, match=r"cannot read the image validation-1\.tar/0005\.png.*data\.corrupt=skip"):
        list(evaluation(root, corrupt="stop"))


def test_a_hugging_face_stream_goes_on_behind_a_damaged_image(tmp_path, hub):
    place = tmp_path / "damaged"
    write_parquet(hub, place)
    features = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=["b", "a"])})
    rows = [{"image": {"bytes": encoded(n) if n else b"damaged", "path": None}, "label": n % 2} for n in range(4)]
    for split in ("train", "validation"):
        hub.Dataset.from_list(rows, features=features).to_parquet(place / f"{split}-00000-of-00001.parquet")
    hub.load_dataset(str(place))  # so that its length is known
    (batch,) = evaluation(f"hfids/{place}")
    assert batch.labels.tolist() == [1, 0, 1]
    assert batch.skipped == ("validation/0/00000000 (cannot identify image file)",)
    (batch,) = TrainingBatches(recipe(f"hfids/{place}")).epoch(0)  # full: the stream begins anew
    assert len(batch.labels) == 4
    assert all("(cannot identify image file)" in name for name in batch.skipped)


def test_a_stream_must_say_its_length_and_its_classes(tmp_path, shards):
    place = Path(shards.removeprefix("wds/"))
    with pytest.raises(ValueError, match=r"split test not found.*describe the split in _info\.json"):
        evaluation(shards, validation_split="test")
    with pytest.raises(ValueError, match=r"augment\.repeats=2 needs images that can be read in any order"):
        TrainingBatches(recipe(shards, augment=Augment(repeats=2)))
    with pytest.raises(ValueError, match="4 shards for 8 processes"):
        TrainingBatches(recipe(shards, batch_size=8), processes=8)
    (place / "train-1.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"'train-1\.tar', and 1 of its 4 shards"):
        TrainingBatches(recipe(shards))
    (place / "_info.json").unlink()
    with pytest.raises(ValueError, match=r"cannot stream .*A stream must know its length"):
        TrainingBatches(recipe(shards))
    with pytest.raises(ValueError, match=r"'train-0\.tar' has no length"):
        evaluation(shards, validation_split="train-0.tar", classes=("even", "odd"))
    given = recipe(shards, train_split="train-{2..3}.tar|8", workers=0)
    with pytest.raises(ValueError, match=r"does not say which classes it has\. Set num_classes"):
        TrainingBatches(given)
    assert TrainingBatches(replace(given, num_classes=2)).classes == ("0", "1")
    with pytest.raises(ValueError, match="has a single class, '0'"):
        TrainingBatches(replace(given, num_classes=1))
    with pytest.raises(FileNotFoundError, match="no folder"):
        evaluation("wds/nowhere")


def test_a_label_behind_the_last_class_is_an_error(tmp_path):
    pytest.importorskip("webdataset")
    batches = evaluation(f"wds/{write_shards(tmp_path / 'shards', classes=False)}", classes=("even",))
    with pytest.raises(ValueError, match=r"'validation', has the label 1, but there are only 1 classes"):
        list(batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_without_a_readable_image_end_with_an_error(tmp_path, workers):
    pytest.importorskip("webdataset")
    place = write_shards(tmp_path / "shards", shards=2, each=2)
    for shard in place.glob("*.tar"):
        with tarfile.open(shard, "w") as archive:
            add(archive, "0.png", b"damaged")
            add(archive, "0.cls", b"0")
    with pytest.raises(ValueError, match=r"ended after 0 of the 1 batches.*repair the shards"):
        list(TrainingBatches(recipe(f"wds/{place}", workers=workers)).epoch(0))
    with pytest.raises(ValueError, match=r"^no image of .* 'validation', can be read"):
        list(evaluation(f"wds/{place}", workers=workers))


@pytest.mark.parametrize(
    ("root", "package"), [("hfds/x", "datasets"), ("hfids/x", "datasets"), ("wds/x", "webdataset")]
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, root, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'`{package}`.*pip install "plainvision\[stream\]"'):
        TrainingBatches(recipe(root))


def test_a_hugging_face_folder_that_is_not_there_is_an_error(hub):
    with pytest.raises(FileNotFoundError, match=r"no such folder as '/nowhere/at/all'.*hfds/NAME"):
        TrainingBatches(recipe("hfds//nowhere/at/all"))


def test_sources_travel_to_processes_that_are_spawned(folder, hub, shards, tmp_path):
    parquet = write_parquet(hub, tmp_path / "parquet")
    for root in (folder, zipped(folder), tarred(folder), f"hfds/{parquet}"):
        (expected,) = evaluation(root, batch_size=8)
        (found,) = pickle.loads(pickle.dumps(evaluation(root, batch_size=8)))
        assert found.names == expected.names
        assert torch.equal(found.images, expected.images)
    source = pickle.loads(pickle.dumps(_open(Data(root=shards), "train", (0, 0))))
    assert [row.read("RGB").size for row in islice(source.rows(0, 1, 0, 1), 4)] == [(10, 12)] * 4
    builder = pickle.loads(pickle.dumps(_open(Data(root=f"hfids/{parquet}"), "train", (0, 0))._reader.builder))
    assert next(iter(builder.as_streaming_dataset(split="train")))["image"]["bytes"].startswith(b"\x89PNG")
