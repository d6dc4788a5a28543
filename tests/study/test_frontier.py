"""Accuracy against cost: facts from every source, the front, and what may not be mixed."""

import json
from pathlib import Path

import pytest
from commands.running import plainvision, row, said
from PIL import Image

import plainvision as pv
from plainvision.study.facts import Fact, Known, read_facts
from plainvision.study.frontier import frontier, mixed
from plainvision.training.resumable import read_metrics

FEW = ("--data.train-per-class", "12", "--data.validation-per-class", "6", "--batch-size", "40")


def known(name, top1=None, told=None, source="a.json", **costs):
    facts = {cost: Fact(value, source, told or {}) for cost, value in costs.items()}
    return Known(name, source, facts | ({} if top1 is None else {"top1": Fact(top1, source, {"images": "x val"})}))


def record(path, rows, host=None):
    path.write_text(json.dumps({"figures": {"rows": rows}, "host": host or {"cpu": "a processor"}}))
    return path


BENCH = {
    "name": "net",
    "parameters": 10,
    "macs": 1000,
    "p50_ms": 2.0,
    "total_memory_mb": 5.0,
    "image_size": [32, 32],
    "device": "cpu",
    "batch_size": 1,
    "precision": "no",
    "threads": 1,
}
SCORE = {"name": "net", "form": "as it is", "top1": 71.0, "images_of": "digits test", "image_size": 32}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A run, its evaluation in both forms, and a bench of both."""
    folder = tmp_path_factory.mktemp("frontier")
    run, size = folder / "digits", ("--image-size", 32, "--runs", 2)
    for words in (
        ("train", "vanillanet_digits", *FEW, "--epochs", 2, "--out", run),
        ("evaluate", run, "--fuse", "--json", folder / "scores.json"),
        ("bench", run, f"{run}:deployed", *size, "--device", "cpu", "--json", folder / "bench.json"),
    ):
        ended = plainvision(*words)
        assert ended.status == 0, ended.err
    return folder


# what is known


def test_the_facts_of_a_card_are_published_and_counted():
    (found,) = read_facts("vanillanet_6")
    card = pv.card("vanillanet_6")
    assert {name: fact.value for name, fact in found.facts.items()} == {
        "macs": card.macs,
        "params": card.params,
        "depth": 6,
        "top1": 76.36,
        "latency": 2.01,
    }
    assert [name for name, fact in found.facts.items() if fact.published] == ["top1", "latency"]
    assert found.facts["latency"].circumstances["device"] == "A100"
    assert found.facts["top1"].source.startswith("published, arXiv:2305.12972, Table 4")


def test_a_run_a_bench_and_an_evaluation_know_the_same(place):
    run = str(place / "digits")
    (trained,) = read_facts(run)
    plain, deployed = read_facts(str(place / "scores.json"))
    timed, fast = read_facts(str(place / "bench.json"))
    for cost in ("macs", "params"):
        assert trained.facts[cost].value == plain.facts[cost].value == timed.facts[cost].value
        assert deployed.facts[cost].value == fast.facts[cost].value < plain.facts[cost].value
    assert (trained.facts["depth"].value, deployed.facts["depth"].value) == (10, 5)
    assert trained.facts["top1"].value == plain.facts["top1"].value  # of the best weights
    assert trained.facts["top1"].value in [line.get("top1") for line in read_metrics(run)]
    assert (
        trained.facts["top1"].circumstances
        == plain.facts["top1"].circumstances
        == {
            "images": "digits validation",
            "image size": "32",
        }
    )
    assert [one.name for one in (timed, fast)] == [one.name for one in (plain, deployed)] == [run, f"{run}:deployed"]
    assert timed.facts["latency"].circumstances["threads"].isdecimal()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p50_ms": "fast"}, "row 1: p50_ms is 'fast', and must be a number from 0"),
        ({"p50_ms": True}, "p50_ms is True"),
        ({"macs": -1}, "macs is -1"),
        ({"macs": 10**400}, "macs is 1000000"),
        ({"name": "n" * 400}, "name is 'nnn.*text of at most 300 letters"),
        ({"name": ["net"]}, r"name is \['net'\]"),
        ({"image_size": [32, -1]}, r"image_size is \[32, -1\], and must be a side"),
        ({"batch_size": None}, "batch_size is None"),
    ],
)
def test_a_record_with_another_value_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read_facts(str(record(tmp_path / "a.json", [BENCH | change])))


@pytest.mark.parametrize(
    "change", [{"top1": 101}, {"top1": None}, {"image_size": "large"}, {"images_of": 3}, {"form": 1}]
)
def test_scores_with_another_value_are_refused(tmp_path, change):
    (name,) = change
    with pytest.raises(ValueError, match=rf"row 1: {name} is"):
        read_facts(str(record(tmp_path / "a.json", [SCORE | change])))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged: it is not whole JSON"),
        ("[1]", "it holds JSON, but no object"),
        ("[" * 100_000, "it is not whole JSON"),
        ('{"figures": {"rows": []}}', "it has no rows"),
        ('{"figures": {"rows": [1]}}', "it has no rows"),
        ('{"figures": 3}', "it has no rows"),
        ('{"figures": {"rows": [{"a": 1}]}}', "its rows have no p50_ms, and no top1 of a network"),
        (json.dumps({"figures": {"rows": [BENCH] * 1001}}), "has 1,001 rows, and a figure shows 1000"),
        (" " * (2**24 + 1), "has 16,777,217 bytes, and no record is so long"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_facts(str(tmp_path / "a.json"))


# the front


def test_no_point_of_the_front_is_beaten_in_both():
    points = frontier(
        [
            known("a", 70, macs=1),
            known("b", 69, macs=2),
            known("c", 80, macs=3),
            known("d", 80, macs=4),
            known("e", 70, macs=1),
        ],
        "macs",
    )
    assert [(one.name, one.on_front) for one in points] == [
        ("a", True),
        ("e", True),
        ("b", False),
        ("c", True),
        ("d", False),
    ]


def test_numbers_of_one_network_come_together_from_several_sources():
    scores = [known("net", 71, source="scores.json"), known("own", 50, source="scores.json")]
    costs = [known("net:deployed", latency=2, source="bench.json"), known("own", latency=1, source="bench.json")]
    fast, slow = frontier(scores + costs, "latency")
    assert (slow.name, slow.top1.value, slow.top1.source, slow.cost.source) == (
        "net:deployed",
        71,
        "scores.json",
        "bench.json",
    )
    assert (fast.name, fast.top1.value) == ("own", 50)


def test_a_known_network_s_top1_is_published_and_that_of_one_with_options_is_not():
    (point,) = frontier([known("vanillanet_5:deployed", latency=2)], "latency")
    assert (point.top1.value, point.published, point.family) == (72.49, True, "vanillanet")
    with pytest.raises(ValueError, match=r"nothing is known of the top-1 of vanillanet_5:num_classes=3 \(a\.json\)"):
        frontier([known("vanillanet_5:num_classes=3", latency=2)], "latency")


def test_what_differs_is_said():
    one = {"device": "cpu", "image size": "32"}
    points = frontier(
        [known("a", 70, one, latency=1), known("b", 71, one | {"device": "cuda:0"}, latency=2)], "latency"
    )
    told = mixed(points, "latency")
    assert "latency: device cpu, cuda:0" in told
    assert "a: top-1 at image size None, latency at 32" in told
    alike = frontier([known("a", 70, params=1), known("b", 71, params=2)], "params")
    assert mixed(alike, "params") == []


# the command


def test_the_command_draws_runs_and_records_and_says_where_numbers_come_from(place):
    out = ("--figure", place / "f.png", "--json", place / "f.json")
    ended = plainvision("frontier", place / "scores.json", place / "bench.json", "--x", "latency", *out)
    assert (ended.status, ended.err) == (0, "")
    assert f"a: {place / 'bench.json'}" in ended.out
    assert f"b: {place / 'scores.json'}" in ended.out
    assert "Top-1: images digits validation, image size 32; cost: image size 32, device cpu" in ended.out
    with Image.open(place / "f.png") as image:
        assert min(image.size) > 500
    kept = json.loads((place / "f.json").read_text())["figures"]
    assert kept["not_comparable"] == []
    assert {one["network"].endswith(":deployed") for one in kept["rows"]} == {True, False}
    assert all(one["latency_source"].endswith("bench.json") for one in kept["rows"])


def test_the_fused_form_of_a_run_is_a_network_too(place):
    names = [str(place / "digits"), f"{place / 'digits'}:deployed"]
    ended = plainvision("frontier", *names, "--x", "depth")
    assert (ended.status, ended.err) == (0, "")
    assert [row(ended.out, name)[-4] for name in names] == ["10", "5"]


def test_the_headline_plots_are_drawn_from_the_cards():
    ended = plainvision("frontier", "vanillanet_5", "vanillanet_13", "--x", "depth")
    assert row(ended.out, "vanillanet_5") == ["yes", "5", "a", "72.49", "b"]
    assert row(ended.out, "vanillanet_13") == ["yes", "13", "a", "82.05", "b"]
    ended = plainvision("frontier", "patchconvnet_s60", "patchconvnet_b60", "--x", "memory")
    assert row(ended.out, "patchconvnet_s60") == ["yes", "1321", "a", "82.10", "a"]
    assert "device V100, batch size 256, precision amp" in ended.out


def test_numbers_that_are_not_comparable_are_refused_or_told(place, tmp_path):
    words = ("frontier", place / "digits", "vanillanet_5", "--x", "macs")
    ended = plainvision(*words)
    assert said(
        ended,
        "not comparable",
        "top-1: images digits validation, ImageNet-1k val",
        "top-1: image size 32, 224",
        "--mix",
    )
    ended = plainvision(*words, "--mix", "--figure", tmp_path / "a.png")
    assert (ended.status, ended.err) == (0, "")
    assert "Not comparable: top-1: images digits validation, ImageNet-1k val; top-1: image size" in ended.out
    other = record(tmp_path / "b.json", [BENCH | {"name": "vanillanet_6:deployed", "image_size": 224, "batch_size": 8}])
    ended = plainvision("frontier", other, "vanillanet_5", "--x", "latency")
    parts = ("latency: device A100, cpu (a processor)", "latency: batch size 1, 8", "latency: threads unknown, 1")
    assert said(ended, *parts)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ((), ("no network. Name records, runs or networks",)),
        (("vanilanet_5",), ("vanilanet_5 is no file of a record, no folder of a run and no name of a network",)),
        (("none.json",), ("there is no record none.json",)),
        (("resnet18",), ("nothing is known of the top-1 of resnet18", "plainvision evaluate resnet18 --json")),
        (("resnet50_max", "--x", "latency"), ("nothing is known of the latency of resnet50_max", "plainvision bench")),
        (("vanillanet_5", "--figure", "a.jpg"), ("a.jpg", ".png, .pdf, .svg")),
    ],
)
def test_the_command_says_what_is_wrong(words, parts):
    assert said(plainvision("frontier", *words), *parts)
