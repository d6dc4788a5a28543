"""A temperature is fitted, kept with the weights and used by everything that gives confidences."""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands.running import plainvision, row, said
from PIL import Image
from torch import nn
from torch.testing import assert_close
from training.recipes_for_tests import DIGITS, TINY

import plainvision as pv
from plainvision.confidences import fit_temperature
from plainvision.data.batches import Batch, EvaluationBatches
from plainvision.files import locked, read_object, write_json
from plainvision.models.reading import read_safetensors, save_tensors
from plainvision.training import evaluate, train
from plainvision.training.calibrating import calibrate
from plainvision.training.scores import calibration
from plainvision.training.weights_file import load_network, save_network

DATA = replace(DIGITS, train_per_class=60, validation_per_class=30)


class Written(nn.Module):
    """Its logits are written into its images."""

    def forward(self, images):
        return images.flatten(1)


@dataclass
class Batches:
    """Images whose logits are right as often as they say, times ``sharper``."""

    sharper: float
    classes: tuple[str, ...] = tuple("abcde")

    def __iter__(self):
        rng = np.random.default_rng(0)
        for number in range(20):
            true = rng.normal(scale=2, size=(100, 5))
            shares = np.exp(true) / np.exp(true).sum(1, keepdims=True)
            labels = torch.tensor([rng.choice(5, p=share) for share in shares])
            images = torch.tensor(self.sharper * true, dtype=torch.float32)[:, :, None, None]
            yield Batch(images, labels, tuple(f"{number} {place}" for place in range(100)), ())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run that is not sure of itself."""
    folder = tmp_path_factory.mktemp("calibrating") / "run"
    recipe = replace(TINY, data=DATA, epochs=8, batch_size=30, optimizer="adamw", lr=5e-3, label_smoothing=0.3)
    train(recipe, folder)
    return folder


@pytest.fixture(scope="module")
def calibrated(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    shutil.copytree(trained, folder)
    return folder, plainvision("evaluate", folder, "--calibrate")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> list[Path]:
    place = tmp_path_factory.mktemp("photographs")
    batches = EvaluationBatches(DATA, batch_size=5)
    paths = []
    for number, name in enumerate(next(iter(batches)).names):
        paths.append(place / f"{number}.png")
        batches.picture(name).resize((32, 32), Image.Resampling.BILINEAR).save(paths[-1])
    return paths


def expected(folder: Path, photographs: list[Path], temperature: float) -> torch.Tensor:
    loaded = pv.load(folder)
    images = torch.stack([loaded.transform(Image.open(path)) for path in photographs])
    with torch.inference_mode():
        return (loaded.network(images) / temperature).softmax(1)


def test_overconfidence_is_taken_away():
    found = calibrate(Written(), Batches(3.0))
    assert found.temperature == pytest.approx(3, rel=0.1)
    assert (found.images, found.before > 10, found.after < 3) == (2000, True, True)
    result = evaluate(Written(), Batches(3.0), temperature=found.temperature)
    assert calibration(result.predictions).error == pytest.approx(found.after, abs=1e-3)
    assert str(found).startswith(f"temperature {found.temperature:.3f}, fitted on 2000 images; their calibration error")


def test_evaluate_fits_and_keeps_the_temperature(trained, calibrated):
    folder, ended = calibrated
    assert (ended.status, ended.err) == (0, "")
    network, origin = load_network(folder)
    batches = EvaluationBatches(DATA, batch_size=64)
    logits = torch.cat([network(batch.images) for batch in batches]).detach().numpy()
    labels = torch.cat([batch.labels for batch in batches]).numpy()
    assert origin.temperature == pytest.approx(fit_temperature(logits, labels), rel=1e-4)
    assert f"temperature {origin.temperature:.3f}, fitted on 300 images" in ended.out
    assert f"kept in {folder / 'best.safetensors'}" in ended.out
    before, after = plainvision("evaluate", trained), plainvision("evaluate", folder)
    assert row(after.out, "calibration error") == row(ended.out, "calibration error")
    assert float(row(after.out, "calibration error")[0]) < 0.7 * float(row(before.out, "calibration error")[0])
    assert row(after.out, "top-1 %") == row(before.out, "top-1 %")
    assert float(row(after.out, "loss")[0]) < float(row(before.out, "loss")[0])
    mine, theirs = (read_safetensors(one / "best.safetensors")[0] for one in (folder, trained))
    assert all(torch.equal(value, theirs[key]) for key, value in mine.items())
    assert load_network(folder, "last")[1].temperature == 1


def test_predict_and_load_give_calibrated_confidences(calibrated, photographs):
    folder, _ = calibrated
    temperature = load_network(folder)[1].temperature
    wanted = expected(folder, photographs, temperature)
    answers = list(pv.predict(folder, photographs, top=10))
    plain = list(pv.predict(folder, photographs, top=10, temperature=1.0))
    for answer, other, shares in zip(answers, plain, wanted, strict=True):
        assert_close(torch.tensor(answer.confidences), shares.sort(descending=True).values)
        assert answer.classes == other.classes
    loaded = pv.load(folder)
    assert loaded.temperature == temperature
    images = torch.stack([loaded.transform(Image.open(path)) for path in photographs])
    assert_close(loaded.confidences(images), wanted)
    ended = plainvision("predict", folder, *photographs, "--jsonl", "-")
    told = [json.loads(line)["confidence"] for line in ended.out.splitlines()]
    assert told == pytest.approx(wanted.amax(1).tolist(), abs=1e-5)


def test_the_deployed_forms_keep_it(calibrated, photographs, tmp_path):
    pytest.importorskip("onnxruntime")
    folder, _ = calibrated
    temperature = load_network(folder)[1].temperature
    network, origin = load_network(folder)
    pv.set_slope(network, 1)
    images = torch.stack([pv.load(folder).transform(Image.open(path)) for path in photographs])
    with torch.inference_mode():
        wanted = (network(images) / temperature).softmax(1).amax(1).tolist()
    pv.deploy.export(
        network,
        tmp_path / "out",
        preprocessing=pv.deploy.Preprocessing.of(DATA),
        classes=origin.classes,
        temperature=temperature,
    )
    deployed = pv.deploy.load(tmp_path / "out")
    assert deployed.description.temperature == temperature
    answers = list(deployed.predict(photographs))
    words = [sys.executable, str(tmp_path / "out" / "predict.py"), *map(str, photographs)]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    evaluated = list(pv.predict(tmp_path / "out", photographs))
    for answer, other, line, path in zip(answers, evaluated, printed, photographs, strict=True):
        assert line.split() == [str(path), answer.classes[0], str(round(answer.confidences[0], 6))]
        assert answer.classes == other.classes
        assert other.confidences == pytest.approx(answer.confidences, abs=1e-5)
    assert [answer.confidences[0] for answer in answers] == pytest.approx(wanted, abs=1e-4)


def test_fuse_and_deploy_keep_it(calibrated, tmp_path):
    network, origin = load_network(calibrated[0])
    pv.set_slope(network, 1)
    save_network(tmp_path / "trained.safetensors", network.state_dict(), origin)
    fused = plainvision("fuse", tmp_path / "trained.safetensors", "--out", tmp_path / "fused.safetensors")
    assert (fused.status, fused.err) == (0, "")
    assert load_network(tmp_path / "fused.safetensors")[1].temperature == origin.temperature
    deployed = plainvision("deploy", tmp_path / "fused.safetensors", "--to", "torch", "--out", tmp_path / "out")
    assert (deployed.status, deployed.err) == (0, "")
    assert pv.deploy.load(tmp_path / "out").description.temperature == origin.temperature


def test_what_can_be_no_temperature_is_refused(calibrated, tmp_path):
    folder, _ = calibrated
    tensors, words = read_safetensors(folder / "best.safetensors")
    header = json.loads(words["plainvision"])
    for value in (math.nan, -1.0, 0.0, "hot", 1e9, None, [1.0]):
        words["plainvision"] = json.dumps(header | {"temperature": value})
        save_tensors(tmp_path / "bad.safetensors", tensors, words)
        ended = plainvision("evaluate", tmp_path / "bad.safetensors")
        assert said(ended, "the header of", "does not describe a network", "temperature")


def test_nothing_takes_what_can_be_no_temperature(calibrated, photographs, tmp_path):
    network, _ = load_network(calibrated[0])
    pv.set_slope(network, 1)
    how = pv.deploy.Preprocessing.of(DATA)
    for act in (
        lambda: pv.predict(calibrated[0], photographs, temperature=0.0),
        lambda: evaluate(network, DATA, temperature=-1.0),
        lambda: pv.deploy.export(network, tmp_path / "out", preprocessing=how, temperature=math.nan),
    ):
        with pytest.raises(ValueError, match=r"temperature=.* is no temperature"):
            act()
    assert not (tmp_path / "out").exists()


def test_a_deployed_folder_is_calibrated_itself(trained, tmp_path):
    network, origin = load_network(trained)
    preprocessing = pv.deploy.Preprocessing.of(DATA)
    pv.set_slope(network, 1)
    pv.deploy.export(network, tmp_path / "out", preprocessing=preprocessing, format="torch", classes=origin.classes)
    words = ("--data.root", "digits", "--data.validation-per-class", 30, "--data.workers", 0)
    ended = plainvision("evaluate", tmp_path / "out", *words, "--calibrate")
    assert (ended.status, ended.err) == (0, "")
    assert f"kept in {tmp_path / 'out' / 'deploy.json'}" in ended.out
    temperature = pv.deploy.load(tmp_path / "out").description.temperature
    assert temperature != 1
    for value in (-2, 1e7, "hot"):
        about = read_object(tmp_path / "out" / "deploy.json")
        write_json(tmp_path / "out" / "deploy.json", about | {"temperature": value})
        with pytest.raises(ValueError, match=r"deploy\.json.*temperature"):
            pv.deploy.load(tmp_path / "out")


def test_a_network_by_name_has_no_place_for_it(tmp_path):
    torch.manual_seed(0)
    words = ("evaluate", "resnet20_cifar", "--checkpoint", tmp_path / "none.pth", "--calibrate")
    assert said(plainvision(*words), "resnet20_cifar is a network by name", "`plainvision fuse` writes a file")


def test_a_run_that_is_training_is_left_alone(trained):
    before = (trained / "best.safetensors").read_bytes()
    with locked(trained):
        assert said(plainvision("evaluate", trained, "--calibrate"), f"{trained} is in use by another process")
    assert (trained / "best.safetensors").read_bytes() == before
