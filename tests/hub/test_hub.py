"""A network that was pushed is the network that is pulled, and the one that timm loads."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import ModelCard
from networks_for_tests import trained
from safetensors.torch import save
from timm.data import resolve_data_config
from torch.testing import assert_close

import plainvision as pv
from plainvision.files import write_json
from plainvision.hub.pushing import write_folder
from plainvision.training import Data, Recipe
from plainvision.training.techniques import AttentionPooling, LinearPairs
from plainvision.training.weights_file import Origin, build_network, load_network, save_network, save_temperature

NAMES = ("hat", "shoe [x]", "| a\nb", "<b>coat</b>")
GREY = Data(root="/home/me/secret/photos.zip", channels=1, mean=(0.4,), std=(0.2,), image_size=48, crop_ratio=0.9)
COLOUR = Data(root="/home/me/secret/photos.zip", image_size=64, interpolation="bilinear", mean=(0.1, 0.2, 0.3))
OPTIONS = {
    "vanillanet_6": {"width": 1 / 64},
    "patchconvnet_s20": {"embed_dim": 16, "depth": 2},
    "resnet50_max": {"width": 1 / 8, "depths": [1, 1, 1, 1]},
    "vit_ti_max": {"width": 1 / 3, "depth": 2},
    "test_resnet": {},
}


def weights_file(folder: Path, recipe: Recipe, slope: float = 0.0) -> Path:
    network = trained(build_network(recipe, len(NAMES), 0))
    pv.set_slope(network, slope)
    save_network(folder / "best.safetensors", network.state_dict(), Origin(recipe, NAMES, 0))
    return folder / "best.safetensors"


def pushed(source: str | Path, repo: str, **options) -> str:
    found = pv.hub.trained_network(source)
    return pv.hub.push(found, repo, card=pv.hub.model_card(found, repo=repo), **options)


def same(found, expected, images):
    with torch.no_grad():
        assert_close(found.eval()(images), expected.eval()(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("data", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("model", OPTIONS)
def test_what_is_pushed_is_loaded_by_timm_and_pulled_by_us(model, data, hub, tmp_path):
    file = weights_file(tmp_path, Recipe("mine", model, OPTIONS[model], data=data), slope=0.25)
    network, _ = load_network(file)
    images = torch.randn(2, data.channels, data.image_size, data.image_size)
    assert pushed(file, "me/net") == f"{hub.address}/me/net"
    assert sorted(hub.files["me/net"]) == ["README.md", "config.json", "model.safetensors"]
    assert set(hub.tokens) == {"Bearer hf_secret"}

    in_timm = timm.create_model("hf-hub:me/net", pretrained=True)
    same(in_timm, network, images)
    assert [float(v) for k, v in in_timm.state_dict().items() if k.endswith(".slope")] == [
        0.25 for key in network.state_dict() if key.endswith(".slope")
    ]
    config = in_timm.pretrained_cfg
    assert (config["num_classes"], list(config["label_names"])) == (4, list(NAMES))
    prepared = resolve_data_config({}, model=in_timm)
    assert prepared["input_size"] == tuple(images.shape[1:])
    assert (tuple(prepared["mean"]), tuple(prepared["std"])) == (data.mean, data.std)
    assert (prepared["crop_pct"], prepared["interpolation"]) == (data.crop_ratio, data.interpolation)
    assert timm.create_model("hf-hub:me/net", pretrained=True, num_classes=7)(images).shape == (2, 7)

    save_temperature(file, 1.75)
    pushed(file, "me/net")
    origin = pv.hub.pull("me/net", tmp_path / "again.safetensors")
    assert origin.temperature == 1.75
    assert (origin.classes, origin.recipe.model, origin.recipe.data.mean) == (NAMES, model, data.mean)
    same(load_network(tmp_path / "again.safetensors")[0], network, images)


@pytest.mark.parametrize("model", ["vanillanet_6", "patchconvnet_s20", "resnet50_max"])
def test_so_is_the_deployed_form(model, hub, tmp_path):
    file = weights_file(tmp_path, Recipe("mine", model, OPTIONS[model], data=COLOUR), slope=1.0)
    network, images = load_network(file)[0], torch.randn(2, 3, 64, 64)
    pushed(f"{file}:deployed", "me/deployed")
    fused = timm.create_model("hf-hub:me/deployed", pretrained=True).eval()
    assert len(fused.state_dict()) < len(network.state_dict())
    assert_close(fused(images), network(images), rtol=1e-3, atol=1e-4)
    assert pv.hub.pull("me/deployed", tmp_path / "again.safetensors").deployed
    same(load_network(tmp_path / "again.safetensors")[0], fused, images)


def test_a_folder_of_what_is_pushed_is_loaded_by_timm(tmp_path):
    file = weights_file(tmp_path, Recipe("mine", "vanillanet_6", OPTIONS["vanillanet_6"], data=GREY))
    found = pv.hub.trained_network(file)
    assert write_folder(found, tmp_path / "new", card=pv.hub.model_card(found))
    same(timm.create_model(f"local-dir:{tmp_path / 'new'}", pretrained=True), found.model, torch.randn(2, 1, 48, 48))
    with pytest.raises(OSError, match=r"new is not empty\. Give a new folder"):
        write_folder(found, tmp_path / "new", card=pv.hub.model_card(found))


@pytest.mark.parametrize("technique", [AttentionPooling(), LinearPairs()])
def test_what_timm_cannot_rebuild_is_still_pulled(technique, hub, tmp_path):
    recipe = Recipe("mine", "test_resnet", data=COLOUR, techniques=(technique,))
    file = weights_file(tmp_path, recipe)
    pushed(file, "me/changed")
    assert sorted(hub.files["me/changed"]) == ["README.md", "model.safetensors"]
    assert "timm cannot rebuild it" in hub.files["me/changed"]["README.md"].decode()
    pv.hub.pull("me/changed", tmp_path / "again.safetensors")
    same(load_network(tmp_path / "again.safetensors")[0], load_network(file)[0], torch.randn(2, 3, 64, 64))


def test_nothing_that_is_pushed_tells_where_the_images_were(hub, tmp_path):
    data = replace(COLOUR, labels="/home/me/secret/labels.csv", validation_root="/home/me/secret/held")
    file = weights_file(tmp_path, Recipe("mine", "test_resnet", data=data, start_from="/home/me/secret/a.pth"))
    pushed(file, "me/net")
    for name, content in hub.files["me/net"].items():
        assert b"secret" not in content, name
    assert b"photos" in hub.files["me/net"]["README.md"]


def test_a_readme_that_is_there_stays_and_a_new_repository_may_be_private(hub, tmp_path):
    file = weights_file(tmp_path, Recipe("mine", "test_resnet", data=COLOUR))
    pushed(file, "me/net", private=True)
    assert hub.private["me/net"]
    hub.files["me/net"]["README.md"] = b"mine"
    pushed(file, "me/net")
    assert hub.files["me/net"]["README.md"] == b"mine"
    pushed(file, "me/open")
    assert not hub.private["me/open"]


def test_a_network_that_timm_pushed_is_pulled(hub, tmp_path):
    model = trained(timm.create_model("test_resnet", num_classes=3, in_chans=1))
    model.pretrained_cfg = {**model.pretrained_cfg, "mean": (0.5,), "std": (0.25,)}
    timm.models.push_to_hf_hub(
        model, "me/theirs", safe_serialization=True, model_config={"label_names": ["a", "b", "c"]}
    )
    origin = pv.hub.pull("me/theirs", tmp_path / "theirs.safetensors")
    assert (origin.classes, origin.recipe.data.mean) == (("a", "b", "c"), (0.5,))
    same(load_network(tmp_path / "theirs.safetensors")[0], model, torch.randn(2, 1, 96, 96))
    loaded = pv.load(tmp_path / "theirs.safetensors")
    assert loaded.classes == ("a", "b", "c")


def stranger(hub, change=None, **tensors):
    """Put a network of timm's form on the stand-in whose configuration somebody changed."""
    model = timm.create_model("test_resnet", num_classes=3)
    config = {"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": dict(model.pretrained_cfg)}
    (change or (lambda _: None))(config)
    weights = save({**model.state_dict(), **tensors})
    hub.files["me/odd"] = {"config.json": json.dumps(config).encode(), "model.safetensors": weights}


