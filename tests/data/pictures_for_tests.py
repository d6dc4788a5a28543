"""Small pictures in class folders, archives and shards, and batches of them."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from plainvision.data.batches import Batch, EvaluationBatches
from plainvision.training.recipe import Augment, Data, Recipe

CLASSES = ("coat", "hat", "shoe")
SMALL = {"image_size": 8, "workers": 0, "crop_ratio": 1.0}
LIVELY = Augment(policy="rand-m7-mstd0.5-inc1", random_erasing=0.5, scale=(0.3, 1.0))


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (12, 10, 3), dtype=np.uint8))


def encoded(seed: int) -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return file.getvalue()


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
