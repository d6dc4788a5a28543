"""Where streams come from: nothing runs a program unless asked to, and what a stranger wrote opens nothing else."""

import http.server
import json
import subprocess
import sys
import tarfile
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from data.pictures_for_tests import add, encoded, evaluation, names, recipe, write_shards
from torch import nn

from plainvision.data.batches import TrainingBatches
from plainvision.training.evaluation import evaluate

pytest.importorskip("webdataset")


@pytest.fixture
def no_programs(monkeypatch):
    """Starting one is an error."""

    def started(*words: object, **options: object) -> None:
        raise AssertionError(f"a program was started: {words}")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(sys.modules["webdataset.gopen"], "Popen", started)


@pytest.fixture
def place(tmp_path) -> Path:
    return write_shards(tmp_path / "shards")


def described(place: Path, **changes: object) -> None:
    """Change the description of the validation split."""
    info = json.loads((place / "_info.json").read_text())
    info["splits"]["validation"] |= changes
    (place / "_info.json").write_text(json.dumps(info))


def schemes() -> list[str]:
    from webdataset.gopen import gopen_schemes

    return [name for name in gopen_schemes if name not in ("http", "https", "__default__")]


@pytest.mark.parametrize("scheme", [*schemes(), "PIPE", "Gs", "s3", "hdfs", "ssh", "ftp", "unheard-of"])
@pytest.mark.parametrize("rest", ["touch ran", "//host/folder", "cat x #"])
def test_an_address_that_a_program_would_fetch_is_refused(no_programs, tmp_path, monkeypatch, scheme, rest):
    monkeypatch.chdir(tmp_path)
    for start in (TrainingBatches, lambda recipe: evaluation(recipe.data.root)):
        with pytest.raises(ValueError, match=r"is refused: .* runs a command.*--data\.allow-pipes"):
            start(recipe(f"wds/{scheme}:{rest}"))
    with pytest.raises(ValueError, match="is refused"):
        evaluation("digits", validation_root=f"wds/{scheme}:{rest}")
    assert list(tmp_path.iterdir()) == []


def test_a_command_runs_where_it_is_allowed(place):
    root = f"wds/pipe:cat {place}"
    assert len(names(list(evaluation(root, allow_pipes=True)))) == 16
    assert len(list(TrainingBatches(recipe(root, allow_pipes=True)).epoch(0))) == 4


def test_what_looks_like_a_command_and_is_a_folder_is_a_folder(no_programs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_shards(tmp_path / "pipe:touch ran")
    assert len(names(list(evaluation("wds/pipe:touch ran")))) == 16
    assert len(names(list(evaluation(f"wds/file://{tmp_path}/pipe:touch ran")))) == 16


@pytest.mark.parametrize(
    "shard",
    [
        *("pipe:touch ran", "pipe:touch ran|.tar", "file:/etc/passwd", "http://host/0.tar", "gs://host/0.tar"),
        *(
            "/etc/passwd",
            "../0.tar",
            "a/../../0.tar",
            "-o.tar",
            "$(touch ran).tar",
            "`touch ran`.tar",
            "0.tar;touch ran",
        ),
        *("a::b.tar", "{0..9}.tar", "${HOME}.tar", "~/0.tar", "a\\0.tar", "0.tar\ntouch ran", ""),
    ],
)
@pytest.mark.parametrize("start", ["wds/", "wds/pipe:cat "])
def test_a_description_names_only_files_below_its_folder(place, monkeypatch, tmp_path, shard, start):
    monkeypatch.chdir(tmp_path)
    described(place, filenames=[shard])
    with pytest.raises(ValueError, match=r"_info\.json names the shard .*no plain name.*Correct the file"):
        evaluation(f"{start}{place}", allow_pipes=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "split",
    ["pipe:touch ran.tar|8", "0.tar::pipe:touch ran.tar|8", "{gs://x,pipe:touch ran}.tar|8", "`touch ran`.tar|8"],
)
def test_a_split_is_never_a_command(no_programs, place, monkeypatch, tmp_path, split):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="should have the shard"):
        evaluation(f"wds/{place}", validation_split=split, classes=("even", "odd"))
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="broke off"):
        list(evaluation(f"wds/pipe:cat {place}", validation_split=split, classes=("even", "odd"), allow_pipes=True))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("split", ["{0..tar|8", "${UNKNOWN}.tar|8", "0.tar|many"])
def test_a_split_that_cannot_be_read_is_an_error(place, split):
    with pytest.raises(ValueError, match=r"cannot read data\.validation_split=.* as SHARDS\|NUMBER"):
        evaluation(f"wds/{place}", validation_split=split, classes=("even", "odd"))


