import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tasks.scenes_for_tests import SIDE, coco_folder, pack, read, write

from plainvision.data.settings import Augment, Data
from plainvision.tasks.batches import TrainingScenes, ValidationScenes
from plainvision.tasks.boxes import BoxScenes
from plainvision.tasks.masks import mask_of
from plainvision.tasks.transforms import TrainingTransform
from plainvision.training import Recipe

MOVED = Augment(scale=(0.5, 1.0), flip=0.5, color_jitter=0.2)


@pytest.fixture
def folder(tmp_path):
    return coco_folder(tmp_path / "squares")


def data(root, **changes) -> Data:
    return replace(Data(root=str(root), workers=0, image_size=SIDE), **changes)


def scenes(root, role="train", *, masks=False, **changes) -> BoxScenes:
    return BoxScenes(data(root, **changes), role, masks=masks)


def batches(root, *, augment=MOVED, seed=0, workers=0, rank=0, processes=1, batch_size=2) -> TrainingScenes:
    recipe = Recipe(
        "r", "vanillanet_5", data=data(root, workers=workers), augment=augment, batch_size=batch_size, seed=seed
    )
    found = BoxScenes(recipe.data, "train", masks=True)
    return TrainingScenes(recipe, found, TrainingTransform(augment), rank=rank, processes=processes)


def assert_same(first, second) -> None:
    assert [batch.names for batch in first] == [batch.names for batch in second]
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one.images, other.images, strict=True):
            assert torch.equal(a, b)
        for a, b in zip(one.targets, other.targets, strict=True):
            assert a.keys() == b.keys()
            assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_folder_and_a_zip_have_the_same_scenes(folder):
    train = scenes(folder)
    assert train.classes == ("red", "green")
    assert train.category_ids == (3, 7)
    assert len(train) == 6
    assert sum(len(scene.things) for scene in train.scenes) == 6
    assert train.first_line() == "train: 6 images, 2 of them without objects; 6 objects"
    packed = scenes(pack(folder))
    assert [scene.things for scene in packed.scenes] == [scene.things for scene in train.scenes]
    image, target = packed.row(2).read()
    assert image.size == (SIDE, SIDE)
    assert target["boxes"].shape == (2, 4)
    assert set(target["labels"].tolist()) <= {1, 2}


@pytest.mark.parametrize("place", ["annotations/instances_train.json", "train/_annotations.coco.json"])
def test_annotations_are_found_where_others_keep_them(folder, place):
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / "train.json").rename(folder / place)
    assert len(scenes(folder)) == 6


def test_masks_are_those_of_the_polygons(folder):
    train = scenes(folder, masks=True)
    for index in range(len(train)):
        _, target = train.row(index).read()
        assert target["masks"].shape == (len(target["boxes"]), SIDE, SIDE)
        for mask, (x1, y1, x2, y2) in zip(target["masks"], target["boxes"].int().tolist(), strict=True):
            assert mask[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].all()
            assert mask.sum() == pytest.approx((x2 - x1) * (y2 - y1), rel=0.15)


def test_masks_of_polygons_are_cocos_up_to_single_pixels_at_the_rim():
    from faster_coco_eval import mask as coco_mask

    random = np.random.default_rng(0)
    pixels = []
    for corners in random.integers(3, 9, 40):  # which cross themselves, and lead out of the image
        polygons = [random.uniform(-20, 84, (corners, 2)).ravel().tolist(), [3.0, 3.0, 20.0, 3.0, 3.0, 20.0]]
        ours = mask_of(polygons, 64, 48)
        theirs = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, 64, 48)))
        assert (ours != theirs).sum() < 0.04 * theirs.sum() + 10
        pixels.append((int(ours.sum()), int(theirs.sum())))
    ours, theirs = np.sum(pixels, axis=0)
    assert ours == pytest.approx(theirs, rel=0.005)


def test_run_lengths_are_read_in_both_forms():
    from faster_coco_eval import mask as coco_mask

    wanted = np.zeros((5, 7), dtype=np.uint8)
    wanted[1:4, 2:5], wanted[0, 6] = 1, 1
    letters = coco_mask.encode(np.asfortranarray(wanted))["counts"]
    text = letters.decode() if isinstance(letters, bytes) else letters
    assert (mask_of({"size": [5, 7], "counts": text}, 5, 7) == wanted).all()
    changes = np.flatnonzero(np.diff(np.concatenate([[0], wanted.T.ravel(), [2]])))
    runs = np.diff(np.concatenate([[0], changes])).tolist()
    assert (mask_of({"size": [5, 7], "counts": runs}, 5, 7) == wanted).all()
    for wrong in ([10, 2], [-1, 36], [36], "zz", [1.5], None):
        with pytest.raises(ValueError, match="run lengths"):
            mask_of({"size": [5, 7], "counts": wrong}, 5, 7)
    with pytest.raises(ValueError, match="neither polygons nor run lengths of 5 x 7"):
        mask_of({"size": [500000, 7], "counts": [1]}, 5, 7)
    with pytest.raises(ValueError, match="no three corners within reach"):
        mask_of([[1, 1, 2, 2]], 5, 7)
    with pytest.raises(ValueError, match="no three corners within reach"):
        mask_of([[1, 1, 2, 2, 1e300, 5]], 5, 7)


