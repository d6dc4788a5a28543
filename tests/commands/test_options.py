"""A network in words, and the data's options: one grammar in every command, in which None can be said too."""

from pathlib import Path

import numpy as np
import pytest
import torch
from commands.running import plainvision, said
from PIL import Image
from safetensors.torch import save_file

import plainvision as pv
from plainvision.commands.options.data import changed_data
from plainvision.commands.options.network import network_first
from plainvision.training.network_words import network_words
from plainvision.training.recipe import Data, Recipe
from plainvision.training.weights_file import Origin, build_network, save_network

CLASSES = ("hat", "shoe")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Images of two classes, a run that scored one image of each, and weights of a network of two classes."""
    folder = tmp_path_factory.mktemp("options")
    random = np.random.default_rng(0)
    for split in ("train", "validation"):
        for name in CLASSES:
            (folder / "images" / split / name).mkdir(parents=True)
            for number in range(3):
                pixels = random.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "images" / split / name / f"{number}.png")
    data = Data(root=str(folder / "images"), validation_per_class=1, image_size=16, workers=0)
    recipe = Recipe(name="few", model="resnet20_cifar", model_options={"width": 0.25}, data=data)
    (folder / "run").mkdir()
    network = build_network(recipe, 2, 0)
    save_network(folder / "run" / "best.safetensors", network.state_dict(), Origin(recipe, CLASSES, 0))
    save_file(network.state_dict(), folder / "w.safetensors")
    return folder


@pytest.mark.parametrize(
    ("text", "name", "options", "deployed"),
    [
        ("resnet18", "resnet18", {}, False),
        ("vanillanet_5:deployed", "vanillanet_5", {}, True),
        ("vanillanet_5:num_classes=10,width=0.25", "vanillanet_5", {"num_classes": 10, "width": 0.25}, False),
        ("a:depths=(1, 2),act=gelu,deployed", "a", {"depths": (1, 2), "act": "gelu"}, True),
        ("a:depths=1,2,bias=false,x=None", "a", {"depths": (1, 2), "bias": False, "x": None}, False),
        ("hf-hub:timm/resnet18.a1_in1k:num_classes=3", "hf-hub:timm/resnet18.a1_in1k", {"num_classes": 3}, False),
        ("torchvision/resnet18:num_classes=3", "torchvision/resnet18", {"num_classes": 3}, False),
        ("runs/a:deployed", "runs/a", {}, True),
    ],
)
def test_words_of_a_network_are_a_name_options_and_a_form(text, name, options, deployed):
    words = network_words(text)
    assert (words.name, words.options, words.deployed, words.plain) == (name, options, deployed, False)


def test_a_network_without_its_shortcuts_is_meant_by_a_word():
    for text in ("resnet18:plain,deployed", "resnet18:num_classes=3,plain", "resnet18:depths=1,2,plain"):
        words = network_words(text)
        assert (words.name, words.plain, words.deployed) == ("resnet18", True, "deployed" in text)
    plain = network_words("resnet20_cifar:plain,width=0.25").load(random=True).model
    assert len(plain.report.removed) == 9
    with pytest.raises(ValueError, match=r"resnet18:plain computes something else .* `plainvision train --model"):
        network_words("resnet18:plain").load("resnet18.pth")


@pytest.mark.parametrize("text", ["resnet18:3", "a:b=1,b=2", "a:=1", "runs/a:num_classes=3", "runs/a:plain"])
def test_words_that_are_no_options_are_explained(text):
    with pytest.raises(ValueError, match=r"is no option\. Write NAME:option=value|has its form from training"):
        network_words(text)


def test_what_is_given_changes_and_none_is_a_value(place):
    data = Data(validation_per_class=3, validation_root="x")
    assert changed_data(data, {}, {}) == data
    changed = changed_data(data, {"validation_per_class": None}, {"image_size": 32})
    assert (changed.validation_per_class, changed.image_size, changed.validation_root) == (None, 32, "x")


def test_evaluate_scores_all_images_where_training_scored_few(place):
    words = ("evaluate", place / "run", "--data.root", place / "images")
    assert "2 images of" in plainvision(*words).out
    assert "6 images of" in plainvision(*words, "--data.validation-per-class", "None").out
    assert "4 images of" in plainvision(*words, "--data.validation-per-class", 2).out
    assert "2 images of" in plainvision(*words, "--data.mean", 0, 0, 0, "--data.interpolation", "bilinear").out


def test_a_checkpoint_of_other_classes_fits_by_an_option_of_its_name(place, tmp_path):
    data = ("--data.root", place / "images", "--data.image-size", 16, "--data.workers", 0)
    named = ("--checkpoint", place / "w.safetensors")
    for verb in (("evaluate",), ("dynamic", "evaluate", "--stride", "B=1,2", "--no-controls", "--out", tmp_path / "a")):
        good = plainvision(*verb, "--model", "resnet20_cifar:num_classes=2,width=0.25", *named, *data)
        assert (good.status, good.err) == (0, "")
        bad = plainvision(*verb, "--model", "resnet20_cifar", *named, *data)
        assert said(bad, "options of a network follow its name, such as resnet20_cifar:num_classes=10")
    image = place / "images" / "train" / "hat" / "0.png"
    words = ("explain", image, "--method", "gradcam", "--out", tmp_path / "maps.png", "--data.image-size", 16)
    good = plainvision(*words, "--model", "resnet20_cifar:num_classes=2,width=0.25", *named)
    assert (good.status, good.err) == (0, "")
    assert "class 0" in good.out
    good = plainvision("bench", "resnet20_cifar:width=0.25,in_chans=1", "--image-size", 16, "--runs", 1)
    assert (good.status, good.err) == (0, "")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("resnet18:nothing=3", "has no option 'nothing'"),
        ("resnet18:num_classes=x", "cannot build resnet18 with num_classes=x"),
        ("resnt18:num_classes=2", "unknown model 'resnt18'"),
    ],
)
def test_options_that_a_network_has_not_are_explained(place, model, message):
    words = ("--checkpoint", place / "w.safetensors", "--data.root", place / "images")
    assert said(plainvision("evaluate", "--model", model, *words), message)


def test_the_deployed_form_of_a_run_is_meant_by_a_word(place):
    words = ("--data.root", place / "images", "--data.validation-per-class", "None")
    whole, fused = (plainvision("evaluate", f"{place / 'run'}{form}", *words) for form in ("", ":deployed"))
    assert (fused.status, fused.err) == (0, "")
    assert fused.out.splitlines()[2:4] == whole.out.splitlines()[2:4]
    network = network_words(f"{place / 'run'}:deployed").load().model
    assert not [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]


def test_published_weights_are_asked_for_by_one_word_everywhere(place, tmp_path):
    image = place / "images" / "train" / "hat" / "0.png"
    end = ("--pretrained", "--data.root", place / "images", "--out", tmp_path / "a")
    for words in (
        ("evaluate", "resnet20_cifar", *end[:3]),
        ("fuse", "resnet20_cifar", end[0], *end[3:]),
        ("bench", "resnet20_cifar", end[0]),
        ("explain", image, "--model", "resnet20_cifar", end[0], "--out", tmp_path / "a.png"),
        ("dynamic", "evaluate", "resnet20_cifar", *end),
        ("dynamic", "finetune", "resnet20_cifar", *end),
    ):
        assert said(plainvision(*words), "cannot load published weights of resnet20_cifar", "with --checkpoint")


def test_weights_are_given_to_names_alone(place):
    words = ("bench", place / "run", "resnet20_cifar:num_classes=2,width=0.25", "--image-size", 16, "--runs", 1)
    weights = ("--checkpoint", place / "w.safetensors")
    assert plainvision(*words, *weights).status == 0
    assert said(plainvision(*words, *weights, place / "w.safetensors"), "--checkpoint gives 2 files for 1 networks")
    assert said(plainvision("bench", place / "run", "--pretrained"), "--pretrained for 0 networks by name")


def test_older_words_are_understood(place, tmp_path):
    assert network_first(["--stride", "A=1", "--model", "x", "--fuse"]) == ["x", "--stride", "A=1", "--fuse"]
    assert network_first(["x", "--fuse"]) == ["x", "--fuse"]
    words = ("bench", "resnet20_cifar:width=0.25", "--runs", 1, "--sizes", 16, 32)
    assert plainvision(*words, "--plot", tmp_path / "a.png").status == 0
    assert (tmp_path / "a.png").stat().st_size > 0


# What is written


@pytest.mark.parametrize(("option", "name"), [("--csv", "a.csv"), ("--json", "a.json"), ("--figure", "a.png")])
def test_what_a_link_leads_to_is_written_and_the_link_stays(place, tmp_path, option, name):
    (tmp_path / "kept").mkdir()
    (tmp_path / name).symlink_to(tmp_path / "kept" / name)
    bench = ("bench", "resnet20_cifar:width=0.25", "--runs", 1, "--sizes", 16, 32)
    words = ("evaluate", place / "run", "--data.root", place / "images") if option == "--csv" else bench
    ended = plainvision(*words, option, tmp_path / name)
    assert (ended.status, ended.err) == (0, "")
    assert (tmp_path / name).is_symlink()
    assert (tmp_path / "kept" / name).stat().st_size > 0


def test_a_device_stays_a_device(place):
    words = ("evaluate", place / "run", "--data.root", place / "images", "--csv")
    assert plainvision(*words, "/dev/null").status == 0
    assert Path("/dev/null").is_char_device()
    assert said(plainvision(*words, "/dev/full"), "cannot write /dev/full", "No space left")
    assert said(plainvision("fuse", place / "run", "--out", "/dev/full"), "cannot write /dev/full", "No space left")
    assert Path("/dev/full").is_char_device()


def test_a_place_that_cannot_be_written_is_found_out_before_the_work(place, tmp_path, monkeypatch):
    monkeypatch.setattr(pv.training, "evaluate", None)  # would fail with another error
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    for where in (tmp_path, tmp_path / "file" / "a.csv", tmp_path / "circle", "/proc/a.csv"):
        words = ("evaluate", place / "run", "--data.root", place / "images", "--csv", where)
        assert said(plainvision(*words), f"cannot write {where}", "Give another file with --csv")
