"""`plainvision bench`: a table, a record and a figure, and what cannot be timed."""

import json
import re

import pytest
from commands.running import plainvision, rows, said
from PIL import Image

import plainvision as pv
from plainvision.training.weights_file import load_network


def test_bench_times_a_run_and_its_deployed_form(run, deployed, tmp_path):
    file, record = deployed[0], tmp_path / "new" / "record.json"
    words = (run.folder, file, "--image-size", 32, "--batch-size", 2, "--runs", 6, "--json", record)
    ended = plainvision("bench", *words)
    assert (ended.status, ended.err) == (0, "")
    table = rows(ended.out)
    assert len(table[str(run.folder)]) == len(table[str(file)]) == 9
    assert "2 x 32 x 32 on cpu, 1 thread, precision no" in ended.out
    parameters = sum(parameter.numel() for parameter in load_network(run.folder)[0].parameters())
    assert table[str(run.folder)][0] == f"{parameters / 1e6:.3g}" != "0.0"
    assert table[str(run.folder)][-3:] == ["1.00", "x", "1.00–1.00"]

    kept = json.loads(record.read_text())
    names = [row["name"] for row in kept["figures"]["rows"]]
    assert names == [str(run.folder), str(file)]
    training, fused = kept["figures"]["rows"]
    assert fused["parameters"] < training["parameters"]
    assert fused["macs"] < training["macs"]
    assert (training["runs"], training["batch_size"], training["image_size"]) == (6, 2, [32, 32])
    assert training["speed_ratio"] == 1
    assert str(tmp_path) not in kept["command"]
    assert kept["command"].endswith("--image-size 32 --batch-size 2 --runs 6 --json record.json")
    assert kept["host"]["plainvision"] == pv.__version__
    assert f"record in {record}" in ended.out


def test_bench_times_a_deployed_network_by_name():
    ended = plainvision("bench", "resnet18", "vanillanet_5:deployed", "--image-size", 32, "--runs", 1)
    table = rows(ended.out)
    assert table["resnet18"][0] == "11.7"
    assert table["vanillanet_5:deployed"][0] == f"{pv.card('vanillanet_5').params / 1e6:.1f}"


