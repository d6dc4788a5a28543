"""The layer study, by its command and by its parts; the runs are one epoch of embedded digits."""

import contextlib
import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

import plainvision as pv
from plainvision import commands
from plainvision.bench import count_macs, count_parameters
from plainvision.figures.study import draw_study
from plainvision.study import LayerStudy, StudyNetwork, run_study
from plainvision.study.run import write_csv
from plainvision.surgery.layers_behind import Dropped
from plainvision.training import Data, loop, several_runs
from plainvision.training.recipe import Machine
from plainvision.training.resumable import read_metrics
from plainvision.training.run_folder import RunFolder
from plainvision.training.techniques import SpatialOps
from plainvision.training.weights_file import build_network, load_network

DATA = Data(channels=1, image_size=32, crop_ratio=1.0, mean=(0.3,), std=(0.37,), workers=0)
SMALL = LayerStudy(data=DATA, ops=("conv", "max"), stages=(2,), seeds=(0, 1), epochs=1, machine=Machine(threads=1))
WORDS = (
    *("--data.image-size", "32", "--data.channels", "1", "--data.mean", "0.3", "--data.std", "0.37"),
    *("--data.workers", "0", "--epochs", "1", "--machine.threads", "1", "--latency-runs", "6", "--device", "cpu"),
)


