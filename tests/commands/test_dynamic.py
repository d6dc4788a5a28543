"""`plainvision dynamic`: what its verbs print and write, and what they say when something is wrong."""

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from networks_for_tests import trained
from PIL import Image
from safetensors.torch import save_file

import plainvision as pv
from plainvision import commands
from plainvision.commands import dynamic
from plainvision.commands.dynamic import progress
from plainvision.commands.dynamic.space import SpaceOptions
from plainvision.commands.options.network import NetworkOptions
from plainvision.data.batches import EvaluationBatches
from plainvision.dynamic import Outcomes
from plainvision.dynamic.comparisons import preference_series, rows_by_layers, view_curves
from plainvision.models.resnet_cifar import ResNetCifar
from plainvision.training import loop
from plainvision.training.recipe import Data, Recipe
from plainvision.training.weights_file import Origin, build_network, load_network, save_network

NAMES = ("dots", "lines", "rings")
STRIDES = ("--stride", "A=1,2", "D=1,2")
DILATIONS = ("--dilation", "A=1,2", "D=1,2")


@dataclass(frozen=True)
class Ended:
    """What a command leaves behind: an exit status and two texts."""

    status: int
    out: str
    err: str


def plainvision(*words: object) -> Ended:
    """Run `plainvision dynamic` in this process; an exception that would reach the user fails the test."""
    out, err = io.StringIO(), io.StringIO()
    status: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            commands.main(["dynamic", *map(str, words)])
        except SystemExit as ended:
            status = ended.code
    assert "Traceback" not in out.getvalue() + err.getvalue()
    return Ended(status or 0, out.getvalue(), err.getvalue())


def good(*words: object) -> str:
    """Return what a command prints that succeeds in silence."""
    ended = plainvision(*words)
    assert (ended.status, ended.err) == (0, "")
    return ended.out


def failure(*words: object) -> str:
    """Return what the command says when it gives up, as bad input makes it."""
    ended = plainvision(*words)
    said = " ".join(ended.err.split())
    assert ended.status == 2, said
    return said.removeprefix("plainvision: ")


def cells(text: str) -> list[list[str]]:
    """Return the words of each line."""
    return [line.split() for line in text.splitlines() if line.strip()]


def record(path: Path) -> dict[str, Any]:
    """Return the figures of a record, which tells nothing of this machine's folders."""
    text = path.read_text()
    assert str(path.parent.parent) not in text
    return json.loads(text)["figures"]


