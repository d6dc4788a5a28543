import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import plainvision as pv
from plainvision.bench.race import race, ratios
from plainvision.deploy import Examination, Preprocessing, load, tune
from plainvision.deploy import candidates as candidates_module
from plainvision.deploy import tuning as tuning_module
from plainvision.deploy.candidates import Candidate
from plainvision.deploy.forms import Form
from plainvision.deploy.process_memory import process_growth_mb
from plainvision.figures.forms import forms_figure

SMALL = Preprocessing(image_size=32, crop_ratio=1.0)
CLASSES = tuple(f"class {i}" for i in range(10))
TORCH = [Form("torch"), Form("torch", "bf16", channels_last=True), Form("onnx"), Form("onnx", "int8")]


@pytest.fixture
def some_forms(monkeypatch):
    pytest.importorskip("onnxruntime")

    def few(precisions, *, device="cpu", labelled=False):
        missing = Candidate(Form("openvino"), "openvino needs the package `openvino`, which is not installed.")
        return [*(Candidate(form) for form in TORCH if form.precision in precisions), missing]

    monkeypatch.setattr(tuning_module, "candidates", few)
    monkeypatch.setattr(tuning_module, "process_growth_mb", lambda *words: 12.5)


def examined(network, allow_loss=100.0):
    images = [np.random.default_rng(i).normal(size=(1, 3, 32, 32)).astype(np.float32) for i in range(24)]
    folder = [type("B", (), {"images": torch.from_numpy(one), "labels": None})() for one in images[8:]]
    return Examination(images[:8], folder, allow_loss)


def tuned(network, folder, **options):
    given = {"preprocessing": SMALL, "classes": CLASSES, "examination": examined(network), "threads": [1]} | options
    return tune(network, folder, **given)


def test_the_fastest_form_that_passes_is_delivered(network, some_forms, tmp_path):
    tuning = tuned(network, tmp_path / "out", seconds=60)
    rows = {form.name: form for form in tuning.forms}
    passing = [form for form in tuning.forms if form.verdict == "passes" and form.name != "eager"]
    assert tuning.winner == min(passing, key=lambda form: form.p50_ms)
    assert set(rows) == {"eager", "torch fp32", "torch bf16 channels last", "onnx fp32", "onnx int8", "openvino fp32"}
    assert rows["openvino fp32"].verdict == "not tried"
    assert "not installed" in rows["openvino fp32"].note
    assert rows["onnx int8"].memory_mb == 12.5
    assert rows["eager"].ratio == pytest.approx(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"deploy.json", "report.html", "predict.py", "tuning.json"} < there
    said = json.loads((tmp_path / "out" / "deploy.json").read_text())
    assert said["tuned"]["threads"] == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert tuning.winner.name in page
    assert "accuracy was not measured" in page
    deployed = load(tmp_path / "out")
    answers = list(deployed.predict([Image.new("RGB", (40, 40))]))
    assert answers[0].classes[0] in CLASSES


def test_only_forms_that_pass_may_win(network, some_forms, tmp_path):
    tuning = tuned(network, tmp_path / "out", examination=examined(network, allow_loss=0.001), seconds=60)
    assert tuning.winner.name in ("torch fp32", "onnx fp32")
    assert {form.verdict for form in tuning.forms if "int8" in form.name or "bf16" in form.name} <= {
        "fails",
        "cannot tell",
    }


def test_without_images_only_fp32_may_win(network, some_forms, tmp_path):
    tuning = tuned(network, tmp_path / "out", examination=None, seconds=60)
    rows = {form.name: form for form in tuning.forms}
    assert "int8 needs images to calibrate on" in rows["onnx int8"].note
    assert rows["torch bf16 channels last"].verdict == "cannot tell"
    assert "fp32" in tuning.winner.name


