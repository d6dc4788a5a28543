"""Techniques that are added to a recipe, or left out, in words."""

import json

import pytest
from commands.running import plainvision, said

from plainvision.commands.options.techniques import changed_techniques
from plainvision.recipes import get_recipe
from plainvision.training.techniques import (
    EMA,
    DeepTraining,
    FuseAfterAnneal,
    LinearPairs,
    RandomOptions,
    SeriesActivations,
    SpatialOps,
)

BASE = get_recipe("vanillanet_clothing")  # deep training and an average


@pytest.mark.parametrize(
    ("added", "dropped", "made"),
    [
        ([], ["deep-training"], (EMA(0.996),)),
        (["fuse-after-anneal"], [], (DeepTraining(33), FuseAfterAnneal(), EMA(0.996))),
        (["LinearPairs", "series_activations:n=2"], ["ema"], (SeriesActivations(2), LinearPairs(), DeepTraining(33))),
        (["ema:decay=0.9,warmup=false"], ["ema"], (DeepTraining(33), EMA(0.9, warmup=False))),
        (["deep-training:epochs=4,anneal=cosine"], ["deep-training"], (DeepTraining(4, "cosine"), EMA(0.996))),
        (["spatial-ops:op=max,where=stages.2.*"], ["ema"], (SpatialOps("max", "stages.2.*"), DeepTraining(33))),
        (
            ["random-options:attribute=null,dilation=(1, 2),sites={'a': 'conv1', 'b': 'conv2'}"],
            ["ema", "deep-training"],
            (RandomOptions(attribute=None, dilation=(1, 2), sites={"a": "conv1", "b": "conv2"}),),
        ),
    ],
)
def test_words_add_a_technique_at_its_place_and_leave_one_out(added, dropped, made):
    assert changed_techniques(BASE, added, dropped).techniques == made


@pytest.mark.parametrize(
    ("added", "dropped", "message"),
    [
        (
            ["deep-trainig:epochs=3"],
            [],
            r"no such technique\. Did you mean deep-training\? There are plain, spatial-ops,",
        ),
        (["mixup"], [], r"--with mixup: .* It is a field of the recipe: --augment\.mixup\."),
        ([], ["label-smoothing"], r"--without label-smoothing: .* field of the recipe: --label-smoothing\."),
        ([], ["linear-pairs"], r"vanillanet_clothing has no such technique; it has deep-training, ema\."),
        (["ema"], [], r"has this technique already\. Change its options by --techniques\.1\.NAME, or .* --without ema"),
        (["linear-pairs", "linear-pairs"], [], r"has this technique already"),
        (
            ["deep-training"],
            ["deep-training"],
            r"lacks the field 'epochs'\. It takes epochs, anneal: deep-training:opt",
        ),
        (["ema:rate=1"], ["ema"], r"unknown field 'rate'\. It takes decay, warmup"),
        (["ema:decay=much"], ["ema"], r"ema\.decay is 'much', and must be a number\."),
        (["ema:decay=2"], ["ema"], r"decay=2 must not be negative"),
        (["ema:decay"], ["ema"], r"'decay' is no option\. Write ema:option=value"),
    ],
)
def test_words_that_cannot_be_are_explained(added, dropped, message):
    with pytest.raises(ValueError, match=message):
        changed_techniques(BASE, added, dropped)


def test_the_run_records_its_techniques_and_goes_on_with_them(tmp_path, monkeypatch):
    from plainvision.training import loop

    few = ("--data.train-per-class", "8", "--data.validation-per-class", "2", "--batch-size", "40", "--epochs", "3")
    words = ("train", "vanillanet_digits", *few, "--without", "deep-training", "--with", "ema:decay=0.5", "--out")
    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "everyone_stops", lambda run, _: run.state.step == 3)
        stopped = plainvision(*words, tmp_path / "a")
    assert stopped.status == 130
    assert "--without deep-training --with ema:decay=0.5" in stopped.err
    assert "techniques." not in stopped.out  # nothing of what is left out was scaled
    recorded = json.loads((tmp_path / "a" / "recipe.json").read_text())["techniques"]
    assert recorded == [{"technique": "EMA", "decay": 0.5, "warmup": True}]
    wrong = plainvision("train", "vanillanet_digits", "--without", "ema", "--out", tmp_path / "a", "--resume")
    assert said(wrong, "it differs in techniques")
    assert plainvision(*words, tmp_path / "a", "--resume").status == 0
    assert plainvision(*words, tmp_path / "b").status == 0
    weights = [(tmp_path / name / "last.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert plainvision("train", "--resume", tmp_path / "a").status == 0
