"""Forms on a GPU: what runs there, and what a machine without one says."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import plainvision as pv
from plainvision.deploy import Preprocessing, load, tune
from plainvision.deploy.candidates import candidates
from plainvision.deploy.forms import Form
from plainvision.deploy.process_memory import process_growth_mb
from plainvision.deploy.source import Source
from plainvision.deploy.writing import write_form

SMALL = Preprocessing(image_size=32, crop_ratio=1.0)
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@without_gpu
def test_exporting_for_a_gpu_wants_one(network, tmp_path):
    with pytest.raises(ValueError, match=r"device='cuda' is not on this machine.*Give 'cpu'"):
        pv.deploy.export(network, tmp_path / "out", preprocessing=SMALL, format="torch", device="cuda")
    assert list(tmp_path.iterdir()) == []


@without_gpu
def test_tuning_for_a_gpu_wants_one(network, tmp_path):
    with pytest.raises(ValueError, match=r"device='cuda' is not on this machine"):
        tune(network, tmp_path / "out", preprocessing=SMALL, device="cuda")
    assert list(tmp_path.iterdir()) == []


def test_tuning_knows_two_kinds_of_device(network, tmp_path):
    with pytest.raises(ValueError, match=r"device='mps' is no kind of device that forms are written for: cpu, cuda"):
        tune(network, tmp_path / "out", preprocessing=SMALL, device="mps")


@without_gpu
def test_a_folder_for_a_gpu_says_so_where_there_is_none(network, tmp_path):
    pv.deploy.export(network, tmp_path / "out", preprocessing=SMALL, format="torch")
    path = tmp_path / "out" / "deploy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "cuda"}))
    with pytest.raises(ValueError, match=r"was written for cuda, which this machine lacks. Export .* for the CPU"):
        load(tmp_path / "out")


@pytest.mark.parametrize(
    ("format", "precision", "device", "message"),
    [
        ("openvino", "fp32", "cuda", r"openvino offers no fp32 on cuda, only the CPU. fp32 is offered by onnx, torch"),
        ("compiled", "fp32", "cuda", r"compiled offers no fp32 on cuda, only the CPU"),
        ("torch", "int8", "cuda", r"torch offers no int8 on cuda, only fp32, tf32, bf16, fp16. Give one of these"),
        ("torch", "tf32", "cpu", r"torch offers no tf32, only fp32, bf16, fp16"),
    ],
)
def test_what_a_format_cannot_compute_there(network, format, precision, device, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pv.deploy.export(
            network, tmp_path / "out", preprocessing=SMALL, format=format, precision=precision, device=device
        )


def test_candidates_for_a_gpu_run_there():
    pytest.importorskip("onnxruntime")
    found = candidates(("fp32", "fp16"), device="cuda")
    assert {one.form.device for one in found} == {"cuda"}
    assert {one.form.precision for one in found} == {"fp32", "fp16"}
    assert Form("torch", "fp16", channels_last=True, device="cuda", graph=True) in [one.form for one in found]
    assert len({one.slug for one in found}) == len(found)


def test_a_file_may_be_compiled_as_it_is_loaded(network, tmp_path):
    source = Source.of(network, SMALL)
    report = write_form(source, Form("torch", compile=True), tmp_path / "out")
    assert report.largest_relative_error < 1e-4
    deployed = load(tmp_path / "out")
    assert deployed.description.compile
    images = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        expected = source.deployed(images)
    torch.testing.assert_close(torch.from_numpy(deployed.run(images.numpy())[0]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("compiled", "graph", "precision"),
    [
        *((False, graph, precision) for graph in (False, True) for precision in ("fp32", "tf32", "bf16", "fp16")),
        (True, True, "fp32"),
        (True, True, "fp16"),
        (True, False, "tf32"),
    ],
)
def test_a_form_on_a_gpu_answers_as_the_network(network, compiled, graph, precision, tmp_path):
    source = Source.of(network, SMALL)
    form = Form("torch", precision, device="cuda", compile=compiled, graph=graph)
    report = write_form(source, form, tmp_path / "out")
    assert report.largest_relative_error < (1e-4 if precision == "fp32" else 3e-2)
    deployed = load(tmp_path / "out")
    for count in (1, 3, 2, 5, 4, 1):  # more shapes than graphs are kept
        images = np.random.default_rng(count).normal(size=(count, 3, 32, 32)).astype(np.float32)
        with torch.inference_mode():
            expected = source.deployed(torch.from_numpy(images)).numpy()
        found = deployed.run(images)[0]
        assert np.abs(found - expected).max() < 3e-2 * np.abs(expected).max()
        assert np.array_equal(found, deployed.run(images)[0])


@pytest.mark.gpu
def test_tuning_on_a_gpu_finds_a_form_and_its_memory(network, tmp_path):
    tuning = tune(network, tmp_path / "out", preprocessing=SMALL, device="cuda", precisions=["fp32"], seconds=60)
    assert tuning.winner.name.split()[0] in ("torch", "compiled", "onnx")
    timed = [form for form in tuning.forms if form.p50_ms is not None and form.name != "eager"]
    assert "torch fp32 graph" in {form.name for form in timed}
    assert all(form.memory_mb is not None and form.memory_mb > 0.1 for form in timed)
    assert process_growth_mb(tmp_path / "out", 1) is not None
    Image.new("RGB", (50, 40), "red").save(tmp_path / "red.png")
    words = [sys.executable, str(tmp_path / "out" / "predict.py"), str(tmp_path / "red.png")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=300)
    answer = next(load(tmp_path / "out").predict([tmp_path / "red.png"], top=1))
    assert done.stdout.split()[-1] == answer.classes[0]
