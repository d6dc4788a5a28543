"""`plainvision dynamic finetune`: a run, and the bounds before and after it."""

import shlex

import numpy as np
import torch
from commands.dynamic.running import STRIDES, cells, failure, good, outcomes, plainvision, record

import plainvision as pv
from plainvision.training import loop
from plainvision.training.weights_file import load_network


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


def test_finetune_combines_attributes_and_efficiency_sets_before_and_after_beside_each_other(place, tmp_path):
    """Figure 6: strides and sizes change together, and the point after fine-tuning stands beside that before it."""
    words = ("--stride", "A=1,2", "D=1,2", "--size", "A=1,3", "D=1,3", "--epochs", 1, "--batch-size", 4)
    said = good("finetune", *place.words, *words, "--no-controls", "--out", tmp_path / "rof")
    recipe = load_network(tmp_path / "rof" / "run", "last")[1].recipe
    (technique,) = recipe.techniques
    assert (technique.attribute, technique.stride) == (None, {"A": (1, 2), "D": (1, 2)})
    assert technique.size == {"A": (1, 3), "D": (1, 3)}
    before, after = (outcomes(tmp_path / "rof" / name) for name in ("before", "after"))
    assert len(before.permutations) == len(after.permutations) == 16
    assert before.attributes == after.attributes == ("stride", "size")
    assert any(line[:2] == ["after", "16"] for line in cells(said))
    good("efficiency", tmp_path / "rof" / "before", tmp_path / "rof" / "after", "--json", tmp_path / "e.json")
    rows = record(tmp_path / "e.json")["rows"]
    found = {(row["outcomes"], row["what"]): row for row in rows}
    for name, one in (("before", before), ("after", after)):
        cheap = one.cheapest("best")
        assert found[name, "best case, cheapest"]["macs"] == cheap.mean_macs
        assert found[name, "best case, cheapest"]["top1"] == cheap.accuracy == one.bounds().best