def test_a_strangers_network_is_within_bounds_or_refused(hub, tmp_path):
    stranger(hub)
    assert pv.hub.pull("me/odd", tmp_path / "odd.safetensors").recipe.name == "no run"
    before = (tmp_path / "odd.safetensors").read_bytes()
    cases = [
        (r"model='\.\./evil' is no name", lambda c: c.update(architecture="../evil")),
        (r"no name of a network", lambda c: c.update(architecture="hf-hub:me/other")),
        (
            r"model_options\.pretrained is nothing that a test_resnet takes",
            lambda c: c.update(model_args={"pretrained": True}),
        ),
        (
            r"model_options\.checkpoint_path is nothing",
            lambda c: c.update(model_args={"checkpoint_path": "/etc/passwd"}),
        ),
        (r"num_classes is 1000000000", lambda c: c.update(num_classes=10**9)),
        (r"num_classes is 'x'", lambda c: c.update(num_classes="x")),
        (r"2 label_names for 3 classes", lambda c: c.update(label_names=["a", "b"])),
        (r"label_names\[0\] is 1, and must be text", lambda c: c.update(label_names=[1, 2, 3])),
        (r"data\.image_size=100000 must", lambda c: c["pretrained_cfg"].update(input_size=(3, 10**5, 10**5))),
        (r"we read squares", lambda c: c["pretrained_cfg"].update(input_size=(3, 10, 20))),
        (r"mean\[0\] is 'x', and must be a number", lambda c: c["pretrained_cfg"].update(mean=["x", 0, 0])),
        (r"data\.std=\(0\.0, 1\.0, 1\.0\) must be at least", lambda c: c["pretrained_cfg"].update(std=[0.0, 1.0, 1.0])),
        (r"does not describe a network", lambda c: c.clear()),
        (r"must be a plain value within bounds", lambda c: c.update(model_args={"channels": [10**6] * 4})),
        (r"far larger network", lambda c: c.update(model_args={"channels": [9000] * 4})),
    ]
    for message, change in cases:
        stranger(hub, change)
        with pytest.raises(ValueError, match=f"cannot use me/odd of the Hub: .*({message})"):
            pv.hub.pull("me/odd", tmp_path / "odd.safetensors")
        assert (tmp_path / "odd.safetensors").read_bytes() == before
    stranger(hub, **{"fc.weight": torch.zeros(7, 7)})
    with pytest.raises(ValueError, match=r"wrong shape|does not fit|1 wrong"):
        pv.hub.pull("me/odd", tmp_path / "odd.safetensors")


