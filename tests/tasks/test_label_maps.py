from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tasks.scenes_for_tests import SIDE, label_folder, pack
from torch import nn
from torch.testing import assert_close

from plainvision.data.settings import Augment, Data
from plainvision.tasks.batches import TrainingScenes, ValidationScenes
from plainvision.tasks.label_maps import IGNORED, LabelScenes
from plainvision.tasks.overlap import class_map, confusion, evaluate_segmenter, overlap_scores
from plainvision.tasks.transforms import TrainingTransform
from plainvision.training import Recipe


@pytest.fixture
def folder(tmp_path):
    return label_folder(tmp_path / "squares")


def data(root, **changes) -> Data:
    return replace(Data(root=str(root), workers=0, image_size=32, train_split="training"), **changes)


def scenes(root, role="train", *, zero_ignored=True, num_classes=None, **changes) -> LabelScenes:
    return LabelScenes(data(root, **changes), role, zero_ignored=zero_ignored, num_classes=num_classes)


def test_zero_is_ignored_where_it_says_so(folder):
    for root in (folder, pack(folder)):
        train = scenes(root)
        assert train.classes == ("ground", "square")
        assert train.first_line() == "training: 4 images"
        picture, target = train.row(0).read()
        assert picture.size == (SIDE + 16, SIDE)
        assert target["labels"].unique().tolist() == [0, 1, IGNORED]
        assert (target["labels"][:2] == IGNORED).all()
    (folder / "classes.txt").unlink()
    plain = scenes(folder, zero_ignored=False, num_classes=3)
    assert plain.classes == ("0", "1", "2")
    assert plain.row(0).read()[1]["labels"].unique().tolist() == [0, 1, 2]


def test_folders_may_be_the_other_way_round(folder, tmp_path):
    for split in ("training", "validation"):
        (tmp_path / "other" / split).mkdir(parents=True)
        (folder / "images" / split).rename(tmp_path / "other" / split / "images")
        (folder / "annotations" / split).rename(tmp_path / "other" / split / "masks")
    assert len(scenes(tmp_path / "other", num_classes=2)) == 4


def test_training_squares_keep_labels_on_their_pixels(folder):
    augment = Augment(scale=(0.5, 1.0), flip=0.5)
    recipe = Recipe("r", "vanillanet_5", data=data(folder), augment=augment, batch_size=4)
    training = TrainingScenes(recipe, scenes(folder), TrainingTransform(augment, 32))
    (batch,), (again,) = list(training.epoch(2)), list(training.epoch(2))
    images, labels = torch.stack(batch.images), torch.stack([target["labels"] for target in batch.targets])
    assert images.shape == (4, 3, 32, 32)
    assert labels.shape == (4, 32, 32)
    assert images.mean(1)[labels == 1].mean() > 0.8
    assert images.mean(1)[labels == 0].mean() < 0.3
    assert torch.equal(images, torch.stack(again.images))


def test_what_cannot_be_paired_or_read_is_told_or_counted(folder):
    (folder / "annotations" / "training" / "3.png").rename(folder / "annotations" / "training" / "9.png")
    train = scenes(folder)
    assert train.left_out == {"an image without labels": 1, "labels without an image": 1}
    labels = folder / "annotations" / "training"
    Image.fromarray(np.full((SIDE, SIDE + 16), 3, dtype=np.uint8)).save(labels / "0.png")
    Image.fromarray(np.ones((8, 8), dtype=np.uint8)).save(labels / "1.png")
    Image.new("RGB", (SIDE + 16, SIDE)).save(labels / "2.png")
    (batch,) = ValidationScenes(data(folder), train, 4)
    assert batch.images == ()
    said = " ".join(batch.skipped)
    assert "0.jpg (its label map has the value 3, and there are 2 classes)" in said
    assert "1.jpg (its label map has 8 x 8 pixels, and it 80 x 64)" in said
    assert "2.jpg (its label map is a picture in colours; it must have one number a pixel)" in said
    with pytest.raises(ValueError, match=r"cannot read the image .*0.jpg: its label map has the value 3"):
        list(ValidationScenes(data(folder, corrupt="stop"), train, 4))
    Image.new("RGB", (4, 4)).save(folder / "images" / "training" / "0.png")
    with pytest.raises(ValueError, match=r"two images of .* are called '0'"):
        scenes(folder)


def test_missing_folders_and_classes_are_told(folder):
    with pytest.raises(FileNotFoundError, match=r"no images of the split 'test'.*images/test beside annotations/test"):
        scenes(folder, train_split="test")
    with pytest.raises(ValueError, match=r"num_classes=5, and classes.txt of .* names 2"):
        scenes(folder, num_classes=5)
    (folder / "classes.txt").unlink()
    with pytest.raises(ValueError, match=r"nobody says which classes .* has. Give their number with --num-classes"):
        scenes(folder)
    for path in (folder / "annotations" / "training").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    with pytest.raises(
        ValueError, match=r"no image of .* has labels: annotations/training needs a PNG called like each"
    ):
        scenes(folder, num_classes=2)


def test_mean_overlap_is_that_worked_out_by_hand():
    labels = torch.tensor([[0, 0, 1], [1, 2, IGNORED]])
    predicted = torch.tensor([[0, 1, 1], [1, 0, 2]])
    matrix = confusion(predicted, labels, 4)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    scores = overlap_scores(matrix, ("a", "b", "c", "d"), 1)
    # a: 1 of 3, b: 2 of 3, c: 0 of 1; d is nowhere.
    assert scores.per_class == {"a": pytest.approx(100 / 3), "b": pytest.approx(200 / 3), "c": 0}
    assert scores.score == pytest.approx(100 / 3)
    assert scores.pixel_accuracy == pytest.approx(60)
    with pytest.raises(ValueError, match="no pixel to evaluate"):
        overlap_scores(torch.zeros(2, 2, dtype=torch.int64), ("a", "b"), 0)


class Bright(nn.Module):
    """Calls what is bright a square."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        light = images.mean(1) - 0.5
        return 20 * self.weight * torch.stack([-light, light], 1)


@pytest.mark.parametrize(("scales", "flip"), [((1.0,), False), ((0.5, 1.0, 1.5), True)])
def test_a_network_that_knows_the_answers_scores_nearly_full(folder, scales, flip):
    batches = ValidationScenes(data(folder), scenes(folder, "validation"), 1)
    scores = evaluate_segmenter(
        Bright(), batches, batches.classes, size=64, device=torch.device("cpu"), scales=scales, flip=flip
    )
    assert scores.images == 2
    assert scores.miou > 90
    assert scores.figures["miou"] == scores.score


def test_a_map_has_the_size_of_its_image():
    image = torch.rand(3, 50, 70)
    found = class_map(Bright(), image, size=64)
    assert found.shape == (50, 70)
    assert_close(class_map(Bright(), image.flip(2), size=64).flip(1), found)