@dataclass(frozen=True)
class Place:
    """A run, its images, and outcomes of it."""

    folder: Path
    run: Path
    images: Path
    strides: Path
    dilations: Path
    said: str

    @property
    def words(self) -> tuple[str | Path, ...]:
        """The run with its images, as options."""
        return self.run, "--data.root", self.images


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    folder = tmp_path_factory.mktemp("dynamic")
    images, run = folder / "images", folder / "run"
    pixels = np.random.default_rng(0)
    for split, count in (("train", 4), ("validation", 4), ("test", 6)):
        for number, name in enumerate(NAMES):
            (images / split / name).mkdir(parents=True)
            for index in range(count):
                picture = pixels.integers(0, 80 + 80 * number, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(picture).save(images / split / name / f"{index}.png")
    data = Data(root=str(images), image_size=16, crop_ratio=1.0, workers=0)
    made(run, Recipe(name="tiny", model="resnet20_cifar", model_options={"width": 0.5}, data=data))
    said = good("evaluate", run, "--data.root", images, *STRIDES, "--out", folder / "strides")
    good("evaluate", run, "--data.root", images, *DILATIONS, "--out", folder / "dilations")
    return Place(folder, run, images, folder / "strides", folder / "dilations", said)


def made(run: Path, recipe: Recipe, seed: int = 0) -> None:
    """Write a run of that recipe, which was never trained."""
    run.mkdir()
    network = trained(build_network(recipe, len(NAMES), 0), seed)
    if isinstance(network, ResNetCifar):
        learn_classifier(network, recipe.data)
    save_network(run / "best.safetensors", network.state_dict(), Origin(recipe, NAMES, 0))


def learn_classifier(network: ResNetCifar, data: Data) -> None:
    """Let the classifier fit the training images, or all answers would be the same one."""
    (batch,) = EvaluationBatches(replace(data, validation_split="train"), batch_size=99)
    with torch.no_grad():
        features = network.forward_head(network.forward_features(batch.images), pre_logits=True)
        features = torch.cat([features, torch.ones(len(features), 1)], 1)
        wanted = torch.nn.functional.one_hot(batch.labels, len(NAMES)).float()
        weights = torch.linalg.solve(features.T @ features + 1e-2 * torch.eye(features.shape[1]), features.T @ wanted).T
        network.linear.weight.copy_(weights[:, :-1])
        network.linear.bias.copy_(weights[:, -1])


def outcomes(folder: Path) -> Outcomes:
    return Outcomes.load(folder / "outcomes.safetensors")


# Help


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


# What was evaluated


def test_bounds_are_shown_by_layers_beside_controls_of_equal_number(place):
    said = good("bounds", place.strides)
    found = outcomes(place.strides)
    figures = record(place.strides / "bounds.json")
    assert figures["bounds"] == {"stride": rows_by_layers(found)}
    rows = figures["bounds"]["stride"]
    assert [row["layers"] for row in rows] == ["A", "D", "AD"]
    for row in rows:
        chosen = found.restrict(row["layers"])
        bounds, count = chosen.bounds(), len(chosen.permutations)
        oracles = {one.name: one.top1 for one in chosen.controls() if one.uses_labels}
        assert row["permutations"] == count
        assert (row["static"], row["worst"], row["median"], row["best"]) == (
            *(bounds.static, bounds.worst, bounds.median, bounds.best),
        )
        assert row["controls"]["input zooms"] == oracles[f"best of {count} input zooms"]
        assert row["controls"]["labels shuffled"] == oracles["labels shuffled"]
        numbers = (bounds.static, bounds.worst, bounds.median, bounds.best, bounds.volatility, *oracles.values())
        assert [row["layers"], str(count), *(f"{number:.2f}" for number in numbers)] in cells(said)
    assert (place.strides / "layer_choice.png").stat().st_size > 5000


def test_bounds_of_several_outcomes_stand_in_one_table(place, tmp_path):
    said = good("bounds", place.strides, place.dilations / "outcomes.safetensors", "--json", tmp_path / "x" / "b.json")
    firsts = [row[0] for row in cells(said)]
    begin = firsts.index("stride")
    assert firsts[begin : begin + 8] == ["stride", "A", "D", "AD", "dilation", "A", "D", "AD"]
    assert list(record(tmp_path / "x" / "b.json")["bounds"]) == ["stride", "dilation"]
    said = good("bounds", place.strides, place.dilations, "--no-layers", "--json", tmp_path / "x" / "b.json")
    for name, folder in (("stride", place.strides), ("dilation", place.dilations)):
        best = f"{outcomes(folder).bounds().best:.2f}"
        assert any(row[:2] == [name, "4"] and best in row for row in cells(said))
    assert "--figure draws the layers of one network" in failure(
        "bounds", place.strides, place.dilations, "--figure", tmp_path / "a.png"
    )


def test_outcomes_are_told_apart_by_their_folders_where_nothing_else_differs(place, tmp_path):
    for name in ("before", "after"):
        shutil.copytree(place.strides, tmp_path / name / "outcomes")
        shutil.copy(place.strides / "outcomes.safetensors", tmp_path / f"{name}.safetensors")
    good("bounds", *(tmp_path / name / "outcomes" for name in ("before", "after")))
    assert list(record(tmp_path / "before" / "outcomes" / "bounds.json")["bounds"]) == [
        "before/outcomes",
        "after/outcomes",
    ]
    good("bounds", *(tmp_path / f"{name}.safetensors" for name in ("before", "after")))
    assert list(json.loads((tmp_path / "bounds.json").read_text())["figures"]["bounds"]) == ["before", "after"]


def test_greedy_shows_how_few_permutations_do_and_which(place):
    said = good("greedy", place.strides, "--most", 3)
    found = outcomes(place.strides)
    figures = record(place.strides / "greedy.json")
    greedy = found.greedy(3)
    curve = figures["permutations"]["stride"]
    assert curve["best"] == greedy.best
    assert (curve["static"], curve["all"], curve["count"]) == (found.bounds().static, found.bounds().best, 4)
    assert figures["controls"] == view_curves(found, 3)
    for name, curve in view_curves(found, 4).items():
        assert curve[-1] == pytest.approx(100 * (found.views[name] == found.labels[:, None]).any(1).mean())
    views = [f"{best[1]:.2f}" for best in figures["controls"].values()]
    assert ["2", f"{greedy.best[1]:.2f}", *views] in cells(said)
    assert any(
        row[:5] == ["1", "A", *figures["permutations"]["stride"]["order"][0].split()[1:4]] for row in cells(said)
    )
    assert (place.strides / "greedy_curves.png").stat().st_size > 5000


def test_combined_attributes_are_written_and_evaluated(place, tmp_path):
    file = tmp_path / "new" / "space.json"
    words = ("greedy", place.strides, place.dilations, "--combine", file, "--combine-limit", 9)
    said = good(*words, "--figure", tmp_path / "a.svg", "--json", tmp_path / "a.json")
    assert f"9 permutations of stride and dilation in {file}" in said
    assert "input zooms" in said  # once, because both are of one network
    assert "input zooms," not in said
    good("evaluate", *place.words, "--space", file, "--out", tmp_path / "both")
    found = outcomes(tmp_path / "both")
    space = outcomes(place.strides).combine(outcomes(place.dilations), limit=9)
    assert found.permutations == space.chosen
    assert "stride, dilation" in good("bounds", place.strides, tmp_path / "both", "--json", tmp_path / "b.json")
    assert good("preferences", tmp_path / "both").count("dilation") > 3
    sites = ("--sites", "W=conv1", "X=layer1.0.conv1", "Y=layer2.0.conv1", "Z=layer3.0.conv1")
    assert "is for the sites A, B, C, D, and resnet20_cifar has W, X, Y, Z" in failure(
        "evaluate", *place.words, "--space", file, *sites, "--out", tmp_path / "c"
    )


def test_greedy_curves_of_two_networks_have_controls_of_their_own(place, tmp_path):
    data = replace(load_network(place.run)[1].recipe.data, root=str(place.images))
    recipe = Recipe(name="other", model="resnet20_cifar", model_options={"width": 0.5, "drop_rate": 0.1}, data=data)
    made(tmp_path / "other", recipe, seed=1)
    good(
        "evaluate", "--model", tmp_path / "other", "--data.root", place.images, *STRIDES, "--out", tmp_path / "strides"
    )
    words = (place.strides, tmp_path / "strides")
    good("greedy", *words, "--json", tmp_path / "g.json", "--figure", tmp_path / "g.png")
    controls = json.loads((tmp_path / "g.json").read_text())["figures"]["controls"]
    assert len(controls) == 4
    assert "it is another network" in failure("greedy", *words, "--combine", tmp_path / "c.json")
    said = failure("preferences", *words)
    assert "preferences are compared of one network at the same sites" in said


def test_preferences_of_one_are_shown_by_permutation_and_by_option(place):
    said = good("preferences", place.strides)
    found = outcomes(place.strides)
    figures = record(place.strides / "preferred_permutations.json")
    preferences = found.preferences()
    assert figures["options"] == preferences.options
    assert [row["share"] for row in figures["permutations"]] == sorted(preferences.permutations, reverse=True)
    assert sum(row["as_trained"] for row in figures["permutations"]) == 1
    shares = preferences.options
    assert ["1", *(f"{100 * shares[site]['1']:.1f}" for site in "ABD")] in cells(said)
    assert "(as trained)" in said
    assert (place.strides / "preferred_permutations.png").stat().st_size > 5000


def test_preferences_of_several_are_drawn_against_scale_and_context(place, tmp_path):
    run = ("evaluate", *place.words, "--data.validation-per-class", 2, "--no-controls")
    good(*run, *DILATIONS, "--scale", 0.5, "--out", tmp_path / "dilation_scale")
    for axis, value in (("scale", 0.5), ("scale", 2), ("context", 8), ("context", 12)):
        good(*run, *STRIDES, f"--{axis}", value, "--out", tmp_path / f"stride_{axis}_{value}")
    scaled = sorted(tmp_path.glob("*_scale*"))
    said = good("preferences", *scaled, place.strides)
    rows = record(scaled[0] / "preference_by_scale.json")["rows"]
    assert {row["changes"]: list(row)[3:] for row in rows} == {
        "dilation": ["scale 0.5"],
        "stride": ["scale 0.5", "scale 1", "scale 2"],
    }
    plain = outcomes(place.strides).preferences().options
    strides = [row for row in rows if row["changes"] == "stride"]
    assert {(row["site"], row["option"]) for row in strides} == {
        (s, o) for s, options in plain.items() for o in options
    }
    for row in strides:
        assert row["scale 1"] == pytest.approx(plain[row["site"]][row["option"]], abs=1e-4)
    assert ["site", "stride", "scale", "0.5", "scale", "1", "scale", "2"] in cells(said)
    assert (scaled[0] / "preference_by_scale.png").stat().st_size > 5000
    cropped = sorted(tmp_path.glob("*_context_*"))
    good("preferences", *cropped, "--figure", tmp_path / "a.pdf")
    assert "context 8" in record(cropped[0] / "preference_by_context.json")["rows"][0]
    assert "scale and context both differ" in failure("preferences", *scaled, *cropped)
    assert "neither scale nor context differs" in failure("preferences", place.strides, place.dilations)
    assert "does not say how much context" in failure("preferences", *cropped, place.strides)
    again = tmp_path / "again"
    shutil.copytree(scaled[0], again)
    assert "again is the second at scale 0.5" in failure("preferences", scaled[0], again)


def test_a_series_begins_at_the_smallest_scale(place, tmp_path):
    good("evaluate", *place.words, *STRIDES, "--no-controls", "--scale", 0.5, "--out", tmp_path / "half")
    axis, series = preference_series({"a": outcomes(place.strides), "b": outcomes(tmp_path / "half")})
    assert (axis, list(series["stride"])) == ("scale", [0.5, 1.0])


def test_efficiency_shows_what_an_oracle_saves(place, tmp_path):
    said = good("efficiency", place.strides)
    found = outcomes(place.strides)
    rows = record(place.strides / "efficiency.json")["rows"]
    assert [row["what"] for row in rows] == ["static", "static, cheapest", "best case", "best case, cheapest"]
    for like, (plain, cheap) in (("static", rows[:2]), ("best", rows[2:])):
        efficiency = found.cheapest(like)
        assert (plain["macs"], cheap["macs"]) == (efficiency.reference_macs, efficiency.mean_macs)
        assert plain["top1"] == cheap["top1"] == efficiency.accuracy
        assert f"{efficiency.factor:.2f} x" in said
    assert "Only an oracle can choose that" in said
    assert (place.strides / "efficiency.png").stat().st_size > 5000
    said = good("efficiency", place.strides, place.dilations, "--figure", tmp_path / "a.png", "--json", tmp_path / "a")
    assert sum(row[0] == "dilation" for row in cells(said)) == 4


# finetune


def test_finetune_trains_and_sets_the_bounds_beside_each_other(place, tmp_path, monkeypatch):
    words = ("finetune", *place.words, *STRIDES, "--epochs", 1, "--batch-size", 4, "--lr", 0.01)
    words = (*words, "--out", tmp_path / "rof")
    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "everyone_stops", lambda run, _: run.state.step == 2)
        stopped = plainvision(*words)
    assert stopped.status == 130
    assert shlex.split(stopped.err.splitlines()[-1]) == ["plainvision", "dynamic", *map(str, words), "--resume"]
    said = good(*words, "--resume")
    figures = record(tmp_path / "rof" / "finetune.json")
    before, after = (outcomes(tmp_path / "rof" / name) for name in ("before", "after"))
    assert [row["network"] for row in figures["bounds"]] == ["before", "after"]
    for row, found in zip(figures["bounds"], (before, after), strict=True):
        bounds = found.bounds()
        numbers = (bounds.static, bounds.worst, bounds.median, bounds.best, bounds.volatility)
        assert any(line[:7] == [row["network"], "4", *(f"{number:.2f}" for number in numbers)] for line in cells(said))
    assert before.fingerprint == outcomes(place.strides).fingerprint != after.fingerprint
    np.testing.assert_array_equal(before.predictions, outcomes(place.strides).predictions)
    assert (tmp_path / "rof" / "unique_predictions.png").stat().st_size > 5000

    recipe = load_network(tmp_path / "rof" / "run", "last")[1].recipe
    assert figures["recipe"]["techniques"] == recipe.to_dict()["techniques"]
    assert recipe.techniques[0].stride == {"A": (1, 2), "D": (1, 2)}
    assert (recipe.schedule, recipe.momentum, recipe.weight_decay) == ("step", 0.9, 1e-4)
    assert (recipe.label_smoothing, recipe.warmup_epochs, recipe.decay_epochs) == (0, 0, 10)
    assert recipe.model_options == {"width": 0.5}
    again = (
        "evaluate",
        tmp_path / "rof" / "run",
        "--data.root",
        place.images,
        "--weights",
        "last",
        *STRIDES,
        "--out",
        tmp_path / "again",
    )
    good(*again)
    np.testing.assert_array_equal(outcomes(tmp_path / "again").predictions, after.predictions)
    assert "already holds a run of the recipe 'random_option_finetuning'. Add --resume" in failure(*words)


