"""A file of weights and its header, which is data: whatever it says, nothing is opened, and memory is bounded."""

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

import plainvision as pv
from plainvision.data.batches import EvaluationBatches
from plainvision.models import described
from plainvision.models.described import _LargeOnMeta, bounded, check_description
from plainvision.models.reading import read_safetensors, save_tensors
from plainvision.models.registry import list_models
from plainvision.training import Data, Recipe
from plainvision.training.recipe import as_recorded
from plainvision.training.techniques import (
    AttentionPooling,
    DeepTraining,
    FuseAfterAnneal,
    LinearPairs,
    Plain,
    SeriesActivations,
    SpatialOps,
)
from plainvision.training.weights_file import Origin, build_network, load_network, save_network

NAMES = ("hat", "pants", "shirt")
RECIPE = Recipe(name="tiny", model="vanillanet_5", model_options={"width": 1 / 64})


def saved(folder: Path, recipe: Recipe = RECIPE, epoch: int = 0) -> nn.Module:
    network = build_network(recipe, len(NAMES), epoch)
    save_network(folder / "best.safetensors", network.state_dict(), Origin(recipe, NAMES, epoch))
    return network


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Return a file whose header somebody edited who knows how to make its checksum."""
    saved(folder)
    tensors, words = read_safetensors(folder / "best.safetensors")
    header = json.loads(words["plainvision"])
    change(header)
    save_tensors(folder / "edited.safetensors", tensors, {"plainvision": json.dumps(header)})
    return folder / "edited.safetensors"


GREY = Data(channels=1, mean=(0.5,), std=(0.5,), image_size=32)


@pytest.mark.parametrize("model", ["vanillanet_5", "test_resnet"])
def test_a_network_takes_as_many_channels_as_the_images_have(tmp_path, model):
    recipe = Recipe("grey", model, data=GREY)
    network = saved(tmp_path, recipe).eval()
    x = torch.randn(2, 1, 32, 32)
    assert_close(load_network(tmp_path)[0](x), network(x), rtol=0, atol=0)
    coloured = build_network(dataclasses.replace(recipe, model_options={"in_chans": 3}), 3, 0)
    assert coloured(torch.randn(2, 3, 32, 32)).shape == (2, 3)  # an option that is given wins


def test_a_network_that_takes_colours_alone_says_so(monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda name, num_classes: nn.Linear(3, num_classes))
    assert build_network(Recipe("colour", "resnet18"), 3, 0).out_features == 3
    with pytest.raises(
        ValueError, match=r"resnet18 has no option in_chans, .*RGB images alone, and data\.channels is 1"
    ):
        build_network(Recipe("grey", "resnet18", data=GREY), 3, 0)
    with pytest.raises(ValueError, match=r"resnet18 has no option 'in_chans'\. Leave it out"):
        build_network(Recipe("option", "resnet18", {"in_chans": 3}), 3, 0)


@pytest.mark.parametrize(
    ("recipe", "epoch"),
    [
        (RECIPE, 0),
        (dataclasses.replace(RECIPE, techniques=(DeepTraining(2), FuseAfterAnneal())), 3),
        (Recipe("vit", "test_vit", {"img_size": 32, "in_chans": 1}), 0),
        (Recipe("channels", "test_resnet", {"channels": [8, 8, 8, 8]}), 0),
        (Recipe("tag", "test_resnet.r160_in1k", techniques=(AttentionPooling(),)), 0),
        (Recipe("distilled", "deit_tiny_distilled_patch16_224", {"depth": 1}), 0),
        (
            Recipe("surgery", "test_resnet", techniques=(LinearPairs(), SeriesActivations(n=1, image_size=32))),
            0,
        ),
        (
            Recipe("plain", "test_resnet", techniques=(Plain(),)),
            0,
        ),
        (
            Recipe(
                "ops", "resnet26", {"channels": [8] * 4}, techniques=(SpatialOps("max", where="layer2", image_size=32),)
            ),
            0,
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Recipe) else str(value),
)
def test_a_network_comes_back_with_its_form_and_its_weights(tmp_path, recipe, epoch):
    network = saved(tmp_path, recipe, epoch)
    again, origin = load_network(tmp_path)
    assert (origin.classes, origin.epoch, origin.recipe.name) == (NAMES, epoch, recipe.name)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in again.state_dict().items())
    assert not again.training


def test_a_file_from_before_checksums_loads(tmp_path):
    network = saved(tmp_path)
    with safe_open(tmp_path / "best.safetensors", "pt") as file:
        words = file.metadata()
    del words["sha256"]
    save_file(network.state_dict(), tmp_path / "old.safetensors", metadata=words)
    load_network(tmp_path / "old.safetensors")


def test_no_flipped_bit_is_loaded(tmp_path):
    network = saved(tmp_path)
    content = (tmp_path / "best.safetensors").read_bytes()
    chance = random.Random(0)
    places = [chance.randrange(4000) for _ in range(60)] + [chance.randrange(len(content)) for _ in range(60)]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << chance.randrange(8)
        (tmp_path / "bad.safetensors").write_bytes(damaged)
        try:
            again, _ = load_network(tmp_path / "bad.safetensors")
        except ValueError as error:
            assert "bad.safetensors" in str(error)  # noqa: PT017
        else:  # the bit was in the checksum's own name
            assert all(torch.equal(value, network.state_dict()[key]) for key, value in again.state_dict().items())


def test_where_weights_came_from_is_not_written(tmp_path):
    recipe = dataclasses.replace(RECIPE, model_options={"width": 1 / 64, "pretrained": False, "checkpoint_path": ""})
    saved(tmp_path, recipe)
    assert load_network(tmp_path)[1].recipe.model_options == {"width": 1 / 64}


RECORDED = Data(
    root="wds/pipe:touch executed",
    validation_root="/somewhere",
    validation_split="pipe:touch executed",
    train_split="../train",
    workers=1000,
    max_pixels=10**9,
    allow_pipes=True,
)


def test_what_a_header_records_of_data_opens_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, dataclasses.replace(RECIPE, data=RECORDED, start_from="http://127.0.0.1:1/a", new_classifier=True))
    recipe = load_network(tmp_path)[1].recipe
    data = recipe.data
    assert (recipe.start_from, recipe.new_classifier) == (None, False)
    assert (data.validation_root, data.allow_pipes, data.max_pixels) == (None, False, Data().max_pixels)
    assert data.workers < 1000
    with pytest.raises(
        ValueError, match=r"records data\.root as 'wds/pipe:touch executed', and a file opens nothing.*--data\.root"
    ):
        EvaluationBatches(data, batch_size=1, classes=NAMES)
    with pytest.raises(
        ValueError, match=r"records data\.validation_split as 'pipe:touch executed'.*--data\.validation"
    ):
        EvaluationBatches(dataclasses.replace(data, root=str(tmp_path)), batch_size=1, classes=NAMES)
    assert not (tmp_path / "executed").exists()
    save_network(tmp_path / "again.safetensors", load_network(tmp_path)[0].state_dict(), load_network(tmp_path)[1])
    assert load_network(tmp_path / "again.safetensors")[1].recipe == recipe


def test_the_embedded_digits_and_plain_splits_stay():
    data = Data(root="digits", train_split="train", validation_split="test[:50%]", workers=0)
    assert as_recorded(dataclasses.replace(RECIPE, data=data)).data == data


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretrained": True}, r"model_options\.pretrained is nothing that a vanillanet_5 takes from a file; it takes"),
        ({"checkpoint_path": "/etc/hostname"}, r"model_options\.checkpoint_path is nothing"),
        ({"pretrained_cfg": {"file": "/etc/hostname"}}, r"model_options\.pretrained_cfg is nothing"),
        (
            {"pretrained_cfg_overlay": {"url": "http://127.0.0.1:1"}},
            r"model_options\.pretrained_cfg_overlay is nothing",
        ),
        ({"cache_dir": "/tmp"}, r"model_options\.cache_dir is nothing"),
        ({"scriptable": True}, r"model_options\.scriptable is nothing"),
        ({"features_only": True}, r"model_options\.features_only is nothing"),
        ({"depth": 3}, r"model_options\.depth is nothing"),
        ({"stem": {"stride": 3}}, r"model_options\.stem is \{.*and must be a plain value"),
        ({"width": "wide"}, r"model_options\.width is 'wide', and is usually 1\.0"),
        ({"width": True}, r"model_options\.width is True, and is usually 1\.0"),
        ({"width": float("nan")}, r"model_options\.width is nan, and must be a plain value within bounds"),
        ({"width": 1e9}, r"model_options\.width is 1000000000\.0, and must be a plain value within bounds"),
        ({"deployed": 1}, r"model_options\.deployed is 1, and is usually False"),
        ({"shortcut": "x" * 1000}, r"model_options\.shortcut is 'xxx.*must be a plain value within bounds"),
        ({"shortcut": [1] * 1000}, r"model_options\.shortcut is \[1, .*must be a plain value within bounds"),
        ({"width": 1000.0}, r"far larger network than the one whose weights it has"),
        ({"num_classes": 10**6}, r"far larger network than the one whose weights it has"),
        ({"series": 10_000}, r"far larger network than the one whose weights it has"),
        ({"in_chans": -3}, r"does not describe a network: Trying to create tensor with negative dimension"),
        ({"in_chans": 4}, r"edited\.safetensors does not fit this VanillaNet; 1 wrong shape"),
    ],
)
def test_options_of_a_header_are_those_of_the_class_within_bounds(tmp_path, options, message):
    file = edited(tmp_path, lambda header: header["recipe"]["model_options"].update(options))
    with pytest.raises(ValueError, match=message):
        load_network(file)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hf-hub:somebody/network", {}, r"model='hf-hub:somebody/network' is no name of a network of ours or timm's"),
        ("local-dir:/tmp", {}, r"model='local-dir:/tmp' is no name"),
        ("../vanillanet_5", {}, r"model='\.\./vanillanet_5' is no name"),
        ("vanillanet_99", {}, r"model='vanillanet_99' is no name"),
        ("cell_network", {"genotype": "/etc/hostname"}, r"model_options\.genotype is '/etc/hostname', and must be"),
        ("cell_network", {"genotype": '{"kind": 1}'}, r"JSON of another kind"),
        ("test_vit", {"depth": 10_000}, r"far larger network than the one"),
        ("test_vit", {"img_size": 10_000, "patch_size": 1}, r"far larger network than the one"),
        ("resnet18", {"channels": [10_000] * 4}, r"far larger network than the one"),
        ("resnet18", {"layers": [10_000] * 4}, r"far larger network than the one"),
        ("vit_giant_patch14_224", {}, r"far larger network than the one"),
        ("test_resnet", {}, r"edited\.safetensors does not fit this ResNet; \d+ missing"),
    ],
)
def test_the_network_of_a_header_is_a_published_one_and_no_larger_than_its_file(tmp_path, name, options, message):
    file = edited(tmp_path, lambda header: header["recipe"].update(model=name, model_options=options))
    with pytest.raises(ValueError, match=message):
        load_network(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.pop("recipe"), r"it has no recipe"),
        (lambda header: header.update(recipe=3), r"recipe is no object"),
        (lambda header: header["recipe"].update(epochs="3"), r"recipe\.epochs is '3', and must be a whole number"),
        (lambda header: header["recipe"]["data"].update(image_size=10**6), r"data\.image_size=1000000 must be"),
        (lambda header: header["recipe"]["techniques"].append({"technique": "os.system"}), r"unknown technique"),
        (
            lambda header: header["recipe"]["techniques"].append({"technique": "SeriesActivations", "n": 10**6}),
            r"SeriesActivations: n=1000000 must",
        ),
        (
            lambda header: header["recipe"]["techniques"].append({"technique": "SpatialOps", "op": "rm"}),
            r"does not describe a network: ",
        ),
        (lambda header: header.update(epoch="1"), r"header\.epoch is '1', and must be a whole number"),
        (lambda header: header.update(epoch=-1), r"epoch=-1 with 3 classes cannot be"),
        (lambda header: header.pop("epoch"), r"header lacks the field 'epoch'"),
        (lambda header: header.update(classes="hat"), r"header\.classes is 'hat', and must be a list of text"),
        (lambda header: header.update(classes=[1, 2, 3]), r"header\.classes\[0\] is 1, and must be text"),
        (lambda header: header.update(classes=[]), r"epoch=0 with 0 classes cannot be"),
        (lambda header: header.update(classes=["x"] * 100_000), r"far larger network than the one"),
        (lambda header: header.update(classes=["x"] * 4), r"edited\.safetensors does not fit this VanillaNet"),
        (lambda header: header.update(deployed=1), r"header\.deployed is 1, and must be true or false"),
        (
            lambda header: header.update(deployed=True),
            r"edited\.safetensors does not fit this VanillaNet.*training form",
        ),
        (lambda header: header.update(surprise=1), r"header has the unknown field 'surprise'"),
        (lambda header: header.update(padding="x" * 2**24), r"it has \d\d,\d{3},\d{3} characters"),
    ],
)
def test_a_damaged_header_is_one_error_that_names_the_file_and_the_field(tmp_path, change, message):
    file = edited(tmp_path, change)
    with pytest.raises(ValueError, match=message) as caught:
        load_network(file)
    assert "edited.safetensors" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"recipe"', "[" * 100_000, "{" + '"a":{' * 50_000, "1" * 10_000])
def test_a_header_that_is_no_json_of_ours_is_one_error(tmp_path, text):
    save_tensors(tmp_path / "odd.safetensors", saved(tmp_path).state_dict(), {"plainvision": text})
    with pytest.raises(ValueError, match=r"the header of .*odd\.safetensors does not describe a network"):
        load_network(tmp_path / "odd.safetensors")


def test_a_foreign_file_and_a_missing_one_are_told_apart(tmp_path):
    save_file(saved(tmp_path).state_dict(), tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match=r"does not say which network its weights belong to"):
        load_network(tmp_path / "foreign.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no weights at .*bets\.safetensors\. Nearby: best\.safetensors"):
        load_network(tmp_path / "bets.safetensors")


def test_every_option_of_our_networks_may_come_from_a_file():
    for name in list_models():
        check_description(name, {"num_classes": 3, "in_chans": 1, "drop_rate": 0.1})
    check_description("resnet20_cifar", {"width": 0.5, "depths": [1, 1, 1]})
    check_description("resnet50_max", {"pooled": "odd", "op": "avg"})


def test_a_bound_holds_within_and_ends_with_its_block():
    with pytest.raises(ValueError, match="far larger"), bounded(100, 100):
        nn.Linear(20, 20)
    with pytest.raises(ValueError, match="far larger"), bounded(100, 3):
        nn.Sequential(*(nn.ReLU() for _ in range(4)))
    nn.Linear(20, 20)
    with bounded(1000, 10):
        pv.load_checkpoint(nn.Linear(20, 20), nn.Linear(20, 20).state_dict())


def test_large_tensors_take_no_memory_where_small_ones_have_to_be_read():
    with _LargeOnMeta():
        rates = torch.linspace(0, 1, 3).tolist()
        large, small = nn.Linear(1000, 1000), nn.Linear(3, 2)
        assert torch.zeros((1000, 1000)).is_meta
        assert torch.empty(size=(1000, 1000)).is_meta
    assert rates == [0, 0.5, 1]
    assert (large.weight.is_meta, small.weight.is_meta) == (True, False)


def test_a_network_that_reads_tensors_while_it_is_built_has_an_outline(monkeypatch):
    def build(name: str, **options: int) -> nn.Module:
        torch.linspace(0, 1, 3).tolist()
        return nn.Linear(options["width"], 1000)

    monkeypatch.setattr(described, "create_model", build)
    described.build_outline("reader", {"width": 3})
    with pytest.raises(ValueError, match="far larger"), bounded(10**6, 10):
        described.build_outline("reader", {"width": 10**9})
