"""The help of every verb: an example first, two screens at most, and everything behind `--help-all`."""

import re

import pytest
from commands.running import plainvision

from plainvision import commands
from plainvision.commands import detect, dynamic, segment
from plainvision.recipes import list_recipes

GROUPS = {"dynamic": dynamic, "detect": detect, "segment": segment}
VERBS = [[verb] for verb in commands.VERBS] + [[name, verb] for name, group in GROUPS.items() for verb in group.VERBS]

TASKS = [["detect", "train", "retinanet"], ["segment", "train", "upernet"]]


@pytest.mark.parametrize("words", VERBS + [["train", name] for name in list_recipes()[::6]] + TASKS, ids=" ".join)
def test_help_begins_with_an_example_and_fits_on_two_screens(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = plainvision(*words, "--help")
    assert (shown.status, shown.err) == (0, "")
    assert shown.out.startswith(f"Example: plainvision {' '.join(words[:1] if words[0] == 'train' else words)} ")
    assert len(shown.out.splitlines()) <= 80


def test_rare_options_are_left_to_another_word_and_all_of_them_work(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for words in (["train", "vanillanet_digits"], ["study"], ["search"], ["dynamic", "finetune"]):
        common, whole = (plainvision(*words, word).out for word in ("--help", "--help-all"))
        (left_out,) = re.findall(rf"^`plainvision {' '.join(words)} --help-all` shows (\d+) more\.$", common, re.M)
        options = [set(re.findall(r"^  (--[\w.-]+)", text, re.MULTILINE)) for text in (common, whole)]
        assert options[0] < options[1]
        assert len(options[1] - options[0]) == int(left_out)
        assert "--help-all` shows" not in whole
    assert {"--augment.mixup", "--betas", "--machine.fsdp"} <= set(
        re.findall(r"--[\w.-]+", plainvision("train", "vanillanet_digits", "--help-all").out)
    )


def test_the_same_words_mean_the_same_after_every_verb_that_takes_a_network():
    for words in (["evaluate"], ["predict"], ["fuse"], ["bench"], ["explain"], ["dynamic", "evaluate"]):
        whole = plainvision(*words, "--help-all").out
        assert [
            option
            for option in ("--checkpoint", "--pretrained", "--weights", "--device")
            if not re.search(rf"^  {option}\b", whole, re.MULTILINE)
        ] == []
        assert "torchvision/NAME" in " ".join(whole.split())


def test_help_says_where_figure_and_record_go_without_a_word():
    kept = [
        ["study"],
        ["sweep", "vanillanet_digits"],
        ["search"],
        *(["dynamic", verb] for verb in ("bounds", "greedy")),
    ]
    kept += [["dynamic", verb] for verb in ("evaluate", "finetune", "efficiency", "preferences")]
    asked = [["bench"], ["evaluate"], ["tune"], ["frontier"]]
    for words in (*kept, *asked):
        whole = " ".join(plainvision(*words, "--help-all").out.split())
        places = re.findall(r"--(?:figure|json) .*?by default ([a-z ]+)\.", whole)
        assert places == ["beside the results" if words in kept else "nowhere"] * (1 if words == ["search"] else 2), (
            words
        )


@pytest.mark.parametrize("words", TASKS, ids=" ".join)
def test_help_of_a_task_speaks_of_the_task(words):
    whole = plainvision(*words, "--help-all").out
    text = " ".join(whole.split())
    for word in (
        "top-1",
        "mixup",
        "CutMix",
        "class folders",
        "hfds",
        "each class",
        "digits",
        "--task.",
        "cross_entropy",
    ):
        assert word not in text, word
    options = set(re.findall(r"^  (--[\w.-]+)", whole, re.MULTILINE))
    assert {"--data.root", "--epochs", "--with", "--freeze-norms", "--augment.scale", "--machine.fsdp"} < options
    assert ("--label-smoothing" in options) == ("--num-classes" in options) == (words[0] == "segment")
    assert "--data.root STR" in whole
    assert re.search(r"--data\.root STR[^-]*\(required\)", text)
