"""`plainvision dynamic evaluate`: its help, its words, its outcomes, and how far it is."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from commands.dynamic.running import DILATIONS, STRIDES, cells, failure, good, outcomes, plainvision, record
from safetensors.torch import save_file

import plainvision as pv
from plainvision.commands import dynamic
from plainvision.commands.dynamic import progress
from plainvision.commands.dynamic.space import SpaceOptions
from plainvision.commands.options.network import NetworkOptions
from plainvision.training.weights_file import load_network


def test_help_lists_the_verbs_and_there_is_no_other():
    shown = plainvision()
    assert shown == plainvision("--help") == plainvision("-h")
    assert shown.status == 0
    for verb, what in dynamic.VERBS.items():
        assert f"  {verb} " in shown.out
        assert what in shown.out


def test_help_of_each_verb_shows_an_example_and_loads_nothing_heavy():
    code = (
        "import contextlib, io, json, sys\n"
        "from plainvision.commands import main\n"
        "found = {}\n"
        "for verb in json.loads(sys.argv[1]):\n"
        "    text = io.StringIO()\n"
        "    with contextlib.redirect_stdout(text):\n"
        "        try: main(['dynamic', verb, '--help'])\n"
        "        except SystemExit as ended: assert not ended.code\n"
        "    found[verb] = text.getvalue()\n"
        "heavy = ('torch', 'torchvision', 'timm', 'numpy', 'matplotlib', 'accelerate')\n"
        "print(json.dumps([found, [name for name in heavy if name in sys.modules]]))"
    )
    words = [sys.executable, "-c", code, json.dumps(list(dynamic.VERBS))]
    found, loaded = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert loaded == []
    for verb, text in found.items():
        assert f"Example: plainvision dynamic {verb} " in text


def test_an_unknown_verb_gets_a_suggestion():
    assert failure("evalate") == (
        "unknown command 'dynamic evalate'. Did you mean evaluate? `plainvision dynamic --help` lists them."
    )


# evaluate


def test_evaluate_writes_the_outcomes_that_the_library_computes(place):
    network, origin = load_network(place.run)
    space = pv.dynamic.Space(stride={"A": (1, 2), "D": (1, 2)})
    data = replace(origin.recipe.data, root=str(place.images))
    made = pv.dynamic.evaluate(pv.dynamic.DynamicNetwork(network, space=space, image_size=16), data)
    found = outcomes(place.strides)
    np.testing.assert_array_equal(found.predictions, made.predictions)
    np.testing.assert_allclose(found.log_confidences, made.log_confidences, rtol=1e-4, atol=1e-5)
    assert found.permutations == made.permutations
    assert found.names == made.names
    assert len(found.names) == 12


def test_evaluate_prints_scores_and_writes_a_record_and_a_figure(place):
    assert place.said.startswith(
        "resnet20_cifar: 4 permutations of stride at A conv1, B layer1.0.conv1, C layer2.0.conv1, D layer3.0.conv1\n"
    )
    scores = outcomes(place.strides).scores()
    rows = cells(place.said)
    for row in scores:
        assert [*row["what"].split(), *row["uses the labels"].split(), f"{row['top-1 %']:.2f}"] in rows
    assert "12 images, 4 permutations. An oracle is told the true class: its scores are bounds" in place.said
    assert f"Next: plainvision dynamic bounds {place.strides}" in place.said
    figures = record(place.strides / "scores.json")
    assert figures["scores"] == scores
    assert (figures["images"], figures["permutations"], figures["left_out"]) == (12, 4, {})
    assert (place.strides / "unique_predictions.png").stat().st_size > 5000


def test_what_is_left_out_is_said_with_its_reason(place, tmp_path):
    said = good("evaluate", *place.words, "--size", "A=2,3", "--no-controls", "--out", tmp_path / "a")
    said += good("evaluate", *place.words, "--size", "C=2,3", "--no-controls", "--out", tmp_path / "b")
    assert said.count("1 permutations of size") == 1
    assert "; 1 left out\n" in said
    assert "1 permutations are left out: two paths of the network no longer meet in the same size" in said
    assert "input zooms" not in said


def test_a_stopped_evaluation_goes_on_by_the_same_command(place, tmp_path, monkeypatch):
    words = ("evaluate", *place.words, *STRIDES, "--data.validation-split", "test", "--batch-size", 1)
    words = (*words, "--no-controls", "--out", tmp_path / "out")
    seen: list[tuple[int, int | None]] = []

    def note(self, images, total):
        seen.append((images, total))
        if len(seen) == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(progress.EvaluationProgress, "__call__", note)
    stopped = plainvision(*words)
    assert stopped.status == 130
    assert stopped.err.startswith(f"plainvision: stopped; what is finished is in {tmp_path / 'out'}. The same command")
    assert shlex.split(stopped.err.splitlines()[-1]) == ["plainvision", "dynamic", *map(str, words)]
    assert failure("bounds", tmp_path / "out") == (
        f"the evaluation in {tmp_path / 'out'} is not finished. Go on with the same command that began it."
    )
    good(*words)
    assert seen[-1] == (10, 10)  # of 18; the first 8 were there
    assert len(outcomes(tmp_path / "out").names) == 18
    calls = len(seen)
    assert "18 images" in good(*words)
    assert len(seen) == calls
    said = failure(*words, "--stride", "1,2")
    assert f"{tmp_path / 'out'} holds an evaluation of something else: it differs in permutations" in said


def test_images_that_cannot_be_read_are_counted(place, tmp_path):
    shutil.copytree(place.images / "test", tmp_path / "images" / "test")
    (tmp_path / "images" / "test" / "dots" / "torn.png").write_bytes(b"torn")
    data = ("--data.root", tmp_path / "images", "--data.validation-split", "test")
    said = good("evaluate", *place.words, *STRIDES, *data, "--no-controls", "--out", tmp_path / "out")
    assert re.search(r"skipped \S*dots/torn\.png \(", said)
    assert "18 images, 4 permutations" in said


def test_scale_and_context_are_conditions_of_the_images(place, tmp_path):
    words = ("evaluate", *place.words, *DILATIONS, "--no-controls", "--no-share")
    good(*words, "--scale", 2, "--out", tmp_path / "scale")
    good(
        *words, "--context", 12, "--out", tmp_path / "context", "--figure", tmp_path / "a.pdf", "--json", tmp_path / "b"
    )
    scaled, cropped = outcomes(tmp_path / "scale"), outcomes(tmp_path / "context")
    assert (scaled.condition, cropped.condition) == ({"scale": 2.0}, {"context": 12})
    plain = outcomes(place.dilations)
    assert scaled.permutations == cropped.permutations == plain.permutations
    assert scaled.static_macs > 3.5 * plain.static_macs > 3.5 * cropped.static_macs
    assert (tmp_path / "a.pdf").exists()
    assert (tmp_path / "b").exists()
    assert not list((tmp_path / "context").glob("*.png"))


def test_the_paper_s_options_are_the_default(place, tmp_path):
    words = ("evaluate", *place.words, "--data.validation-per-class", 1, "--no-controls")
    said = good(*words, "--sites", "layer2.0.conv1", "layer3.0.conv1", "--out", tmp_path / "a")
    sites = {"A": "layer2.0.conv1", "B": "layer3.0.conv1"}
    network = pv.dynamic.DynamicNetwork(load_network(place.run)[0], sites=sites, space="stride", image_size=16)
    left = sum(network.left_out.values())
    assert f"{len(network.permutations)} permutations of stride" in said
    assert f"; {left} left out\n" in said
    assert outcomes(tmp_path / "a").left_out == network.left_out


# What is evaluated, as words


def test_networks_come_by_name_from_us_timm_and_torchvision(tmp_path):
    ours = pv.create_model("resnet20_cifar", num_classes=10)
    save_file(ours.state_dict(), tmp_path / "ours.safetensors")
    found = NetworkOptions(
        network="resnet20_cifar:num_classes=10", checkpoint=str(tmp_path / "ours.safetensors")
    ).load()
    torch.testing.assert_close(found.model.state_dict(), ours.state_dict())
    assert (found.data.image_size, found.data.crop_ratio, found.classes) == (32, 1.0, None)

    theirs = torchvision.models.resnet18(num_classes=7)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    path = str(tmp_path / "theirs.pth")
    found = NetworkOptions(network="torchvision/resnet18:num_classes=7", checkpoint=path).load()
    torch.testing.assert_close(found.model.state_dict(), theirs.state_dict())
    assert found.name == "torchvision/resnet18"
    assert (found.data.image_size, found.data.interpolation) == (224, "bilinear")
    assert round(found.data.image_size / found.data.crop_ratio) == 256
    assert not found.model.training


def test_options_are_read_from_words():
    assert SpaceOptions(stride=("A=1/2,1", "B=2")).values() == {"stride": {"A": (0.5, 1), "B": (2,)}}
    assert SpaceOptions(dilation=("1,2,3",), size=("A=1",)).values() == {"dilation": (1, 2, 3), "size": {"A": (1,)}}
    assert SpaceOptions().space() == pv.dynamic.Space.paper("stride")
    assert SpaceOptions(attribute="size").space() == pv.dynamic.Space.paper("size")
    assert SpaceOptions(sites=("x", "y.z")).layers() == {"A": "x", "B": "y.z"}
    assert SpaceOptions(sites=("in=x", "out=y.z")).layers() == {"in": "x", "out": "y.z"}
    assert SpaceOptions().layers() is None


# Progress


def test_where_there_is_no_terminal_a_line_about_each_minute_tells_the_time_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.EvaluationProgress(visible=True) as images, progress.EvaluationProgress(visible=False) as hidden:
        for seconds, done in ((30, 10), (61, 20), (100, 30), (125, 40)):
            now[0] = seconds
            images(done, 1000)
            hidden(done, 1000)
        now[0] = 300
        images(50, None)
    assert capsys.readouterr().out.splitlines() == [
        "20 of 1000 images, about 50 min left",
        "40 of 1000 images, about 50 min left",
        "50 images",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "about 1 s"), (89, "about 89 s"), (91, "about 2 min"), (7200, "about 2 h"), (400000, "about 5 days")],
)
def test_times_are_told_roughly(seconds, words):
    assert progress.duration(seconds) == words