def test_a_stopped_call_goes_on_with_the_forms_that_were_written(network, some_forms, tmp_path, monkeypatch):
    written = []
    right = tuning_module.write_form

    def stopped(source, form, made):
        if form.format == "onnx":
            raise KeyboardInterrupt
        written.append(str(form))
        return right(source, form, made)

    monkeypatch.setattr(tuning_module, "write_form", stopped)
    with pytest.raises(KeyboardInterrupt):
        tuned(network, tmp_path / "out", seconds=60)
    assert written == ["torch fp32", "torch bf16 channels last"]

    def counted(source, form, made):
        written.append(str(form))
        return right(source, form, made)

    monkeypatch.setattr(tuning_module, "write_form", counted)
    tuned(network, tmp_path / "out", seconds=60)
    assert written == ["torch fp32", "torch bf16 channels last", "onnx fp32", "onnx int8"]


def test_another_network_begins_anew(network, some_forms, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning_module, "_timed", lambda *words: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tuned(network, tmp_path / "out", precisions=("fp32",), seconds=60)
    kept = tmp_path / ".out.tuning" / "torch-fp32" / "deploy.json"
    before = json.loads(kept.read_text())["source"]
    other = pv.create_model("vanillanet_6", width=1 / 64, num_classes=10).eval()
    pv.set_slope(other, 1)
    with pytest.raises(KeyboardInterrupt):
        tuned(other, tmp_path / "out", precisions=("fp32",), seconds=60)
    assert json.loads(kept.read_text())["source"] != before


def test_forms_for_which_there_is_no_time_are_named(network, some_forms, tmp_path, monkeypatch):
    clock = iter(range(0, 10**6, 10))
    monkeypatch.setattr(tuning_module.time, "monotonic", lambda: float(next(clock)))
    tuning = tuned(network, tmp_path / "out", seconds=30)
    late = [form for form in tuning.forms if "there was no time left: give more seconds" in form.note]
    assert late
    assert tuning.winner.p50_ms


def test_nothing_that_passes_is_an_error_that_names_each_form(network, some_forms, tmp_path):
    with pytest.raises(ValueError, match=r"no form passes: onnx int8: (fails|cannot tell), .*Allow a larger loss"):
        tuned(network, tmp_path / "out", precisions=("int8",), examination=examined(network, 0.001), seconds=60)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"batch_size": 0}, r"batch_size=0"), ({"seconds": 0}, r"seconds=0"), ({"precisions": ()}, "=()")],
)
def test_wrong_arguments_are_said(network, tmp_path, wrong, said):
    with pytest.raises(ValueError, match=said):
        tuned(network, tmp_path / "out", **wrong)


def test_a_machine_without_an_extra_says_how_to_install_it(monkeypatch):
    def none(name, precision, device):
        raise ImportError(f'{name} needs the package. pip install "plainvision[deploy]"')

    monkeypatch.setattr(candidates_module, "format_called", none)
    found = candidates_module.candidates(("fp32", "int8"), labelled=True)
    assert all("plainvision[deploy]" in one.missing for one in found)
    assert len({one.slug for one in found}) == len(found)


def test_a_race_drops_what_is_behind_and_keeps_rounds_comparable():
    clock = {"now": 0.0}
    seen = []

    def work(name, seconds):
        def run():
            seen.append(name)
            clock["now"] += seconds

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plainvision.bench.race.time.perf_counter", lambda: clock["now"])
        works = {"slow": work("slow", 0.5), "quick": work("quick", 0.1), "barred": work("barred", 0.01)}
        times = race(works, may_win={"slow", "quick"}, rounds=40, seconds=1000)
    assert len(times["quick"]) > len(times["slow"]) == len(times["barred"])
    assert ratios(times, "quick", "slow") == pytest.approx([5.0] * len(times["slow"]))
    with pytest.raises(ValueError, match=r"none of the works may win"):
        race({"a": lambda: None}, may_win={"b"})


def test_memory_is_the_growth_of_a_fresh_process(network, tmp_path):
    pv.deploy.export(network, tmp_path / "out", preprocessing=SMALL, format="torch")
    found = process_growth_mb(tmp_path / "out", 1, 1)
    if found is None:
        pytest.skip("this system does not tell a process's peak")
    assert 0.5 < found < 2000
    assert process_growth_mb(tmp_path / "nowhere", 1, 1) is None