def test_finetune_starts_from_a_checkpoint_by_name_with_the_schedule_of_the_paper(place, tmp_path, monkeypatch):
    torch.save(pv.create_model("resnet20_cifar", num_classes=3).state_dict(), tmp_path / "w.pth")
    asked = []

    def train(recipe, out, *, resume, console):
        asked.append((recipe, out, resume))
        raise ValueError("not now")

    monkeypatch.setattr(loop, "train", train)
    words = ("finetune", "--model", "resnet20_cifar", "--checkpoint", tmp_path / "w.pth", "--attribute", "size")
    assert failure(*words, "--data.root", place.images, "--out", tmp_path / "rof") == "not now"
    ((recipe, out, resume),) = asked
    assert (recipe.epochs, recipe.lr, recipe.batch_size, recipe.decay_epochs) == (15, 1e-3, 256, 10)
    assert (recipe.start_from, recipe.num_classes, out) == (str(tmp_path / "w.pth"), None, tmp_path / "rof" / "run")
    assert recipe.techniques[0].attribute == "size"
    assert recipe.techniques[0].image_size == recipe.data.image_size == 32
    assert not resume


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


# What cannot work


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate {run} --stride Q=1,2", "unknown site 'Q' in stride: the sites are A, B, C, D."),
        ("evaluate {run} --sites A=conv9", "site A is to be 'conv9', and ResNetCifar has no layer of that name."),
        ("evaluate {run} --sites A=conv1 conv2", "--sites A=conv1 conv2: give each site once with its layer"),
        ("evaluate {run} --stride A=1,x", "--stride: '1,x' are no numbers. Give them with commas"),
        ("evaluate {run} --stride A=1,inf", "--stride: '1,inf' has a value twice, or one that is no number."),
        ("evaluate {run} --stride A=1 2", "--stride A=1 2: give values without spaces for all sites"),
        ("evaluate {run} --size 1,1", "--size: '1,1' has a value twice"),
        ("evaluate {run} --stride 1,0", "stride=0 is no option: a stride is 1/2 or a whole number from 1"),
        ("evaluate {run} --attribute size --size 1", "--attribute size takes the values of the paper, and --size"),
        ("evaluate {run} --attribute size --space x.json", "--space lists the permutations, and other options would"),
        ("evaluate {run} --space {folder}/x.json", "no space at {folder}/x.json. Give a file that `plainvision"),
        (
            "evaluate {run} --space {strides}/scores.json",
            "{strides}/scores.json holds no permutations (its fields are claim, date, command,",
        ),
        ("evaluate {run} --stride A=1,2 --scale 0", "--scale 0 leaves nothing of images of 16 pixels"),
        ("evaluate {run} --stride A=1,2 --context 99", "context=99: images are resized to 16 pixels, so give 1 to 16."),
        ("evaluate {run} --batch-size 0", "--batch-size 0 leaves no images for a pass"),
        ("evaluate {run} --stride A=1,2 --device nowhere", "device='nowhere' is not on this machine"),
        (
            "evaluate {run} --figure {folder}/a.gif",
            "cannot write a figure to {folder}/a.gif: its suffix must be one of",
        ),
        ("evaluate {run} --data.mean 0.5", "data.mean has 1 values and data.std 3, for data.channels=3"),
        ("evaluate {run} --data.image-size 0", "data.image_size=0 must be at least 8"),
        ("evaluate {run} --stride A=1,2 --data.root nowhere", "there are no images at 'nowhere'"),
        ("evaluate {run} --checkpoint x.pth", "brings its own weights and classes, and --checkpoint would give others"),
        ("evaluate resnet18", "no weights for resnet18: what random weights could do means nothing."),
        ("evaluate resnet18 --pretrained --checkpoint x", "--pretrained and --checkpoint are two answers"),
        ("evaluate resnet18:num_classes=3 --pretrained", "--pretrained weights have classes of their own"),
        ("evaluate resnet20_cifar --pretrained", "cannot load published weights of resnet20_cifar: No"),
        ("evaluate resnt18 --checkpoint x.pth", "unknown model 'resnt18'. Did you mean resnet18"),
        ("evaluate torchvision/resnt18 --checkpoint x.pth", "Did you mean torchvision/resnet18"),
        ("evaluate {folder}/ran", "no weights at {folder}/ran. Nearby: run"),
        (
            "evaluate {vision}",
            "no sites are known for VisionTransformer. Name them with `sites`, for instance sites={{'A': "
            "'layer1.0.conv1'}}, or on the command line --sites A=layer1.0.conv1.",
        ),
        ("evaluate resnet20_cifar:num_classes=3 --checkpoint {weights}", "a network loaded by name has no data set."),
        ("bounds", "no outcomes. Give a folder that `plainvision dynamic evaluate` wrote into, for instance: plain"),
        ("bounds {folder}/stride", "no outcomes at {folder}/stride. Nearby: strides. Give a folder that"),
        ("bounds {folder}", "no outcomes at {folder}. There are some in dilations, strides. Give a folder that"),
        (
            "bounds {run}/best.safetensors",
            "best.safetensors holds no outcomes. Give a file that an evaluation, or `Outcomes.save`, wrote.",
        ),
        ("bounds {strides} {strides}/outcomes.safetensors", "has the same outcomes twice. Give each once."),
        ("bounds {strides} --figure a.gif", "cannot write a figure to a.gif"),
        (
            "bounds {strides} --json {strides}/outcomes.safetensors/x",
            "cannot write {strides}/outcomes.safetensors/x",
        ),
        ("greedy {strides} --most 0", "--most 0 leaves no permutation"),
        ("greedy {strides} --combine {folder}/c.json", "nothing to combine. Give the outcomes of another attribute"),
        ("finetune torchvision/resnet18 --checkpoint x", "torchvision/resnet18: a run has to rebuild its"),
        ("finetune {fused}", "which this command does not know how to rebuild. In Python, train by its own"),
        ("finetune {run} --epochs 0", "epochs=0 must be above zero"),
        ("finetune {run} --stride Q=1,2 --batch-size 4", "unknown site 'Q' in stride: the sites are A, B, C, D."),
        ("finetune {run} --resume", "nothing to resume in"),
    ],
)
def test_what_cannot_work_is_explained(place, more, tmp_path, words, message):
    known = {name: str(value) for name, value in vars(place).items()} | more | {"run": " ".join(map(str, place.words))}
    given = words.replace("{run}/", f"{place.run}/").format(**known).split()
    if given[0] in ("evaluate", "finetune"):
        given += ["--out", str(tmp_path / "out")]
    assert message.format(**known) in failure(*given)
    assert not list((tmp_path / "out").rglob("*.safetensors"))


@pytest.fixture(scope="module")
def more(place, tmp_path_factory) -> dict[str, str]:
    """Networks that make trouble."""
    from plainvision.training.techniques import SpatialOps

    folder = tmp_path_factory.mktemp("more")
    data = replace(load_network(place.run)[1].recipe.data, root=str(place.images))
    made(
        folder / "vision",
        Recipe(name="v", model="test_vit", model_options={"img_size": 16, "patch_size": 8}, data=data),
    )
    ops = SpatialOps(op="max", image_size=64)
    fused = Recipe(name="f", model="resnet26", data=data, techniques=(ops,))
    made(folder / "fused", fused)
    weights = folder / "weights.safetensors"
    save_file(pv.create_model("resnet20_cifar", num_classes=3).state_dict(), weights)
    return {"vision": str(folder / "vision"), "fused": str(folder / "fused"), "weights": str(weights)}
