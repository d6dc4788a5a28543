"""A run without a named recipe: images and weights decide, and the reasons are told."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
from commands.running import plainvision, said
from PIL import Image
from safetensors.torch import save_file

from plainvision.models import pretrained
from plainvision.recipes import get_recipe
from plainvision.training import loop
from plainvision.training.run_folder import recipe_of
from plainvision.training.techniques import EMA, DeepTraining, FrozenBackbone, FrozenStatistics

SHORT = ("--data.workers", "0", "--machine.threads", "1")


def images(folder: Path, *, side: int, each: int = 12, splits: tuple[str, ...] = (), grey: bool = False) -> Path:
    """Write ``each`` images of two classes, in these splits or in none."""
    random = np.random.default_rng(0)
    for split in splits or ("",):
        for name in ("hat", "shoe"):
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(each):
                low, high = (0, 128) if name == "hat" else (128, 255)
                pixels = random.integers(low, high, (side, side + 4, 1 if grey else 3), dtype=np.uint8)
                Image.fromarray(np.repeat(pixels, 3, 2) if grey else pixels).save(place / f"{number}.png")
    return folder


@pytest.fixture
def asked(monkeypatch) -> list:
    """What reaches the training loop instead of being trained."""
    calls: list = []

    def train(recipe, *_, **__):
        calls.append(recipe)
        raise ValueError("not now")

    monkeypatch.setattr(loop, "train", train)
    return calls


def test_photographs_without_a_split_get_one_and_it_is_said(tmp_path, asked):
    root = images(tmp_path / "photos", side=100)
    ended = plainvision("train", "--data.root", root, "--out", tmp_path / "run")
    assert said(ended, "not now")
    (recipe,) = asked
    assert (recipe.model, recipe.data.image_size, recipe.data.validation_share) == ("resnet18", 96, 0.15)
    assert (recipe.name, recipe.start_from, recipe.epochs, recipe.batch_size) == ("chosen", None, 300, 8)
    text = " ".join(ended.out.split())
    for part in (
        "20 images of 2 classes, 10 of the rarest, in colour, 100 pixels at the shorter side",
        "15% of each class, drawn from the images, which are in no splits",
        "the settings of resnet18_clothing for resnet18",
        "300 epochs from new weights, 96 pixels, 8 images a step",
        "--augment.flip 0",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("splits", "split", "share", "told"),
    [
        (("train", "validation"), "validation", None, "the images of 'validation'"),
        (("train", "val", "test"), "validation", None, "the images of 'val'"),
        (("train",), "validation", 0.15, "drawn from the training images: there is no split 'validation'"),
    ],
)
def test_what_validates_is_found_or_drawn(tmp_path, asked, splits, split, share, told):
    root = images(tmp_path / "photos", side=40, each=4, splits=splits)
    ended = plainvision("train", "--data.root", root, "--out", tmp_path / "run")
    assert said(ended, "not now")
    assert (asked[0].data.validation_split, asked[0].data.validation_share) == (split, share)
    assert told in " ".join(ended.out.split())


def test_grey_images_have_one_channel_and_small_ones_a_small_network(tmp_path, asked):
    root = images(tmp_path / "marks", side=28, grey=True)
    ended = plainvision("train", "--data.root", root, "--out", tmp_path / "run")
    assert said(ended, "not now")
    data = asked[0].data
    assert (asked[0].model, data.image_size, data.channels) == ("resnet20_cifar", 32, 1)
    assert data.mean[0] == pytest.approx(0.5, abs=0.02)
    assert data.std[0] == pytest.approx(0.29, abs=0.02)
    assert f"one channel, of mean {data.mean[0]} and std {data.std[0]}" in " ".join(ended.out.split())


def test_a_network_that_is_named_gets_the_settings_and_its_own_techniques(tmp_path, asked):
    root = images(tmp_path / "photos", side=100)
    for model in ("vanillanet_5", "torchvision/mobilenet_v2", "vit_tiny_patch16_224"):
        assert said(plainvision("train", "--model", model, "--data.root", root, "--out", tmp_path / "run"), "not now")
    assert [one.model for one in asked] == ["vanillanet_5", "torchvision/mobilenet_v2", "vit_tiny_patch16_224"]
    assert [[type(one) for one in recipe.techniques] for recipe in asked] == [[DeepTraining, EMA], [EMA], [EMA]]


@pytest.fixture
def weights(tmp_path) -> Path:
    """Weights of a network with a mean and a std of its own, for other classes."""
    network = timm.create_model("test_resnet", num_classes=7)
    save_file(network.state_dict(), tmp_path / "test_resnet.safetensors")
    return tmp_path / "test_resnet.safetensors"


def test_trained_weights_are_fine_tuned_on_images_prepared_as_theirs(tmp_path, weights):
    root = images(tmp_path / "photos", side=100)
    out = tmp_path / "run"
    ended = plainvision(*("train", "--data.root", root, "--start-from", weights, "--epochs", "2", "--out", out, *SHORT))
    assert (ended.status, ended.err) == (0, "")
    recipe = recipe_of(out)
    own = timm.models.get_pretrained_cfg("test_resnet")
    assert (recipe.data.mean, recipe.data.std, recipe.data.interpolation) == (own.mean, own.std, own.interpolation)
    assert own.mean == (0.5, 0.5, 0.5)  # else the test would prove nothing
    assert (recipe.name, recipe.model, recipe.data.image_size) == ("finetune", "test_resnet", 160)
    assert recipe.techniques == (FrozenBackbone(epochs=1), FrozenStatistics())  # of two
    assert recipe.new_classifier
    text = " ".join(ended.out.split())
    assert "test_resnet with a new classifier" in text
    assert "which learns alone for 10 of 30 epochs; images as for these weights: 160 pixels" in text
    assert "mean 0.5, std 0.5" in text
    again = plainvision("train", "--data.root", root, "--start-from", weights, "--out", out, "--resume")
    assert (again.status, again.err) == (0, "")
    assert plainvision("evaluate", out, "--data.root", root).status == 0
    # From a run of ours, its header says which network it is and how its images are prepared.
    more = plainvision(
        "train", "finetune", "--data.root", root, "--start-from", out, "--out", tmp_path / "more", *SHORT
    )
    assert (more.status, more.err) == (0, "")
    assert recipe_of(tmp_path / "more").data.mean == own.mean


def test_weights_that_know_the_classes_keep_their_classifier(tmp_path, asked, weights):
    root = images(tmp_path / "photos", side=64)
    probe = tmp_path / "probe.safetensors"
    words = (
        "probe",
        "test_resnet:num_classes=7",
        "--checkpoint",
        weights,
        "--data.root",
        root,
        "--data.validation-share",
        "0.2",
    )
    assert plainvision(*words, "--data.workers", "0", "--no-cache", "--save", probe).status == 0
    ended = plainvision("train", "--data.root", root, "--start-from", probe, "--out", tmp_path / "run")
    assert said(ended, "not now")
    assert (asked[0].new_classifier, asked[0].techniques) == (False, (FrozenStatistics(),))
    assert "with its classifier, which names these very classes; all layers learn" in " ".join(ended.out.split())
    (root / "hat").rename(root / "cap")
    ended = plainvision("train", "--data.root", root, "--start-from", probe, "--out", tmp_path / "run")
    assert said(ended, "not now")
    assert asked[1].new_classifier
    assert asked[1].techniques[0] == FrozenBackbone(epochs=10)


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "vanillanet_5", "deit_tiny_distilled_patch16_224", "torchvision/squeezenet1_1"]
)
def test_a_new_classifier_begins_with_weak_opinions(tmp_path, name):
    import torch

    from plainvision.models.loading import classifier_layers
    from plainvision.models.registry import create_model
    from plainvision.training import Recipe
    from plainvision.training.starting import load_start

    options = {"width": 1 / 8} if name == "vanillanet_5" else {}
    torch.save(create_model(name, num_classes=7, **options).state_dict(), tmp_path / "weights.pth")
    torch.manual_seed(0)
    model, drawn = (create_model(name, num_classes=3, **options) for _ in range(2))
    drawn.load_state_dict(model.state_dict())
    recipe = Recipe("further", name, options, start_from=str(tmp_path / "weights.pth"), new_classifier=True)
    load_start(model, recipe)
    for layer, before in zip(classifier_layers(model), classifier_layers(drawn), strict=True):
        for found, own in zip(layer.parameters(), before.parameters(), strict=True):
            if found.ndim < 2 or own.std(correction=0) <= 0.02:
                assert torch.equal(found, own)
            else:
                torch.testing.assert_close(found, own * (0.02 / own.std(correction=0)))
    if name == "tf_efficientnet_lite0":
        assert drawn.classifier.weight.std() > 0.1  # else the test would prove nothing
        assert model.classifier.weight.std() < 0.021


def test_a_transformer_learns_from_weights_of_another_image_size(tmp_path):
    save_file(timm.create_model("test_vit", num_classes=7).state_dict(), tmp_path / "test_vit.safetensors")
    root, out = images(tmp_path / "photos", side=64, each=8), tmp_path / "run"
    words = ("--start-from", tmp_path / "test_vit.safetensors", "--data.image-size", "64", "--epochs", "1", *SHORT)
    ended = plainvision("train", "--data.root", root, *words, "--out", out)
    assert (ended.status, ended.err) == (0, "")
    assert plainvision("evaluate", out, "--data.root", root).status == 0
    from plainvision.training.weights_file import load_network

    assert load_network(out)[0].pos_embed.shape[1] == 1 + 4 * 4


def test_a_named_recipe_takes_mean_and_std_of_the_weights_and_says_so(tmp_path, asked, weights):
    words = ("train", "resnet18_clothing", "--start-from", weights, "--model", "test_resnet", "--out", "runs/a")
    ended = plainvision(*words)
    assert said(ended, "not now")
    assert (asked[0].data.mean, asked[0].data.image_size) == (
        (0.5,) * 3,
        get_recipe("resnet18_clothing").data.image_size,
    )
    assert "mean (0.5, 0.5, 0.5)" in ended.out
    assert said(plainvision(*words, "--data.mean", "0.1", "0.2", "0.3"), "not now")
    assert asked[1].data.mean == (0.1, 0.2, 0.3)


def test_other_classes_without_a_new_classifier_are_told_the_flag(tmp_path, weights):
    root = images(tmp_path / "photos", side=40, splits=("train", "validation"))
    words = ("train", "resnet18_clothing", "--data.root", root, "--model", "test_resnet", "--batch-size", "8")
    ended = plainvision(*words, "--start-from", weights, "--out", tmp_path / "run", *SHORT)
    assert said(ended, "wrong shape: fc.weight is (7, ", "(--new-classifier)")


def test_published_weights_that_cannot_be_had_are_told_what_to_do(tmp_path, monkeypatch):
    root = images(tmp_path / "photos", side=40)

    def nobody(*_, **__):
        raise FileNotFoundError("An error happened while trying to locate the file. Please check")

    monkeypatch.setattr(pretrained, "create_model", nobody)
    words = ("train", "--model", "test_resnet", "--data.root", root, "--out", tmp_path / "run", *SHORT)
    ended = plainvision(*words, "--pretrained")
    assert said(ended, "cannot get the published weights of test_resnet", "with --start-from FILE")
    assert said(plainvision(*words, "--pretrained", "--start-from", "a.pth"), "two answers to one question")


def test_published_weights_keep_everything_but_the_classifier(tmp_path, monkeypatch):
    published = timm.create_model("test_resnet", num_classes=1000)
    monkeypatch.setattr(pretrained, "create_model", lambda *_, **__: published)
    root = images(tmp_path / "photos", side=40)
    words = ("train", "--model", "test_resnet", "--pretrained", "--data.root", root, "--epochs", "1")
    out = tmp_path / "run"
    assert plainvision(*words, "--lr", "1e-12", "--min-lr", "0", "--out", out, *SHORT).status == 0
    from plainvision.training.weights_file import load_network

    own = load_network(out, "last")[0].state_dict()
    stem = published.state_dict()["conv1.0.weight"]
    assert np.allclose(own["conv1.0.weight"].numpy(), stem.numpy(), atol=1e-6)
    assert own["fc.weight"].shape[0] == 2
    assert json.loads((out / "recipe.json").read_text())["start_from"] == "pretrained"


def test_torchvision_networks_train_fine_tune_and_load(tmp_path):
    import torch
    import torchvision

    name = "torchvision/mobilenet_v3_small"
    network = torchvision.models.mobilenet_v3_small(num_classes=5)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    root = images(tmp_path / "photos", side=64, each=9)
    words = ("train", "--data.root", root, "--model", name, "--epochs", "1", *SHORT)
    ended = plainvision(*words, "--start-from", tmp_path / "weights.pth", "--out", tmp_path / "run")
    assert (ended.status, ended.err) == (0, "")
    assert recipe_of(tmp_path / "run").model == name
    assert plainvision("evaluate", tmp_path / "run", "--data.root", root).status == 0
    ended = plainvision("train", "--data.root", root, "--model", "torchvision/mobilenet_v4", "--out", "runs/a", *SHORT)
    assert said(ended, "torchvision has no classifier 'mobilenet_v4'. Did you mean torchvision/mobilenet_v")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--start-from", "some.pth"], ["no checkpoint at some.pth"]),
        (["--pretrained"], ["--pretrained: of which network?", "--model"]),
        (["--model", "resnet81"], ["unknown model 'resnet81'. Did you mean"]),
    ],
)
def test_what_is_missing_is_named(tmp_path, words, parts):
    root = images(tmp_path / "photos", side=40, each=8)
    assert said(plainvision("train", "--data.root", root, "--out", tmp_path / "run", *words, *SHORT), *parts)
    assert not (tmp_path / "run").exists()


def test_weights_of_an_unknown_network_ask_for_its_name(tmp_path, weights):
    root = images(tmp_path / "photos", side=40)
    weights.rename(tmp_path / "mine.safetensors")
    words = ("train", "--data.root", root, "--start-from", tmp_path / "mine.safetensors", "--out", tmp_path / "run")
    assert said(plainvision(*words), "does not say which network its weights are of. Name it with --model")


def test_a_stream_asks_for_a_recipe(tmp_path):
    ended = plainvision("train", "--data.root", "wds/none", "--out", tmp_path / "run")
    assert said(ended, "'wds/none' is a stream", "plainvision train RECIPE")


def test_images_that_nothing_can_read_are_told(tmp_path):
    root = images(tmp_path / "photos", side=40, each=3)
    for file in root.rglob("*.png"):
        file.write_bytes(b"no image")
    ended = plainvision("train", "--data.root", root, "--out", tmp_path / "run")
    assert said(ended, "none of the 4 images of", "`plainvision data` says why")
