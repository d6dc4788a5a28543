"""Probes of frozen features: what they score, by what they choose, and what is kept on disk."""

import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks_for_tests import trained
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

import plainvision as pv
from plainvision.data.batches import EvaluationBatches
from plainvision.tasks import features as kept
from plainvision.tasks import probing
from plainvision.tasks.features import frozen_features
from plainvision.tasks.probed import probed_network
from plainvision.training import Data, Recipe
from plainvision.training.weights_file import Origin, load_network, save_network

CLASSES = ("blue", "green", "red")
OPTIONS = {"width": 1 / 4, "depths": (1, 1, 1)}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """``SPLIT/CLASS/N.png``: pictures of one colour each, less noise in training than elsewhere; N is no class."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("colours") / "colours.zip"
    with zipfile.ZipFile(path, "w") as whole:
        for split, each in (("train", 12), ("validation", 6), ("test", 8)):
            for channel, name in ((2, "blue"), (1, "green"), (0, "red")):
                for number in range(each):
                    pixels = random.integers(0, 160, (12, 12, 3), dtype=np.uint8)
                    pixels[..., channel] += random.integers(0, 90, dtype=np.uint8)
                    with whole.open(f"{split}/{name}/{number}.png", "w") as file:
                        Image.fromarray(pixels).save(file, "png")
    return path


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return trained(pv.create_model("resnet20_cifar", **OPTIONS))


def data(archive, **options):
    return Data(**{"root": str(archive), "image_size": 16, "crop_ratio": 1.0, "workers": 0, **options})


@pytest.fixture(scope="module")
def found(network, archive):
    return pv.tasks.probe(network, data(archive))


def test_settings_are_chosen_on_the_validation_split_and_the_test_split_is_scored(found, network, archive):
    assert (found.split, found.images, found.training_images, found.features) == ("test", 24, 36, 16)
    assert found.chosen_on == "top-1 on the split validation"
    low, high = found.linear.interval
    assert low < found.linear.top1 < high
    assert found.linear.top1 > 60  # of three classes
    test = frozen_features(network, data(archive, validation_split="test"), classes=CLASSES)
    right = (found.head.logits(test.values).argmax(1) == test.labels).mean()
    assert found.linear.top1 == pytest.approx(100 * right)


def test_without_a_test_split_cross_validation_chooses(network, archive, tmp_path):
    small = tmp_path / "small.zip"
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(small, "w") as part:
        for name in whole.namelist():
            if not name.startswith("test/"):
                part.writestr(name, whole.read(name))
    found = pv.tasks.probe(network, data(small))
    assert (found.split, found.images) == ("validation", 18)
    assert found.chosen_on == "5-fold cross-validation on the split train"
    named = pv.tasks.probe(network, data(archive, validation_split="test"))
    assert (named.split, named.chosen_on) == ("test", found.chosen_on)


def test_a_test_split_that_stands_for_the_validation_split_chooses_nothing(network, archive, tmp_path):
    with zipfile.ZipFile(archive) as whole:
        for name in whole.namelist():
            if not name.startswith("validation/"):
                whole.extract(name, tmp_path / "colours")
    found = pv.tasks.probe(network, data(tmp_path / "colours"))
    assert (found.split, found.images) == ("test", 24)
    assert found.chosen_on.startswith("5-fold cross-validation")


def test_a_drawn_split_is_not_taken_for_one_called_test(network, archive, tmp_path):
    with zipfile.ZipFile(archive) as whole:
        for name in whole.namelist():
            if name.startswith("train/"):
                whole.extract(name, tmp_path)
    found = pv.tasks.probe(network, data(tmp_path / "train", validation_share=0.25))
    assert (found.training_images, found.images) == (27, 9)
    assert found.chosen_on.startswith("5-fold cross-validation")


def test_the_embedded_digits_are_trained_on_their_training_part():
    network = pv.create_model("resnet20_cifar", in_chans=1, **OPTIONS)
    grey = Data(root="digits", channels=1, mean=(0.3,), std=(0.37,), image_size=16, crop_ratio=1.0, workers=0)
    found = pv.tasks.probe(network, replace(grey, train_per_class=20, validation_per_class=5))
    assert (found.training_images, found.images) == (200, 50)
    train = EvaluationBatches(replace(grey, validation_split="train"), batch_size=1)
    validation = EvaluationBatches(grey, batch_size=1)
    assert (train.images, validation.images) == (1437, 360)


def test_neighbours_vote_by_their_cosine():
    values = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 1], [0, 2]], dtype=np.float32)
    labels = np.array([0, 0, 1, 1, 1])
    asked = np.array([[2, 0.1], [0.2, 1]], dtype=np.float32)
    hits = probing._neighbour_hits((values, labels), (asked, np.array([0, 1])))
    assert hits == {1: 2, 3: 2, 5: 2}  # of all five, the near ones outvote the many
    assert probing._neighbour_hits((values, labels), (asked, np.array([1, 0]))) == {1: 0, 3: 0, 5: 0}


def test_two_classes_have_a_logit_each_whose_difference_is_the_classifiers():
    random = np.random.default_rng(0)
    values = random.normal(size=(40, 3)).astype(np.float32)
    labels = (values[:, 0] > 0).astype(np.int64)
    head = probing._fitted((values, labels), 1.0, 2)
    assert head.weight.shape == (2, 3)
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(values)
    expected = LogisticRegression(C=1.0, max_iter=500).fit(scaled, labels).predict_proba(scaled)
    shares = torch.from_numpy(head.logits(values)).softmax(1)
    assert_close(shares, torch.from_numpy(expected).float(), rtol=1e-3, atol=1e-4)


def test_a_second_call_reads_the_features_and_a_damaged_file_is_made_anew(network, archive, tmp_path, monkeypatch):
    def call(**options):
        return frozen_features(network, data(archive, **options), classes=CLASSES, cache=tmp_path)

    first, second = call(), call()
    assert (first.cached, second.cached) == (False, True)
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert not call(image_size=24).cached
    assert not call(mean=(0.5, 0.5, 0.5)).cached
    (file,) = [one for one in tmp_path.iterdir() if load_file(one)["features"].equal(torch.from_numpy(first.values))]
    whole = file.read_bytes()
    for damaged in (whole[:-10], whole[:-4] + b"\0\0\0\1", b"", b"PK"):
        file.write_bytes(damaged)
        again = call()
        assert not again.cached
        np.testing.assert_array_equal(again.values, first.values)
        assert file.read_bytes() == whole
    save_file({"features": torch.zeros(2, 2), "labels": torch.zeros(3)}, file, {"skipped": "[]"})
    assert not call().cached
    os.utime(archive)  # other images may have been packed since
    assert not call().cached


def test_features_of_other_weights_are_not_taken(archive, tmp_path):
    torch.manual_seed(0)
    first, second = (trained(pv.create_model("resnet20_cifar", **OPTIONS), seed) for seed in (0, 1))
    for model in (first, second):
        assert not frozen_features(model, data(archive), classes=CLASSES, cache=tmp_path).cached
    assert len(list(tmp_path.iterdir())) == 2


def test_the_folder_of_features_is_bounded(network, archive, tmp_path, monkeypatch):
    size = 18 * 16 * 4
    monkeypatch.setattr(kept, "_LARGEST_FOLDER", 3 * size)
    for side in (16, 24, 32, 40):
        frozen_features(network, data(archive, image_size=side), classes=CLASSES, cache=tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 3 * size
    assert frozen_features(network, data(archive, image_size=40), classes=CLASSES, cache=tmp_path).cached
    monkeypatch.setattr(kept, "_LARGEST_FOLDER", size - 1)
    frozen_features(network, data(archive, image_size=48), classes=CLASSES, cache=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_saved_network_answers_as_the_probe_does(found, network, archive, tmp_path):
    origin = Origin(Recipe("a run", "resnet20_cifar", OPTIONS, data=data(archive)), CLASSES, 0)
    whole, described = probed_network(network, origin, data(archive), found)
    file = tmp_path / "probed.safetensors"
    save_network(file, whole.state_dict(), described)
    loaded, again = load_network(file)
    assert again.classes == CLASSES
    scored = pv.training.evaluate(loaded, data(archive, validation_split="test"), classes=CLASSES)
    assert scored.top1 == pytest.approx(found.linear.top1)
    test = frozen_features(network, data(archive, validation_split="test"), classes=CLASSES)
    (batch,) = EvaluationBatches(data(archive, validation_split="test"), batch_size=64, classes=CLASSES)
    with torch.inference_mode():
        assert_close(loaded(batch.images), torch.from_numpy(found.head.logits(test.values)), rtol=1e-3, atol=1e-3)


def test_a_network_whose_classifier_is_more_than_one_layer_says_so(archive):
    model = pv.create_model("vanillanet_5", width=1 / 64)
    found = pv.tasks.probe(model, data(archive, image_size=32))
    origin = Origin(Recipe("a run", "vanillanet_5", {"width": 1 / 64}, data=data(archive)), CLASSES, 0)
    with pytest.raises(ValueError, match=r"is a LinearPair.*Probe its deployed form \(:deployed"):
        probed_network(model, origin, data(archive), found)
    pv.set_slope(model, 1)
    fused = pv.fuse(model, images=1)
    deployed = replace(origin, deployed=True)
    fused_probe = pv.tasks.probe(fused, data(archive, image_size=32))
    network, _ = probed_network(fused, deployed, data(archive, image_size=32), fused_probe)
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_a_network_without_a_head_to_leave_out_says_so(archive):
    with pytest.raises(ValueError, match=r"Sequential does not say what is in front of its classifier"):
        pv.tasks.probe(torch.nn.Sequential(torch.nn.Flatten()), data(archive))


def test_a_class_with_a_single_image_cannot_both_train_and_judge(network, archive):
    with pytest.raises(ValueError, match=r"a single training image.*test_split"):
        pv.tasks.probe(network, data(archive, validation_split="test", train_per_class=1))
    assert pv.tasks.probe(network, data(archive, train_per_class=1)).images == 24


def test_a_split_that_is_not_there_is_named(network, archive):
    with pytest.raises(ValueError, match="'final'"):
        pv.tasks.probe(network, data(archive), test_split="final")