@pytest.fixture
def server(tmp_path):
    """The address of a server of the folder of the test."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def test_shards_are_read_over_http_without_a_program(no_programs, place, server):
    (batch,) = evaluation(f"wds/{server}/shards", batch_size=16)
    (expected,) = evaluation(f"wds/{place}", batch_size=16)
    assert torch.equal(batch.images, expected.images)
    with pytest.raises(ValueError, match=r"split validation not found \(there: _info\.json: .*404"):
        evaluation(f"wds/{server}/elsewhere")
    (place / "validation-1.tar").unlink()
    with pytest.raises(ValueError, match=r"broke off: the shard 'validation-1\.tar' cannot be read \(.*404"):
        list(evaluation(f"wds/{server}/shards"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[1]", "is no description of splits"),
        ('{"splits": [1]}', "is no description of splits"),
        ('{"splits": {"validation": 3}}', "the split 'validation' of _info"),
        ('{"splits": {"validation": {"num_samples": 3}}}', "filenames"),
        ('{"splits": {"validation": {"filenames": "0.tar", "num_samples": 3}}}', "filenames"),
        ('{"splits": {"validation": {"filenames": ["0.tar"], "num_samples": "3"}}}', "num_samples"),
        ('{"splits": {"validation": {"filenames": ["0.tar"], "num_samples": -3}}}', "has no length"),
        ('{"splits": {"validation": {"filenames": [], "num_samples": 3}}}', "has no length"),
    ],
)
def test_a_damaged_description_is_an_error(place, text, message):
    (place / "_info.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        evaluation(f"wds/{place}")


@pytest.mark.parametrize("ending", ["jpeg", "JPEG", "jpg", "JPG", "png", "webp", "bmp", "gif", "tif", "TIFF", "pgm"])
def test_every_ending_that_is_read_from_folders_is_read_from_shards(tmp_path, ending):
    tmp_path.joinpath("_info.json").write_text('{"classes": ["a", "b"]}')
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for key in range(4):
            add(archive, f"sub/{key}.{ending}", encoded(key))
            add(archive, f"sub/{key}.seg.png", b"a mask")
            add(archive, f"sub/{key}.cls", str(key % 2).encode())
    (batch,) = evaluation(f"wds/{tmp_path}", validation_split="0.tar|4")
    assert batch.names == tuple(f"0.tar/sub/{key}.{ending}" for key in range(4))
    assert batch.labels.tolist() == [0, 1, 0, 1]
    assert batch.skipped == ()


def test_what_a_shard_holds_and_is_no_image_with_a_label_is_named(tmp_path):
    (tmp_path / "_info.json").write_text('{"classes": ["a", "b"]}')
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for key, ending, label in ((0, "png", b"0"), (1, "heic", b"1"), (2, "png", b"cat"), (3, "png", None)):
            add(archive, f"{key}.{ending}", encoded(key) if ending == "png" else b"\0\0\0\x18ftypheic")
            if label is not None:
                add(archive, f"{key}.cls", label)
        add(archive, "4.png", bytes(2**21))
        add(archive, "4.cls", b"1")
    (batch,) = evaluation(f"wds/{tmp_path}", validation_split="0.tar|5", batch_size=9, max_pixels=1000)
    assert batch.names == ("0.tar/0.png",)
    assert batch.skipped == (
        "0.tar/1.heic (cannot identify image file)",
        "0.tar/2.png (it has no label in a .cls)",
        "0.tar/3.png (it has no label in a .cls)",
        "0.tar/4.png (2097152 bytes are more than an image of data.max_pixels=1000 takes)",
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_was_cut_off_or_damaged_is_an_error(place, workers):
    content = (place / "validation-1.tar").read_bytes()
    for damaged in (content[:2048], content[:700], content[:1024] + b"\xff" + content[1025:], b"", b"nothing"):
        (place / "validation-1.tar").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"broke off: the shard 'validation-1\.tar' cannot be read \(.*copy"):
            list(evaluation(f"wds/{place}", workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_of_shards_without_an_image_is_an_error(tmp_path, workers):
    (tmp_path / "_info.json").write_text('{"classes": ["a", "b"]}')
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for key in range(4):
            add(archive, f"{key}.npy", b"numbers")
            add(archive, f"{key}.cls", b"0")
    with pytest.raises(ValueError, match="ended after 0 of the 1 batches"):
        list(TrainingBatches(recipe(f"wds/{tmp_path}", train_split="0.tar|4", workers=workers)).epoch(0))
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    network(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="no image to evaluate"):
        evaluate(network, evaluation(f"wds/{tmp_path}", validation_split="0.tar|4", workers=workers))


@pytest.mark.parametrize("kind", ["hfds", "hfids"])
def test_a_folder_with_a_loading_script_is_refused(tmp_path, hub, kind):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "set.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises((ValueError, FileNotFoundError), match=r"(?i)script|no \(supported\) data files"):
        evaluation(f"{kind}/{folder}")
    assert not (tmp_path / "ran").exists()


def test_a_row_of_a_data_set_does_not_open_a_file_elsewhere(tmp_path, hub):
    import pyarrow.parquet

    (tmp_path / "private.png").write_bytes(encoded(0))
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "own.png").write_bytes(encoded(1))
    paths = [str(tmp_path / "private.png"), str(folder / "own.png"), f"{folder}/../other.png"]
    features = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=["a", "b"])})
    rows = [{"image": {"bytes": None, "path": path}, "label": 0} for path in paths]
    table = hub.Dataset.from_list(rows, features=features).data.table
    pyarrow.parquet.write_table(table, folder / "validation-00000-of-00001.parquet")  # paths as they are
    (batch,) = evaluation(f"hfds/{folder}", classes=("a", "b"))
    assert [name.split("/")[-1] for name in batch.names] == ["own.png"]
    assert [name.partition(" ")[2] for name in batch.skipped] == ["(its row names a file outside of the data set)"] * 2