def test_a_batch_follows_from_seed_epoch_and_position_alone(folder):
    alone = list(batches(folder).epoch(1))
    assert_same(alone, list(batches(folder).epoch(1)))
    assert_same(alone, list(batches(pack(folder), workers=2).epoch(1)))
    assert_same(alone[1:], list(batches(folder).epoch(1, start_step=1)))
    shares = [list(batches(folder, rank=rank, processes=2).epoch(1)) for rank in (0, 1)]
    assert [batch.names for batch in alone] == [a.names + b.names for a, b in zip(*shares, strict=True)]
    assert not torch.equal(alone[0].images[0], next(batches(folder, seed=1).epoch(1)).images[0])
    state = torch.get_rng_state()
    next(batches(folder).epoch(0))
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_cut_and_mirrored_stays_on_its_object(folder):
    for batch in batches(folder, augment=Augment(scale=(0.4, 1.0), flip=0.5), batch_size=6).epoch(0):
        for image, target in zip(batch.images, batch.targets, strict=True):
            assert set(target) == {"boxes", "labels", "masks"}
            height, width = image.shape[1:]
            for (x1, y1, x2, y2), label, mask in zip(*(target[k] for k in ("boxes", "labels", "masks")), strict=True):
                assert 0 <= x1 < x2 <= width
                assert 0 <= y1 < y2 <= height
                assert mask.shape == (height, width)
                inside = image[label - 1][mask.bool()]
                assert inside.mean() > 0.8  # of its colour


def test_what_is_wrong_is_left_out_and_counted(folder):
    content = read(folder, "train")
    box = content["annotations"][0]
    content["annotations"] += [
        {**box, "image_id": 999},
        {**box, "category_id": 999},
        {**box, "bbox": [5, 5, 0, 4]},
        {**box, "bbox": [5, 5, -3, 4]},
        {**box, "bbox": [500, 5, 9, 9]},
        {**box, "bbox": "no"},
        {**box, "bbox": [-5, -5, 20, 200]},
        {**box, "iscrowd": 1},
    ]
    content["images"] += [{"id": 99, "file_name": "gone.png", "width": 4, "height": 4}, {"id": 98}]
    content["images"] += [{"id": 97, "file_name": "../../squares.zip", "width": 4, "height": 4}]
    write(folder, "train", content)
    pack(folder)
    train = scenes(folder)
    assert train.left_out == {
        "an annotation of an image that the file does not list": 1,
        "an annotation of a category that the file does not list": 1,
        "a box without area, or outside of its image": 4,
        "an image whose file is missing": 2,
        "an image without a file name, a width and a height": 1,
    }
    assert "left out: 4 x a box without area, or outside of its image; 1 x an annotation" in train.first_line()
    things = train.scenes[1].things
    assert [thing.box for thing in things[1:]] == [(0, 0, 15, SIDE), things[0].box]
    assert things[-1].crowd
    _, target = train.row(1).read()
    assert len(target["boxes"]) == 2  # a crowd is not learned


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "is no COCO file: it holds JSON, but no object"),
        ({"images": []}, "is no COCO file: it lacks 'annotations'"),
        ({"images": {}, "annotations": [], "categories": []}, "is no COCO file: images is no list of objects"),
        ({"images": [], "annotations": [], "categories": [{"id": "a", "name": "b"}]}, "id is 'a', and no whole number"),
        ({"images": [], "annotations": [], "categories": []}, "names no category"),
        ({"images": [], "annotations": [], "categories": [{"id": 1, "name": "b"}]}, "no image that is there: its list"),
        (
            {"images": [], "annotations": [], "categories": [{"id": 1, "name": "b"}, {"id": 1, "name": "c"}]},
            "two categories have the id 1",
        ),
    ],
)
def test_what_is_no_coco_file_is_told(folder, content, said):
    write(folder, "train", content)
    with pytest.raises(ValueError, match=said):
        scenes(folder)


def test_other_faults_of_a_file_are_told(folder):
    content = read(folder, "train")
    twice = json.loads(json.dumps(content))
    twice["images"][1]["file_name"] = "0.png"
    write(folder, "train", twice)
    with pytest.raises(ValueError, match=r"two images are called '0.png', ids 10 and 11"):
        scenes(folder)
    same = json.loads(json.dumps(content))
    same["images"][1]["id"] = 10
    write(folder, "train", same)
    with pytest.raises(ValueError, match="two images have the same id"):
        scenes(folder)
    (folder / "train.json").write_text(json.dumps(content)[:500])
    with pytest.raises(ValueError, match="is no COCO file: it is not whole JSON"):
        scenes(folder)
    (folder / "train.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no annotations of the split 'train'.*annotations/instances_train"):
        scenes(folder)
    bare = json.loads(json.dumps(content))
    del bare["annotations"][0]["segmentation"]
    write(folder, "train", bare)
    with pytest.raises(ValueError, match=r"1 objects of .* have no segmentation, and kind 'mask_rcnn' learns masks"):
        scenes(folder, masks=True)
    assert len(scenes(folder)) == 6
    with pytest.raises(ValueError, match=r"has the class 'red', and the network knows 'blue', 'green'"):
        BoxScenes(data(folder), "train", masks=False, classes=("blue", "green"))


def test_an_image_of_another_size_and_a_damaged_one_are_skipped_and_named(folder):
    Image.new("RGB", (SIDE, 10)).save(folder / "train" / "1.png")
    (folder / "train" / "2.png").write_bytes(b"no image")
    for batch in ValidationScenes(data(folder), scenes(folder), 6):
        assert len(batch.images) == 4
        assert [name.split(" (")[0] for name in batch.skipped] == ["squares/train/1.png", "squares/train/2.png"]
        assert "it has 64 x 10 pixels as a viewer shows it, and its annotations are for 64 x 64" in batch.skipped[0]
    stop = data(folder, corrupt="stop")
    with pytest.raises(ValueError, match=r"cannot read the image squares/train/1.png.*data.corrupt=skip"):
        list(ValidationScenes(stop, BoxScenes(stop, "train", masks=False), 6))


def test_too_large_a_batch_is_told(folder):
    with pytest.raises(ValueError, match="batch_size=7 but only 6 images"):
        batches(folder, batch_size=7)
