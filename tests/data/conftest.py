"""Folders of small pictures."""

from pathlib import Path

import pytest
from data.pictures_for_tests import (
    CLASSES,
    encoded,
    write_shards,
)


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


@pytest.fixture
def hub(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    return datasets


@pytest.fixture
def shards(tmp_path):
    pytest.importorskip("webdataset")
    return f"wds/{write_shards(tmp_path / 'shards')}"


@pytest.fixture
def damaged(folder):
    """Two of twelve training images and one of six validation images cannot be read."""
    (folder / "train" / "hat" / "1.png").write_bytes(encoded(1)[:90])
    (folder / "train" / "shoe" / "2.png").write_bytes(b"no image")
    (folder / "validation" / "coat" / "0.png").write_bytes(b"")
    return folder