def plainvision(*words: object) -> tuple[int, str, str]:
    """Run a command in this process and return its exit status and its two texts."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            commands.main([str(word) for word in words])
        except SystemExit as ended:
            status = ended.code
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, str]:
    """A study that ended, and what it printed."""
    folder = tmp_path_factory.mktemp("study") / "whole"
    words = ("--ops", "conv", "max", "--stages", "2", "--seeds", "0", "1")
    status, out, err = plainvision("study", *WORDS, *words, "--out", folder)
    assert (status, err) == (0, "")
    return folder, out


def record(folder: Path) -> list[dict]:
    return json.loads((folder / "study.json").read_text())["figures"]["rows"]


def test_a_study_trains_each_network_once_per_seed(whole):
    folder, out = whole
    runs = [f"resnet_{name}_seed{seed}" for seed in (0, 1) for name in ("conv", "stage2_max")]
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == sorted(runs)
    said = [line for line in out.splitlines() if line.startswith("run ")]
    assert [line.split("; ")[0] for line in said] == [f"run {i} of 4: {name}" for i, name in enumerate(runs, start=1)]
    assert "left" not in said[0]
    assert all(re.search(r"; about \d+ (s|min|h|days) left$", line) for line in said[1:])
    trained, origin = load_network(folder / "resnet_stage2_max_seed1")
    assert origin.recipe.seed == 1
    assert origin.recipe.techniques == (SpatialOps("max", where="layer2", image_size=32),)
    assert [name for name, module in trained.named_modules() if isinstance(module, torch.nn.MaxPool2d)] == [
        *("maxpool", "layer2.0.conv2.layer", "layer2.1.conv2.layer")
    ]


def test_its_rows_hold_accuracy_and_costs(whole):
    folder, _ = whole
    own, pooled = record(folder)
    assert (own["stage"], own["op"], pooled["stage"], pooled["op"]) == (None, "conv", 2, "max")
    for row, name in ((own, "conv"), (pooled, "stage2_max")):
        runs = [folder / f"resnet_{name}_seed{seed}" for seed in (0, 1)]
        top1 = [read_metrics(run)[-1]["top1"] for run in runs]
        assert row["top1"] == top1
        assert row["top1_mean"] == pytest.approx(sum(top1) / 2)
        assert row["top1_std"] == pytest.approx(abs(top1[0] - top1[1]) / 2**0.5)
        network, _ = load_network(runs[0])
        assert row["parameters"] == count_parameters(network)
        assert row["macs"] == count_macs(network, 32, channels=1)
        assert row["p50_low_ms"] <= row["p50_ms"] <= row["p50_high_ms"]
        assert (row["batch_size"], row["image_size"], row["device"], row["epochs"]) == (1, [32, 32], "cpu", 1)
    assert pooled["parameters"] < own["parameters"]
    assert own["speed_ratio"] == 1


def test_it_writes_a_table_a_record_and_a_figure(whole):
    folder, out = whole
    with (folder / "study.csv").open(newline="") as lines:
        table = list(csv.DictReader(lines))
    assert [(row["stage"], row["op"]) for row in table] == [("", "conv"), ("2", "max")]
    assert [float(row["top1_mean"]) for row in table] == [row["top1_mean"] for row in record(folder)]
    assert table[0]["seeds"] == "0 1"
    with Image.open(folder / "study.png") as image:
        assert min(image.size) > 500
    kept = json.loads((folder / "study.json").read_text())
    assert kept["command"].startswith("plainvision study --data.image-size 32")
    assert str(folder.parent) not in kept["command"]
    cells = [line.split() for line in out.splitlines()]
    assert next(line for line in cells if line[:1] == ["2"])[:4] == [
        "2",
        "max",
        f"{record(folder)[1]['top1_mean']:.2f}",
        "±",
    ]
    assert f"figure in {folder / 'study.png'}" in out


def test_a_study_that_is_stopped_goes_on_and_ends_alike(whole, tmp_path, monkeypatch):
    words = (
        "study",
        *WORDS,
        "--ops",
        "conv",
        "max",
        "--stages",
        "2",
        "--seeds",
        "0",
        "1",
        "--out",
        tmp_path / "broken",
    )
    with monkeypatch.context() as patch:  # in the fifth step of the second run
        patch.setattr(loop._Run, "everyone_stops", lambda run, _: "max" in run.recipe.name and run.state.step == 5)
        status, out, err = plainvision(*words)
    assert status == 130
    assert "stopped at step 5 of 11" in err
    assert f"plainvision study {' '.join(map(str, words[1:]))} --resume" in err
    assert not (tmp_path / "broken" / "study.json").exists()
    first = tmp_path / "broken" / "resnet_conv_seed0" / "last.safetensors"
    written = first.stat().st_mtime_ns

    status, out, err = plainvision(*words, "--resume")
    assert (status, err) == (0, "")
    assert "4 runs, epochs each: 1; finished already: 1" in out
    assert "run 1 of 4" not in out
    assert first.stat().st_mtime_ns == written
    assert [row["top1"] for row in record(tmp_path / "broken")] == [row["top1"] for row in record(whole[0])]


def test_a_finished_study_is_read_and_can_grow(whole, monkeypatch):
    folder, _ = whole
    trained = []

    def train(recipe, place, *, resume, console):
        trained.append((recipe.name, resume))
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train", train)
    console = Console(file=io.StringIO())
    rows = run_study(SMALL, folder, resume=True, latency_runs=1, device="cpu", latency_batch_size=2, console=console)
    told = console.file.getvalue().splitlines()
    assert told == ["4 runs, epochs each: 1; finished already: 4", "timing 2 networks on cpu"]
    assert [row["top1"] for row in rows] == [row["top1"] for row in record(folder)]
    assert {row["batch_size"] for row in rows} == {2}
    with pytest.raises(KeyboardInterrupt):
        run_study(replace(SMALL, seeds=(0, 1, 2)), folder, resume=True)
    assert trained == [("resnet_conv_seed2", False)]


def test_a_run_whose_last_state_was_not_saved_is_not_finished(whole, tmp_path):
    folder = tmp_path / "resnet_conv_seed0"
    folder.mkdir()
    for name in ("recipe.json", "metrics.jsonl"):
        (folder / name).write_bytes((whole[0] / "resnet_conv_seed0" / name).read_bytes())
    run = several_runs.finished
    place = RunFolder(folder, SMALL.recipe(StudyNetwork("conv", None), 0), resume=True)
    assert run(place) is None
    (folder / "state.pt").write_bytes((whole[0] / "resnet_conv_seed0" / "state.pt").read_bytes())
    assert run(place) is not None


def test_a_folder_with_runs_is_refused_before_anything_is_trained(whole, tmp_path):
    with pytest.raises(ValueError, match=r"already holds a run of the recipe 'resnet_conv_seed0'\. Add --resume"):
        run_study(SMALL, whole[0])
    # Only the last of its runs is in the way.
    (tmp_path / "resnet_stage2_max_seed1").mkdir()
    (tmp_path / "resnet_stage2_max_seed1" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"stage2_max_seed1 is not empty and holds no run of ours"):
        run_study(SMALL, tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["resnet_stage2_max_seed1"]
    with pytest.raises(
        ValueError, match=r"holds a run of another recipe.* it differs in lr \(0\.05 there, 0\.1 given\)"
    ):
        run_study(replace(SMALL, lr=0.1), whole[0], resume=True)


# what a study consists of


@pytest.mark.parametrize(("bottleneck", "own", "stages"), [("resnet", "conv", 4), ("inverted", "depthwise", 7)])
def test_every_operation_gets_every_stage(bottleneck, own, stages):
    whole = LayerStudy(bottleneck=bottleneck, data=DATA).networks()
    assert whole[0] == StudyNetwork(own, None)
    assert [network.stage for network in whole[1:]] == [stage for stage in range(1, stages + 1) for _ in range(4)]
    study = LayerStudy(bottleneck=bottleneck, ops=(own, "max", "identity"), seeds=(3,), data=DATA)
    changed = {}
    for network, recipe in study.recipes():
        with torch.device("meta"):
            built = build_network(recipe, 10, 0)
        found = {
            name: module.op
            for name, module in built.named_modules()
            if isinstance(module, pv.surgery.spatial_layers.SpatialOp)
        }
        assert set(found.values()) <= {network.op}
        changed.setdefault(network.stage, set()).add(frozenset(found))
    assert all(len(found) == 1 for found in changed.values())  # each operation in the same places
    blocks = [len(next(iter(changed[stage]))) for stage in range(1, stages + 1)]
    assert blocks == ([2, 2, 2, 2] if bottleneck == "resnet" else [1, 2, 3, 4, 3, 3, 1])
    assert changed[None] == {frozenset()}


def test_seeds_take_turns():
    names = [recipe.name for _, recipe in SMALL.recipes()]
    assert names == ["resnet_conv_seed0", "resnet_stage2_max_seed0", "resnet_conv_seed1", "resnet_stage2_max_seed1"]
    assert [recipe.seed for _, recipe in SMALL.recipes()] == [0, 0, 1, 1]


def rows(stages=(1, 2), seeds=3, own=True) -> list[dict]:
    found = []
    for stage in ([None] if own else []) + list(stages):
        for op in ("conv",) if stage is None else ("depthwise", "max", "avg", "identity"):
            time = 1.0 + 0.1 * len(op) + 0.05 * (stage or 0)
            found.append(
                {
                    "stage": stage,
                    "width": None,
                    "op": op,
                    "top1_mean": 90.0 - len(op),
                    "top1_std": 0.4 if seeds > 1 else None,
                    "p50_ms": time,
                    "p50_low_ms": 0.9 * time,
                    "p50_high_ms": 1.2 * time,
                    "batch_size": 1,
                }
            )
    return found


@pytest.mark.parametrize(("stages", "shown"), [((2,), 1), ((1, 2, 3, 4), 4), (tuple(range(1, 8)), 7), ((), 1)])
def test_the_figure_has_a_panel_per_stage(stages, shown):
    figure = draw_study(rows(stages))
    assert isinstance(figure, Figure)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert len(panels) == shown
    assert [axes.get_title() for axes in panels] == ([f"stage {stage}" for stage in stages] or ["no stage changed"])
    for axes in panels:
        assert len(axes.containers) == (5 if stages else 1)  # the network as it is stands in each
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [*(["conv", "depthwise", "max", "avg", "identity"] if stages else ["conv"]), "no stage changed"]
    assert "95 % interval; up and down ± a standard deviation" in figure.get_supxlabel()
    # Every column names its latencies at its lowest panel.
    figure.canvas.draw()
    named = [axes for axes in panels if any(label.get_visible() for label in axes.get_xticklabels())]
    assert len(named) == min(max(len(stages), 1), 4)


def test_the_figure_has_bars_of_what_is_known():
    (axes,) = draw_study(rows((1,))).axes
    heights = [container.has_yerr for container in axes.containers]
    assert heights == [True] * 5
    point = axes.containers[0]
    across, upright = (segments.get_segments()[0] for segments in point.lines[2])
    assert across[:, 0] == pytest.approx([0.9 * 1.4, 1.2 * 1.4])
    assert upright[:, 1] == pytest.approx([86 - 0.4, 86 + 0.4])
    (axes,) = draw_study(rows((1,), seeds=1, own=False)).axes
    assert [container.has_yerr for container in axes.containers] == [False] * 4
    with pytest.raises(ValueError, match="there is nothing to draw"):
        draw_study([])


def test_a_table_leaves_what_is_unknown_empty(tmp_path):
    write_csv([{"op": "max", "top1_std": None, "top1": [1.5, 2.5]}], tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().split() == ["op,top1_std,top1", "max,,1.5", "2.5"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (29, "29 s"), (31, "1 min"), (3540, "59 min"), (3600, "1 h 0 min"), (9000, "2 h 30 min")],
)
def test_time_left_is_said_in_words(seconds, text):
    assert several_runs.duration(seconds) == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ops": ("conv", "maxx")}, r"unknown spatial operation 'maxx'\. Did you mean 'max'\?"),
        (
            {"ops": ("attention",)},
            r"unknown spatial operation 'attention'\. There are conv, depthwise, max, avg, ident",
        ),
        ({"ops": ("max", "max")}, r"ops=\('max', 'max'\) names something twice"),
        ({"ops": ()}, r"ops is empty, and there is nothing to train"),
        ({"seeds": ()}, r"seeds is empty"),
        (
            {"stages": (5,)},
            r"there is no stage 5\. The resnet network has 4; give numbers from 1 to 4, or none for all",
        ),
        (
            {"widths": (16,)},
            r"stages=\(2,\) are of a deep network, and widths=\(16,\) of networks of a single bottleneck",
        ),
        ({"stages": (), "widths": (16, 18)}, r"widths=\(16, 18\): give multiples of 4 from 4 to 4096, and not 18"),
        ({"bottleneck": "basic"}, r"bottleneck='basic' must be resnet or inverted"),
        ({"epochs": 0}, r"epochs=0 must be above zero"),
    ],
)
def test_what_cannot_be_studied_is_said(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_the_command_says_what_is_wrong_before_the_work(tmp_path):
    status, out, err = plainvision("study", *WORDS, "--stages", 9, "--out", tmp_path / "a")
    assert (status, out) == (2, "")
    assert "there is no stage 9" in " ".join(err.split())
    for words, message in [
        (("--figure", tmp_path / "a.jpg"), "a.jpg"),
        (("--device", "warp"), "device='warp' is not on this machine"),
        (("--data.root", tmp_path / "photos.zip"), "photos.zip"),
    ]:
        status, _, err = plainvision("study", *WORDS, *words, "--out", tmp_path / "a")
        assert status == 2
        assert message in " ".join(err.split())
    assert not (tmp_path / "a").exists()


def test_several_processes_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="several runs go in one process"):
        run_study(SMALL, tmp_path)


# networks of a single bottleneck


@pytest.mark.parametrize(("bottleneck", "own"), [("resnet", "conv"), ("inverted", "depthwise")])
def test_a_single_bottleneck_has_each_operation_in_its_one_place(bottleneck, own):
    study = LayerStudy(bottleneck=bottleneck, widths=(8, 16), ops=(own, "max", "avg"), data=DATA, drop_norm_act=True)
    assert [(network.width, network.op) for network in study.networks()] == [
        (width, op) for width in (8, 16) for op in (own, "max", "avg")
    ]
    counts = {}
    for network in study.networks():
        built = build_network(study.recipe(network, 0), 10, 0)
        assert built(torch.randn(2, 1, 32, 32)).shape == (2, 10)
        counts[network.width, network.op] = count_parameters(built)
        dropped = [name for name, layer in built.named_modules() if isinstance(layer, Dropped)]
        assert dropped == (
            [] if network.op == own else ["block.bn2", "block.act2"][: 2 if bottleneck == "resnet" else 1]
        )
    for width, middle in ((8, 2 if bottleneck == "resnet" else 48), (16, 4 if bottleneck == "resnet" else 96)):
        spatial = 9 * middle * (middle if bottleneck == "resnet" else 1)
        assert counts[width, own] - counts[width, "max"] == spatial + 2 * middle  # with the norm behind it
        assert counts[width, "max"] == counts[width, "avg"]


def test_a_study_of_a_single_bottleneck_weighs_each_width(tmp_path):
    words = ("--ops", "conv", "max", "--widths", "4", "8", "--seeds", "0", "--data.train-per-class", "10")
    words = (*words, "--batch-size", "20")
    status, out, err = plainvision("study", *WORDS, *words, "--drop-norm-act", "--out", tmp_path / "single")
    assert (status, err) == (0, "")
    found = record(tmp_path / "single")
    assert [(row["stage"], row["width"], row["op"]) for row in found] == [
        *((None, 4, "conv"), (None, 4, "max"), (None, 8, "conv"), (None, 8, "max"))
    ]
    assert all(row["speed_ratio"] is None for row in found)
    assert "a single resnet bottleneck, epochs 1" in out
    with Image.open(tmp_path / "single" / "study.png") as image:
        assert min(image.size) > 400
    figure = draw_study(found)
    assert [axes.get_xlabel() for axes in figure.axes] == [
        *("parameters (k)", "multiply-adds (M)", "median latency per image (ms)")
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["conv", "max"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "basic"}, r"unknown kind 'basic' of bottleneck: give 'resnet' or 'inverted'\."),
        ({"channels": 6}, r"channels=6: give 4 or more, for ResNet's bottleneck a multiple of 4\."),
    ],
)
def test_a_single_bottleneck_says_what_it_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        pv.create_model("single_bottleneck", **options)


def test_a_single_bottleneck_takes_other_classes():
    network = pv.create_model("single_bottleneck", kind="inverted", channels=6, num_classes=3, in_chans=1)
    assert network(torch.randn(2, 1, 20, 16)).shape == (2, 3)
    network.reset_classifier(0)
    assert network(torch.randn(2, 1, 20, 16)).shape == (2, 6)
    with pytest.raises(ValueError, match=r"global_pool='max': networks of studies pool by average"):
        network.reset_classifier(2, "max")
