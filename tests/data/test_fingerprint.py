"""The hash by which a resumed run tells that its images are still the same."""

import json

import pytest
from PIL import Image

from plainvision.data.batches import EvaluationBatches, TrainingBatches
from plainvision.data.image_kinds import fingerprint
from plainvision.training.recipe import Data, Recipe


@pytest.fixture
def root(tmp_path):
    for split in ("train", "validation"):
        for name in ("hat", "shoe"):
            (tmp_path / "clothes" / split / name).mkdir(parents=True)
            for number in range(2):
                Image.new("L", (4, 4)).save(tmp_path / "clothes" / split / name / f"{number}.png")
    return tmp_path / "clothes"


def prints(root, **share):
    data = Data(root=str(root), image_size=8, workers=0)
    recipe = Recipe(name="test", model="alexnet", data=data, batch_size=4)
    return TrainingBatches(recipe, **share).fingerprint, EvaluationBatches(data, batch_size=2, **share).fingerprint


def test_names_labels_and_their_order_decide_the_fingerprint():
    one = fingerprint(["a", "b"], [0, 1])
    others = [(["a", "b"], [1, 0]), (["b", "a"], [0, 1]), (["a"], [0]), (["a", "c"], [0, 1]), (["a\x000 b"], [0])]
    assert one == fingerprint(iter(["a", "b"]), iter([0, 1]))
    assert len({one, *(fingerprint(*other) for other in others)}) == 6
    assert len(one) == 64
    fingerprint(["no \udcff UTF-8"], [0])


def test_every_process_has_the_fingerprint_of_all_images(root):
    assert prints(root) == prints(root) == prints(root, rank=1, processes=2)


def test_an_image_more_or_renamed_or_in_another_class_changes_the_fingerprint(root):
    seen = [prints(root)]
    Image.new("L", (4, 4)).save(root / "train" / "hat" / "2.png")
    seen.append(prints(root))
    (root / "train" / "hat" / "2.png").rename(root / "train" / "shoe" / "2.png")
    seen.append(prints(root))
    (root / "train" / "shoe" / "2.png").rename(root / "train" / "shoe" / "3.png")
    seen.append(prints(root))
    training, validation = zip(*seen, strict=True)
    assert len(set(training)) == 4
    assert len(set(validation)) == 1


def test_the_shards_and_their_lengths_are_the_fingerprint_of_a_stream(tmp_path):
    pytest.importorskip("webdataset")
    seen = []
    for lengths in ((4, 4), (4, 4), (3, 5)):
        names = ["0.tar", "1.tar"]
        for name in names:
            (tmp_path / name).write_bytes(b"")
        split = {"name": "train", "num_samples": 8, "filenames": names, "shard_lengths": lengths}
        info = {"classes": ["a", "b"], "splits": {"train": split, "validation": {**split, "name": "validation"}}}
        (tmp_path / "_info.json").write_text(json.dumps(info))
        seen.append(prints(f"wds/{tmp_path}"))
    assert seen[0] == seen[1]
    assert not set(seen[0]) & set(seen[2])
