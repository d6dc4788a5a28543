"""Files of weights that somebody else made, or that were damaged: loaded as they mean, or refused in words."""

import copy
import io
import json
import pickle
import random
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.testing import assert_close

import plainvision as pv
from plainvision.models.loading import load_backbone
from plainvision.models.reading import read_pickled, read_safetensors, save_tensors


class Small(nn.Module):
    """One of each kind of tensor: floating point, whole numbers, and batch norm's counter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, 3)
        self.register_buffer("index", torch.arange(4))

    def get_classifier(self) -> nn.Module:
        return self.fc


@pytest.fixture
def small() -> Small:
    return Small()


def same(model: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
        lambda state: {f"module.module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}},
        lambda state: {"model": {"state_dict": {f"net.backbone.{key}": value for key, value in state.items()}}},
        lambda state: {"n_averaged": torch.tensor(3), **{f"module.{key}": value for key, value in state.items()}},
    ],
)
def test_prefixes_and_wrappers_are_taken_off_until_nothing_changes(small, wrapped):
    state = Small().state_dict()
    assert same(pv.load_checkpoint(small, wrapped(state)), state)
    load_backbone(small, wrapped(state))


def test_averaged_models_load(small):
    averaged = AveragedModel(Small())
    assert same(pv.load_checkpoint(small, averaged.state_dict()), averaged.module.state_dict())


def test_a_network_whose_own_keys_have_a_prefix_keeps_it():
    model, other = (nn.ModuleDict({"model": Small()}) for _ in range(2))
    assert same(pv.load_checkpoint(model, other.state_dict()), other.state_dict())
    wrapped = {f"module.{key}": value for key, value in other.state_dict().items()}
    assert same(pv.load_checkpoint(model, wrapped), other.state_dict())


def test_a_prefix_beside_other_keys_is_named(small):
    state = {f"model.{key}": value for key, value in Small().state_dict().items()} | {"loss.weight": torch.ones(3)}
    with pytest.raises(ValueError, match=r"behind the prefix 'model\.', beside others: give the part"):
        pv.load_checkpoint(small, {"state_dict": state})


def test_batch_norms_of_old_files_lack_their_counter(small):
    state = {key: value for key, value in Small().state_dict().items() if not key.endswith("num_batches_tracked")}
    loaded = pv.load_checkpoint(small, state).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_the_deployed_form_is_advised_only_where_the_keys_say_so():
    model = pv.create_model("vanillanet_5", width=1 / 64, num_classes=4)
    with pytest.raises(ValueError, match="weights of another network than this VanillaNet"):
        pv.load_checkpoint(model, Small().state_dict())


def _quiet() -> warnings.catch_warnings:
    return warnings.catch_warnings(action="ignore")


def sparse(value: torch.Tensor) -> torch.Tensor:
    with _quiet():
        return value.to_sparse()


def quantised(value: torch.Tensor) -> torch.Tensor:
    with _quiet():
        return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda value: value.to(torch.int64), "int64"),
        (lambda value: value.to(torch.int8), "int8"),
        (lambda value: value.to(torch.uint8), "uint8"),
        (lambda value: value.to(torch.bool), "bool"),
        (lambda value: value.to(torch.complex64), "complex64"),
        (lambda value: value.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda value: value.to("meta"), "without values"),
        (sparse, "sparse"),
        (quantised, "quantised"),
    ],
)
def test_tensors_that_do_not_mean_the_same_are_refused(small, change, what):
    before = copy.deepcopy(small.state_dict())
    state = Small().state_dict()
    with pytest.raises(ValueError, match=rf"1 wrong kind: fc\.weight is {what}, the network has float32.*in floating"):
        pv.load_checkpoint(small, state | {"fc.weight": change(state["fc.weight"])})
    assert same(small, before)


def test_whole_numbers_stay_whole_numbers(small):
    state = Small().state_dict()
    with pytest.raises(ValueError, match=r"index is float32, the network has int64"):
        pv.load_checkpoint(small, state | {"index": torch.rand(4)})
    counted = state | {"norm.num_batches_tracked": torch.tensor(7.0)}  # as an average of weights has it
    assert pv.load_checkpoint(small, counted).norm.num_batches_tracked == 7


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_is_converted_and_that_is_said(small, kind):
    state = {key: value.to(kind) if value.is_floating_point() else value for key, value in Small().state_dict().items()}
    with pytest.warns(UserWarning, match=rf"converted from {str(kind)[6:]} to float32"):
        loaded = pv.load_checkpoint(small, state)
    assert_close(loaded.fc.weight, state["fc.weight"].float(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty: the disk may have been full"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", r"pointer of a file in Git LFS"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", r"is a web page, not weights"),
        (b'{"error": "not found"}', r"is JSON text, not weights"),
        (b"\x1f\x8b\x08\x00" + bytes(100), r"packed with gzip. Unpack it first"),
        (b"hello, world", r"neither a safetensors file nor one of PyTorch: it begins with b'hello, w'"),
        (b"PK\x03\x04" + bytes(100), r"not a whole PyTorch file"),
        (b"\x80\x02}q\x00.", r"is not a whole PyTorch file"),
        (b"\x80\x02" + b"(" * 100_000, r"is not a whole PyTorch file"),
        (b"\x80\x02X\x02\x00\x00\x00\xff\xfeq\x00.", r"is not a whole PyTorch file"),
    ],
)
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_what_is_no_file_of_weights_is_told_by_its_first_bytes(small, tmp_path, content, message, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        pv.load_checkpoint(small, tmp_path / name)


def test_a_zip_archive_without_a_pickle_and_one_that_grows_are_refused(small, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("hat.jpg", b"x")
    with pytest.raises(ValueError, match=r"zip archive, but not one of PyTorch: it has no data\.pkl"):
        pv.load_checkpoint(small, tmp_path / "photos.zip")
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(20_000_000))
    with pytest.raises(ValueError, match=r"made to fill memory: it would grow to 20,000,\d+ bytes"):
        pv.load_checkpoint(small, tmp_path / "bomb.pth")


@pytest.mark.parametrize("content", [{1: torch.ones(2)}, {"a": {"b": 1}}, [torch.ones(2)], torch.ones(2), "text", {}])
def test_what_is_no_state_dict_is_refused(small, tmp_path, content):
    torch.save(content, tmp_path / "content.pth")
    with pytest.raises(ValueError, match=r"content\.pth holds no weights: expected tensors by name"):
        pv.load_checkpoint(small, tmp_path / "content.pth")


def test_the_format_is_that_of_the_content_whatever_the_name(small, tmp_path):
    state = Small().state_dict()
    torch.save(state, tmp_path / "a.safetensors")
    save_file(state, tmp_path / "b.pth")
    torch.save(state, tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    for file in tmp_path.iterdir():
        assert same(pv.load_checkpoint(small, file), state)


def flipped(content: bytes, count: int) -> list[bytes]:
    """Return copies of ``content``, each with another bit flipped."""
    chance = random.Random(0)
    copies = []
    for _ in range(count):
        damaged = bytearray(content)
        damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        copies.append(bytes(damaged))
    return copies


def test_no_flipped_bit_in_a_file_of_ours_is_loaded(tmp_path):
    state, words = Small().state_dict(), {"plainvision": "{}"}
    save_tensors(tmp_path / "own.safetensors", state, words)
    tensors, said = read_safetensors(tmp_path / "own.safetensors")
    assert said == words
    for damaged in flipped((tmp_path / "own.safetensors").read_bytes(), 400):
        (tmp_path / "bad.safetensors").write_bytes(damaged)
        try:
            tensors, said = read_safetensors(tmp_path / "bad.safetensors")
        except ValueError as error:
            assert "bad.safetensors is" in str(error)  # noqa: PT017
        else:  # the bit was in the checksum's own name
            assert "sha256" not in said
            assert all(torch.equal(tensors[key], value) for key, value in state.items())


def test_no_flipped_bit_in_what_torch_saved_is_loaded(tmp_path):
    state = Small().state_dict()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    for damaged in flipped(buffer.getvalue(), 400):
        (tmp_path / "bad.pth").write_bytes(damaged)
        try:
            loaded = read_pickled(tmp_path / "bad.pth")
        except ValueError as error:
            assert "bad.pth is" in str(error)  # noqa: PT017
        else:  # the bit was where the archive keeps nothing of the weights
            assert all(torch.equal(loaded[key], value) for key, value in state.items())


@pytest.mark.parametrize("modern", [True, False])
def test_damaged_foreign_files_are_one_error_at_most(small, tmp_path, modern):
    buffer = io.BytesIO()
    torch.save(Small().state_dict(), buffer, _use_new_zipfile_serialization=modern)
    save_file(Small().state_dict(), tmp_path / "whole.safetensors")
    for content in (buffer.getvalue(), (tmp_path / "whole.safetensors").read_bytes()):
        cut = [content[: len(content) * part // 20] for part in range(20)]
        for damaged in [*cut, *flipped(content[:400], 200), *flipped(content, 100)]:
            (tmp_path / "bad").write_bytes(damaged)
            with _quiet():
                try:
                    pv.load_checkpoint(small, tmp_path / "bad")
                except ValueError as error:
                    assert "bad" in str(error)  # noqa: PT017


def test_a_header_with_a_checksum_is_compared_by_load_checkpoint_too(small, tmp_path):
    save_tensors(tmp_path / "own.safetensors", Small().state_dict(), {})
    content = bytearray((tmp_path / "own.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "own.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"own\.safetensors is damaged: its weights are not those that its checksum"):
        pv.load_checkpoint(small, tmp_path / "own.safetensors")
    length = int.from_bytes(content[:8], "little")
    assert set(json.loads(content[8 : 8 + length])["__metadata__"]) == {"sha256"}