@pytest.mark.parametrize("format", ["onnx", "openvino", "torch"])
def test_the_script_of_a_folder_predicts_without_this_package(network, tmp_path, format):
    if format != "torch":
        pytest.importorskip({"onnx": "onnxruntime"}.get(format, format))
    pv.deploy.export(network, tmp_path / "out", preprocessing=SMALL, format=format, classes=CLASSES)
    script = (tmp_path / "out" / "predict.py").read_text()
    assert len(script.splitlines()) <= 25
    assert "plainvision" not in script
    pixels = np.random.default_rng(0).integers(0, 256, (45, 61, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    words = [sys.executable, str(tmp_path / "out" / "predict.py"), str(tmp_path / "photo.png")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
    (answer,) = load(tmp_path / "out").predict([tmp_path / "photo.png"], top=1)
    assert answer.classes[0] in done.stdout


def test_a_deployed_folder_is_timed_and_evaluated_as_a_network(network, tmp_path, capsys):
    from plainvision.commands import main

    pv.deploy.export(network, tmp_path / "out", preprocessing=SMALL, format="torch", classes=CLASSES)
    module = load(tmp_path / "out").module()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(module(images), network(images), rtol=1e-4, atol=1e-4)
    (found,) = pv.bench.measure(module, image_size=32, runs=6)
    assert found.parameters == pv.bench.count_parameters(pv.fuse(network))
    assert found.peak_memory_mb is None or found.peak_memory_mb > 0.5
    with pytest.raises(ValueError, match=r"a deployed network takes float32 images on the CPU"):
        module(images.double())
    for i, name in enumerate(CLASSES):
        for split in ("train", "validation"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            Image.new("RGB", (40, 40), (20 * i, 200 - 20 * i, 90)).save(tmp_path / "photos" / split / name / "1.png")
    words = ["evaluate", str(tmp_path / "out"), "--data.root", str(tmp_path / "photos"), "--data.workers", "0"]
    main([*words, "--csv", str(tmp_path / "out.csv")])
    assert "10 images of" in capsys.readouterr().out
    predicted = [line.split(",")[2] for line in (tmp_path / "out.csv").read_text().splitlines()[1:]]
    photos = sorted((tmp_path / "photos" / "validation").rglob("*.png"))
    assert predicted == [answer.classes[0] for answer in load(tmp_path / "out").predict(photos, top=1)]
    with pytest.raises(SystemExit):
        main(words[:2])
    assert "a deployed folder has no data set." in capsys.readouterr().err


def row(name, time, **further):
    kept = {"accuracy": 90.0, "lowest_accuracy": 89.5, "verdict": "passes", "threads": 1}
    return {"name": name, "p50_ms": time} | kept | further


def test_the_figure_shows_each_form_once_and_rings_the_fastest_that_passes():
    rows = [
        row("onnx int8", 1.0, verdict="fails", accuracy=80.0, lowest_accuracy=78.0),
        row("onnx fp32", 2.0),
        row("onnx fp32", 3.0, threads=2),
        row("eager", 9.0, accuracy=None, lowest_accuracy=None),
        row("compiled fp32", None),
    ]
    (axes,) = forms_figure(rows, least=89.0, batch_size=1).axes
    markers = [(line.get_xdata()[0], line.get_markersize()) for line in axes.lines if len(line.get_xdata()) == 1]
    assert sorted(markers) == [(1.0, 6), (2.0, 6), (2.0, 11)]
    assert any(list(line.get_xdata()) == [9.0, 9.0] for line in axes.lines)  # eager mode


def test_without_accuracy_the_figure_shows_times_alone():
    rows = [row("onnx fp32", 2.0, accuracy=None), row("eager", 9.0, accuracy=None)]
    (axes,) = forms_figure(rows, least=None, batch_size=4).axes
    assert [patch.get_width() for patch in axes.patches] == [9.0, 2.0]
    assert "4 images" in axes.get_xlabel()
    with pytest.raises(ValueError, match=r"no form was timed"):
        forms_figure([row("onnx fp32", None)], least=None, batch_size=1)
