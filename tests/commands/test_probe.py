"""`plainvision probe`: accuracies of frozen features, a record, and a network that the other commands take."""

import json

import torch
from commands.running import plainvision, row, rows, said

from plainvision.training.weights_file import load_network

SHORT = ("--data.train-per-class", "20", "--data.validation-per-class", "6", "--data.workers", "0")


def test_probe_prints_both_classifiers_writes_a_record_and_a_network(run, tmp_path):
    file, record = tmp_path / "probed.safetensors", tmp_path / "probe.json"
    words = ("probe", f"{run.folder}:deployed", *SHORT, "--cache", tmp_path / "features", "--save", file)
    ended = plainvision(*words, "--json", record)
    assert (ended.status, ended.err) == (0, "")
    assert {"linear", "neighbours"} <= rows(ended.out).keys()
    assert "60 images of the split validation of digits; 200 trained" in ended.out
    assert "from the cache" not in ended.out
    assert "from the cache" in plainvision(*words).out
    linear, neighbours = json.loads(record.read_text())["figures"]["rows"]
    assert (linear["classifier"], neighbours["classifier"]) == ("linear", "neighbours")
    assert linear["top1_low"] < linear["top1"] <= linear["top1_high"]
    network, origin = load_network(file)
    assert origin.recipe.name == "linear_probe"
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 10)
    scored = plainvision("evaluate", file, *SHORT[2:])
    assert row(scored.out, "top-1 %") == [f"{linear['top1']:.2f}"]


def test_a_place_that_cannot_be_written_is_told_before_the_work(run, tmp_path):
    (tmp_path / "taken").mkdir()
    assert said(plainvision("probe", run.folder, "--save", tmp_path / "taken"), "it is a folder", "--save")


def test_a_network_by_name_needs_weights_and_images(tmp_path):
    assert said(plainvision("probe", "resnet18"), "no weights for resnet18", "--checkpoint")
