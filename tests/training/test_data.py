import io
import json
import os
import random
import sys
import tarfile
import warnings
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from plainvision.training.data import Batch, EvaluationBatches, TrainingBatches
from plainvision.training.images import open_images
from plainvision.training.recipe import Augment, Data, Machine, Recipe

CLASSES = ("coat", "hat", "shoe")
SMALL = {"image_size": 8, "workers": 0, "crop_ratio": 1.0}
LIVELY = Augment(policy="rand-m7-mstd0.5-inc1", random_erasing=0.5, scale=(0.3, 1.0))


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (12, 10, 3), dtype=np.uint8))


def encoded(seed: int) -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``clothes/SPLIT/CLASS/N.png``: 3 classes, 4 training and 2 validation images each, and clutter."""
    seed = 0
    for split, each in (("train", 4), ("validation", 2)):
        for name in CLASSES:
            place = tmp_path / "clothes" / split / name
            place.mkdir(parents=True)
            for number in range(each):
                seed += 1
                (place / f"{number}.png").write_bytes(encoded(seed))
            (place / "notes.txt").write_text("not an image")
            (place / ".hidden.png").write_bytes(b"")
    (tmp_path / "clothes" / "train" / "__MACOSX").mkdir()
    (tmp_path / "clothes" / "train" / "contact_sheet.png").write_bytes(encoded(99))
    return tmp_path / "clothes"


def zipped(folder: Path, method: int = zipfile.ZIP_STORED) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            archive.write(file, file.relative_to(folder.parent))
    return path


def tarred(folder: Path) -> Path:
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as archive:
        archive.add(folder, f"./{folder.name}")
    return path


def recipe(
    root: object, *, batch_size: int = 4, seed: int = 0, augment: Augment | None = None, **data: object
) -> Recipe:
    return Recipe(
        name="test",
        model="alexnet",
        data=Data(root=str(root), **{**SMALL, **data}),  # type: ignore[arg-type]
        augment=augment or LIVELY,
        batch_size=batch_size,
        seed=seed,
    )


def evaluation(root: object, *, batch_size: int = 4, classes: tuple[str, ...] | None = None, **data: object):
    return EvaluationBatches(
        Data(root=str(root), **{**SMALL, **data}),
        batch_size=batch_size,
        classes=classes,  # type: ignore[arg-type]
    )


def assert_equal(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert (a.names, a.skipped) == (b.names, b.skipped)
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.images, b.images)


def names(batches: list[Batch]) -> list[str]:
    return [name for batch in batches for name in batch.names]


# Sources


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
    batches = evaluation(whole, validation_root=str(tarred(folder)), classes=training.classes)
    assert len(batches) == 2
    assert len(names(list(batches))) == 6


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
    assert (training.images_per_epoch, training.steps_per_epoch, len(validation)) == (1437, 3, 1)
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


# Hugging Face and webdataset


@pytest.fixture
def hub(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    return datasets


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


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_shards(place: Path, *, shards: int = 4, each: int = 4, classes: bool = True, damaged: int = -1) -> Path:
    place.mkdir()
    for split in ("train", "validation"):
        for shard in range(shards):
            with tarfile.open(place / f"{split}-{shard}.tar", "w") as archive:
                for key in range(shard * each, (shard + 1) * each):
                    content = encoded(key) if key != damaged else b"nothing that is an image"
                    add(archive, f"{key:04d}.png", content)
                    add(archive, f"{key:04d}.cls", str(key % 2).encode())
    described = {
        split: {
            "name": split,
            "num_samples": shards * each,
            "filenames": [f"{split}-{shard}.tar" for shard in range(shards)],
            "shard_lengths": [each] * shards,
        }
        for split in ("train", "validation")
    }
    info = {"splits": described, **({"classes": ["even", "odd"]} if classes else {})}
    (place / "_info.json").write_text(json.dumps(info))
    return place


def raw(key: int) -> torch.Tensor:
    """What evaluation at 10 pixels makes of the image ``key``: (3, 10, 10) up to normalisation."""
    pixels = np.asarray(picture(key))[1:11].transpose(2, 0, 1) / 255
    mean, std = np.array(Data.mean)[:, None, None], np.array(Data.std)[:, None, None]
    return torch.tensor((pixels - mean) / std).float()


# webdataset leaves it to the garbage collector to close a shard.
open_shards = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def shards(tmp_path):
    pytest.importorskip("webdataset")
    return f"wds/{write_shards(tmp_path / 'shards')}"


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


def test_a_stream_refuses_to_count_images_of_a_class(shards):
    data = Data(root=shards, image_size=10, train_per_class=2, validation_per_class=1)
    with pytest.raises(ValueError, match=r"data\.train_per_class=2 picks images .* is a stream.*hfds/"):
        TrainingBatches(Recipe(name="few", model="vanillanet_5", data=data))
    with pytest.raises(ValueError, match=r"data\.validation_per_class=1 picks images .* is a stream"):
        EvaluationBatches(data, batch_size=2)


@open_shards
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


@open_shards
def test_a_stream_has_no_number_of_batches(shards):
    with pytest.raises(TypeError, match="cannot be counted before they are read"):
        len(evaluation(shards))


@open_shards
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


@open_shards
def test_processes_read_different_shards(shards):
    shares = [TrainingBatches(recipe(shards), rank=rank, processes=2) for rank in (0, 1)]
    one, other = (list(share.epoch(0)) for share in shares)
    assert [len(batch.labels) for batch in one + other] == [2] * 8
    assert not any(torch.equal(a.images, b.images) for a in one for b in other)


@open_shards
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


@open_shards
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


@open_shards
def test_a_label_behind_the_last_class_is_an_error(tmp_path):
    pytest.importorskip("webdataset")
    batches = evaluation(f"wds/{write_shards(tmp_path / 'shards', classes=False)}", classes=("even",))
    with pytest.raises(ValueError, match=r"'validation', has the label 1, but there are only 1 classes"):
        list(batches)


@open_shards
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


# Order and randomness


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
    assert batch.names[0] == batch.names[1] == batch.names[2]  # repeats meet in one batch
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
    assert [len(share) for share in shares] == [len(list(share)) for share in shares]


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


# Damaged images


@pytest.fixture
def damaged(folder):
    """Two of twelve training images and one of six validation images cannot be read."""
    (folder / "train" / "hat" / "1.png").write_bytes(encoded(1)[:90])
    (folder / "train" / "shoe" / "2.png").write_bytes(b"no image")
    (folder / "validation" / "coat" / "0.png").write_bytes(b"")
    return folder


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


# Errors before the first step


def test_a_root_that_is_not_there_gets_a_suggestion(folder):
    with pytest.raises(FileNotFoundError, match=r"no images at '.*clothse'.*Did you mean .*clothes\?"):
        TrainingBatches(recipe(folder.parent / "clothse"))
    with pytest.raises(FileNotFoundError, match=r"Did you mean digits\?"):
        TrainingBatches(recipe("digit"))
    with pytest.raises(FileNotFoundError, match=r"Check data\.root and data\.validation_root"):
        evaluation("/nowhere/at/all")


def test_a_missing_split_lists_the_folders_that_are_there(folder):
    match = r"no folder called 'val'; the folders there are 'train', 'validation', .*data\.validation_split"
    with pytest.raises(ValueError, match=match):
        evaluation(folder, validation_split="val")
    with pytest.raises(ValueError, match=match.replace("'train'", "'clothes', 'clothes/train'").split(", 'val")[0]):
        evaluation(zipped(folder), validation_split="val", validation_root=str(zipped(folder)))


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


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar.xz"])
def test_a_compressed_tar_is_refused(folder, suffix):
    path = tarred(folder).rename(folder.with_name(f"clothes{suffix}"))
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


def test_batches_must_fit_the_data_and_the_processes(folder):
    with pytest.raises(ValueError, match=r"batch_size=16 but only 12 images.*Set batch_size to 12 or less"):
        TrainingBatches(recipe(folder, batch_size=16))
    with pytest.raises(ValueError, match=r"batch_size=5 cannot be shared equally by 2 processes.*Set batch_size=4"):
        TrainingBatches(recipe(folder, batch_size=5), processes=2)
    with pytest.raises(ValueError, match=r"in 4 passes each \(machine\.accumulate\).*multiple of 8.*batch_size=8"):
        TrainingBatches(replace(recipe(folder), machine=Machine(accumulate=4)), processes=2)
    with pytest.raises(ValueError, match=r"start_step=4 lies outside an epoch of 3 steps"):
        TrainingBatches(recipe(folder)).epoch(0, start_step=4)


def test_a_hugging_face_folder_that_is_not_there_is_an_error(hub):
    with pytest.raises(FileNotFoundError, match=r"no such folder as '/nowhere/at/all'.*hfds/NAME"):
        TrainingBatches(recipe("hfds//nowhere/at/all"))