def test_only_safetensors_are_read(hub, tmp_path):
    stranger(hub)
    hub.files["me/odd"]["pytorch_model.bin"] = hub.files["me/odd"].pop("model.safetensors")
    with pytest.raises(ValueError, match=r"cannot get model\.safetensors of me/odd: it has no such file"):
        pv.hub.pull("me/odd", tmp_path / "odd.safetensors")
    hub.files["me/odd"]["model.safetensors"] = b"\x80\x04 a pickle"
    with pytest.raises(ValueError, match=r"not a whole safetensors file"):
        pv.hub.pull("me/odd", tmp_path / "odd.safetensors")
    assert not (tmp_path / "odd.safetensors").exists()


def test_a_configuration_without_end_is_not_read(hub, tmp_path):
    stranger(hub)
    hub.files["me/odd"]["config.json"] = b"[" * (2**24 + 1)
    with pytest.raises(ValueError, match=r"config\.json of me/odd has more than 16,777,216 bytes"):
        pv.hub.pull("me/odd", tmp_path / "odd.safetensors")
    hub.files["me/odd"]["config.json"] = b"[" * 2**20
    with pytest.raises(ValueError, match=r"config\.json does not describe a network"):
        pv.hub.pull("me/odd", tmp_path / "odd.safetensors")


def test_what_the_hub_refuses_is_one_sentence(hub, tmp_path, monkeypatch):
    file = weights_file(tmp_path, Recipe("mine", "test_resnet", data=COLOUR))
    with pytest.raises(ValueError, match=r"cannot get model\.safetensors of me/none: there is no such repository"):
        pv.hub.pull("me/none", tmp_path / "out.safetensors")
    hub.files["me/net"] = {}
    with pytest.raises(ValueError, match=r"it has no such file or revision"):
        pv.hub.pull("me/net@other", tmp_path / "out.safetensors")
    with pytest.raises(ValueError, match=r"cannot get .* of a/b/c: that is no name of a repository\. Give OWNER/NAME"):
        pv.hub.pull("a/b/c", tmp_path / "out.safetensors")
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no token"))
    with pytest.raises(ValueError, match=r"cannot push to me/new: .*log in with `hf auth login`, or set HF_TOKEN"):
        pushed(file, "me/new")


def test_without_a_network_it_is_one_sentence(hub, tmp_path, monkeypatch):
    file = weights_file(tmp_path, Recipe("mine", "test_resnet", data=COLOUR))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    url = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
    for call in (lambda: pushed(file, "me/net"), lambda: pv.hub.pull("me/net", tmp_path / "out.safetensors")):
        with pytest.raises(OSError, match=r"me/net: the Hub at http://127\.0\.0\.1:9 cannot be reached.*Check the net"):
            call()


def test_what_was_pulled_once_is_pulled_without_a_network(hub, tmp_path, monkeypatch):
    stranger(hub)
    pv.hub.pull("me/odd", tmp_path / "first.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    url = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
    pv.hub.pull("me/odd", tmp_path / "again.safetensors")
    assert (tmp_path / "first.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'vanillanet_6' is no run and no weights file\. Give a run's folder"):
        pv.hub.trained_network("vanillanet_6")
    (tmp_path / "folder").mkdir()
    write_json(tmp_path / "folder" / "deploy.json", {})
    with pytest.raises(ValueError, match=r"deploy\.json"):
        pv.hub.trained_network(tmp_path / "folder")


def test_the_head_of_a_card_is_read_back_by_the_hubs_own_classes(tmp_path):
    recipe = Recipe("a\nb: [c]", "test_resnet", data=COLOUR)
    found = pv.hub.trained_network(weights_file(tmp_path, recipe))
    card = pv.hub.model_card(found, licence="mit")
    again = ModelCard(str(card))
    assert (again.data.license, again.data.library_name) == ("mit", "timm")
    assert again.data.tags == ["image-classification", "timm", "plainvision"]
    with pytest.raises(ValueError, match=r"the licence 'MIT\\n---' is no identifier of the Hub\. Give one such as"):
        pv.hub.model_card(found, licence="MIT\n---")
