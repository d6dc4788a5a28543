import functools
import http.server
import re
import threading

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.testing import assert_close

import plainvision as pv
from plainvision.models.loading import load_backbone

TINY = {"width": 1 / 64, "num_classes": 4}


@pytest.fixture
def model():
    return pv.create_model("vanillanet_5", **TINY)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_plain_wrapped_and_prefixed_state_dicts_load(model, wrap, prefix):
    state = {prefix + key: value for key, value in model.state_dict().items()}
    again = pv.load_checkpoint(pv.create_model("vanillanet_5", **TINY), wrap(state))
    for key, value in again.state_dict().items():
        assert_close(value, model.state_dict()[key], rtol=0, atol=0)


def test_a_url_is_downloaded_once_and_whole(model, tmp_path, monkeypatch):
    (tmp_path / "www").mkdir()
    save_file(model.state_dict(), tmp_path / "www" / "weights.safetensors")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(args)

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "www"))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    try:
        url = f"http://127.0.0.1:{server.server_port}/weights.safetensors"
        for _ in range(2):
            again = pv.load_checkpoint(pv.create_model("vanillanet_5", **TINY), url)
            assert_close(again.head.first[0].weight, model.head.first[0].weight, rtol=0, atol=0)
        assert len(asked) == 1
        with pytest.raises(ValueError, match=r"cannot download http://127.*404.*Check the address"):
            pv.load_checkpoint(model, url.replace("weights", "nothing"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_missing_extra_and_wrongly_shaped_keys_are_named(model):
    state = model.state_dict()
    del state["head.first.0.weight"]
    with pytest.raises(ValueError, match=r"1 missing: head\.first\.0\.weight"):
        pv.load_checkpoint(model, state)
    with pytest.raises(ValueError, match=r"1 extra: odd"):
        pv.load_checkpoint(model, model.state_dict() | {"odd": torch.ones(1)})
    other = pv.create_model("vanillanet_5", width=1 / 64, num_classes=7)
    with pytest.raises(
        ValueError,
        match=r"head\.first\.0\.weight is \(7, 64, 1, 1\), the network has \(4, 64, 1, 1\).*num_classes",
    ):
        pv.load_checkpoint(model, other.state_dict())


def test_a_checkpoint_that_does_not_fit_changes_nothing(model):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = {key: value + 1 for key, value in model.state_dict().items()}
    del state["stem.act.conv.weight"]
    with pytest.raises(ValueError, match="1 missing"):
        pv.load_checkpoint(model, state)
    for key, value in model.state_dict().items():
        assert_close(value, before[key], rtol=0, atol=0)


def taken(loaded, source) -> dict[str, bool]:
    """Return, by key, whether the loaded network has the value of ``source``."""
    return {
        key: value.shape == source[key].shape and bool((value == source[key]).all()) for key, value in loaded.items()
    }


@pytest.mark.parametrize(
    ("name", "options", "classifier"),
    [
        ("vanillanet_5", {"width": 1 / 64}, "head."),
        ("vanillanet_5", {"width": 1 / 64, "deployed": True}, "head."),
        ("resnet18", {}, "fc."),
        ("alexnet", {}, "classifier.6."),
        ("deit_tiny_distilled_patch16_224", {"depth": 1}, ("head.", "head_dist.")),
        ("patchconvnet_s20", {"embed_dim": 16, "depth": 1}, "head."),
    ],
)
def test_a_backbone_loads_without_the_classifier_of_other_classes(name, options, classifier):
    source = {key: value + 1 for key, value in pv.create_model(name, num_classes=7, **options).state_dict().items()}
    model = pv.create_model(name, num_classes=4, **options)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    after = load_backbone(model, {"model": source}).state_dict()
    assert taken(after, source) == {key: not key.startswith(classifier) for key in after}
    assert {key for key, same in taken(after, before).items() if same} == {
        key for key in after if key.startswith(classifier)
    }


def test_a_backbone_loads_from_the_official_layout_and_without_any_classifier(model):
    from networks_for_tests import official_weights

    official = official_weights("vanillanet_5")
    wide = pv.create_model("vanillanet_5", num_classes=3)
    load_backbone(wide, official)
    assert_close(wide.stem.act.conv.weight, official["stem2.2.weight"], rtol=0, atol=0)
    headless = {key: value + 1 for key, value in model.state_dict().items() if not key.startswith("head.")}
    load_backbone(model, headless)
    assert_close(model.stem.act.conv.weight, headless["stem.act.conv.weight"], rtol=0, atol=0)


def test_one_class_token_starts_the_tokens_of_other_classes():
    options = {"embed_dim": 16, "depth": 1}
    single = pv.create_model("patchconvnet_s20", num_classes=7, **options)
    many = load_backbone(
        pv.create_model("patchconvnet_s20", num_classes=4, per_class=True, **options), single.state_dict()
    )
    assert_close(many.pool.token, single.pool.token.expand(4, -1), rtol=0, atol=0)


def test_a_backbone_loads_strictly(model):
    state = model.state_dict()
    del state["stem.act.conv.weight"]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"does not fit this VanillaNet; 1 missing: stem\.act\.conv\.weight; 1 extra: odd"
    ):
        load_backbone(model, state | {"odd": torch.ones(1)})
    assert all(taken(model.state_dict(), before).values())
    with pytest.raises(
        ValueError, match=r"wrong shape: stem\.conv.*num_classes, in_chans, width\. To learn other classes"
    ):
        load_backbone(pv.create_model("vanillanet_5", width=1 / 32), model.state_dict())


def test_a_network_that_does_not_name_its_classifier_is_refused():
    with pytest.raises(ValueError, match=r"classifier of Linear out: it has no get_classifier.*load_checkpoint"):
        load_backbone(torch.nn.Linear(2, 2), {"weight": torch.ones(2, 2)})


def test_the_wrong_form_is_recognised(model):
    deployed = pv.create_model("vanillanet_5", **TINY, deployed=True)
    with pytest.raises(ValueError, match=r"It looks like the deployed form.*deployed=True"):
        pv.load_checkpoint(model, deployed.state_dict())
    with pytest.raises(ValueError, match=r"It looks like the training form.*plainvision\.fuse"):
        pv.load_checkpoint(deployed, model.state_dict())


def test_a_missing_file_is_named(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere\.pth"):
        pv.load_checkpoint(model, tmp_path / "nowhere.pth")


class Bomb:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_pickle_that_is_not_weights_is_refused_and_not_run(model, tmp_path, capsys):
    torch.save({"model": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(ValueError, match=r"bomb\.pth is a pickle that holds more than weights.*could run code"):
        pv.load_checkpoint(model, tmp_path / "bomb.pth")
    assert "code ran" not in capsys.readouterr().out
    torch.save({"lr": 0.1}, tmp_path / "numbers.pth")
    with pytest.raises(ValueError, match=r"numbers\.pth holds no weights"):
        pv.load_checkpoint(model, tmp_path / "numbers.pth")


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_truncated_file_is_recognised(model, tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{name} is not a whole .* file.*again"):
        pv.load_checkpoint(model, path)


def test_files_of_torchvisions_densenets_have_keys_of_their_time():
    def densenet() -> torchvision.models.DenseNet:
        return torchvision.models.DenseNet(growth_rate=4, block_config=(1, 1), num_init_features=8, num_classes=3)

    torch.manual_seed(0)
    there, model = densenet(), densenet()
    state = there.state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value for key, value in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    pv.load_checkpoint(model, old)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