def test_names_are_never_cut_off(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    words = ("bench", "test_resnet.r160_in1k", "--image-size", 32, "--runs", 1)
    for terminal in (True, False):
        models, bench = plainvision("models", terminal=terminal), plainvision(*words, terminal=terminal)
        for ended, name in ((models, "vanillanet_13_x1_5_ada_pool"), (bench, "test_resnet.r160_in1k")):
            plain = re.sub(r"\x1b\[[\d;]*m", "", ended.out)
            assert (ended.status, name in plain, "…" in plain) == (0, True, False)
            assert not terminal or max(len(line) for line in plain.splitlines()) <= 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no network to time. Name one or more, for instance: plainvision bench resnet18 vanillanet_5"),
        (["vanilanet_5"], "unknown model 'vanilanet_5'. Did you mean vanillanet_5"),
        (["vanilanet_5:deployed"], "unknown model 'vanilanet_5'. Did you mean vanillanet_5"),
        (["alexnet:deployed"], "nothing to fuse in AlexNet"),
        (["test_resnet", "--image-size", "0"], "there is no image of 3 channels and 0x0 pixels"),
        (["test_resnet", "--runs", "0"], "runs=0 is too small"),
        (["test_resnet", "--batch-size", "0"], "batch_size=0 is too small"),
        (["test_resnet", "--image-size", "32", "--sizes", "32", "64"], "Give --image-size for one side, or --sizes"),
        (["test_resnet", "--sizes", "32", "64", "32"], "--sizes 32 64 32 names a side twice. Give each one once."),
        (["test_resnet", "--sizes", "0", "64"], "there is no image of 3 channels and 0x0 pixels"),
        (["test_vit_relpos", "--image-size", "64", "--runs", "1"], "test_vit_relpos cannot run on 1x3x64x64 on cpu"),
        (
            ["test_resnet", "--figure", "a.png"],
            "one image size shows no growth. Give two or more, for instance: --sizes",
        ),
        (["test_resnet", "--sizes", "64", "--figure", "a.png"], "one image size shows no growth"),
        (["test_resnet", "--sizes", "32", "64", "--figure", "a.jpg"], "its suffix must be one of .png, .pdf, .svg"),
        (["test_resnet", "--sizes", "32", "64", "--figure", "a"], "cannot write a figure to a: its suffix must be"),
    ],
)
def test_bench_explains_what_it_cannot_time(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = plainvision("bench", *words)
    assert said(ended, message)
    assert ended.out == ""
    assert list(tmp_path.iterdir()) == []


def test_bench_shows_how_time_and_memory_grow_with_the_image(tmp_path):
    words = ("test_resnet", "test_convnext", "--sizes", 32, 64, "--runs", 6)
    figure, record = tmp_path / "new" / "growth.png", tmp_path / "growth.json"
    ended = plainvision("bench", *words, "--plot", figure, "--json", record)
    assert (ended.status, ended.err) == (0, "")
    table = [line.split() for line in ended.out.splitlines()]
    sides = [line[:2] for line in table if len(line) == 11 and line[0] != "network"]
    assert sides == [[name, side] for side in ("32", "64") for name in ("test_resnet", "test_convnext")]
    assert "batch of 1 on cpu" in ended.out
    assert "1 is in proportion to it" in ended.out
    assert f"figure in {figure}" in ended.out
    with Image.open(figure) as image:
        assert min(image.size) > 400

    figures = json.loads(record.read_text())["figures"]
    assert [row["image_size"] for row in figures["rows"]] == [[32, 32], [32, 32], [64, 64], [64, 64]]
    assert [row["speed_ratio"] for row in figures["rows"]][::2] == [1, 1]
    assert [row["name"] for row in figures["growth"]] == ["test_resnet", "test_convnext"]
    # No word on the size of either: the time of a small network is noise.
    assert all(set(row) == {"name", "memory_exponent", "time_exponent"} for row in figures["growth"])


@pytest.mark.parametrize(("suffix", "begin"), [(".pdf", b"%PDF"), (".SVG", b"<?xml")])
def test_bench_draws_what_the_suffix_says(tmp_path, suffix, begin):
    figure = tmp_path / f"growth{suffix}"
    ended = plainvision("bench", "test_resnet", "--sizes", 32, 64, "--runs", 1, "--figure", figure)
    assert (ended.status, ended.err) == (0, "")
    assert figure.read_bytes().startswith(begin)


def test_bench_says_before_the_work_that_the_figure_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    ended = plainvision("bench", "test_resnet", "--sizes", 32, 64, "--figure", file / "growth.png")
    assert said(ended, f"cannot write {file / 'growth.png'}: ", "Give another file with --figure.")
    assert ended.out == ""


def test_bench_names_networks_of_different_channels(run):
    ended = plainvision("bench", run.folder, "test_resnet", "--image-size", 32, "--runs", 1)
    assert said(ended, f"of different channels: {run.folder} 1, test_resnet 3.", "time these in several calls.")


def test_the_latencies_of_a_paper_s_table_are_one_command(tmp_path):
    """VanillaNet's Table 1 on the form that is deployed: each network has its options and is fused."""
    names = [f"vanillanet_6:series={n},width=0.0625,deployed" for n in (0, 1, 3)]
    ended = plainvision("bench", *names, "--image-size", 64, "--runs", 2, "--json", tmp_path / "a.json")
    assert (ended.status, ended.err) == (0, "")
    kept = json.loads((tmp_path / "a.json").read_text())["figures"]["rows"]
    assert [row["name"] for row in kept] == names
    for row, n in zip(kept, (0, 1, 3), strict=True):
        fused = pv.create_model("vanillanet_6", series=n, width=0.0625, deployed=True)
        assert row["parameters"] == sum(one.numel() for one in fused.parameters())
    assert [row["macs"] for row in kept] == sorted({row["macs"] for row in kept})
