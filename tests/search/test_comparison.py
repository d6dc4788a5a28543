"""`plainvision search` from images to networks, found ones beside random ones."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path

import pytest
from search.searches_for_tests import TINY, cells

from plainvision.commands import main
from plainvision.search import Budget, compare_with_random, load_genotype, random_genotype
from plainvision.search.cell_search import _Search
from plainvision.search.comparison import cell_recipe, means
from plainvision.training import loop
from plainvision.training.recipe import Recipe
from plainvision.training.weights_file import load_network

WORDS = shlex.split(
    "--data.image-size 8 --data.channels 1 --data.mean 0.3 --data.std 0.37 --data.workers 0 --depth 3 --nodes 2 "
    "--channels 4 --epochs 1 --batch-size 350 --training.channels 4 --training.epochs 1 --training.batch-size 479 "
    "--training.seeds 1"
)


def search(*words: object) -> None:
    main(["search", *WORDS, *map(str, words)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A search whose training was interrupted, and that was resumed."""
    out = tmp_path_factory.mktemp("search") / "cells"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "everyone_stops", lambda run, _: run.recipe.name == "random_0")
        with pytest.raises(SystemExit) as ended:
            search("--out", out)
    assert ended.value.code == 130
    search("--out", out, "--resume", "--figure", out / "other.svg")
    return out


def test_the_command_leaves_cells_counts_a_figure_and_scores(folder):
    names = {
        "cells.png",
        "choices.json",
        "comparison.json",
        "record.json",
        "found_0",
        "genotype.json",
        "metrics.jsonl",
        "other.svg",
    }
    assert {path.name for path in folder.iterdir()} == names | {"random_0", "search.json", "state.pt"}
    counts = json.loads((folder / "choices.json").read_text())
    assert [(row["cell"], row["places"]) for row in counts] == [("normal", [1]), ("reduction", [2, 3])]
    scores = json.loads((folder / "comparison.json").read_text())
    assert [row["cells"] for row in scores["networks"]] == ["found", "random"]
    assert scores["mean"][0]["top1_mean"] == scores["networks"][0]["top1"]


def test_found_and_random_networks_have_the_same_budget(folder):
    found, random = (
        Recipe.from_dict(json.loads((folder / f"{kind}_0" / "recipe.json").read_text())) for kind in ("found", "random")
    )
    texts = [recipe.model_options.pop("genotype") for recipe in (found, random)]
    assert asdict(found) | {"name": ""} == asdict(random) | {"name": ""}
    genotype = load_genotype(folder / "genotype.json")
    assert load_genotype(texts[0]).normal == genotype.normal
    drawn = random_genotype(genotype.space, 0)
    assert (load_genotype(texts[1]).normal, load_genotype(texts[1]).reduction) == (drawn.normal, drawn.reduction)


def test_a_trained_network_needs_nothing_but_its_weights(folder, tmp_path, monkeypatch, capsys):
    weights = tmp_path / "alone.safetensors"
    weights.write_bytes((folder / "random_0" / "best.safetensors").read_bytes())
    monkeypatch.chdir(tmp_path)
    network, origin = load_network("alone.safetensors")
    assert len(origin.classes) == network.num_classes == 10
    main(["evaluate", "alone.safetensors"])
    assert "10" in capsys.readouterr().out


def test_a_search_alone_can_be_drawn_first_and_trained_later(tmp_path, monkeypatch, capsys):
    search("--out", tmp_path / "cells", "--skip-training")
    shown = " ".join(capsys.readouterr().out.split())
    assert "normal 1" in shown
    assert f"drawn in {tmp_path}/cells/cells.png" in shown
    assert not (tmp_path / "cells" / "found_0").exists()
    monkeypatch.setattr(_Search, "advance", None)  # what is finished is not repeated
    search("--out", tmp_path / "cells", "--resume")
    shown = " ".join(capsys.readouterr().out.split())
    assert "found mean" in shown
    assert "random mean" in shown


def test_ctrl_c_tells_the_command_to_go_on_with(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_Search, "advance", interrupted)
    with pytest.raises(SystemExit) as ended:
        search("--out", tmp_path / "cells")
    assert ended.value.code == 130
    said = capsys.readouterr().err
    assert "stopped at step 0 of 2" in said
    assert f"plainvision search {shlex.join(WORDS)} --out {tmp_path}/cells --resume" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--figure cells.jpg", "cannot write a figure to cells.jpg: its suffix must be one of .png, .pdf, .svg"),
        ("--resume", "it holds no search.json. Start without --resume"),
        ("--training.epochs 0", "training.epochs=0 must be above zero"),
        ("--training.lr nan", "training.lr=nan must be above zero and finite"),
        ("--architecture-lr nan", "architecture_lr=nan must be above zero and finite"),
        ("--depth 2", "depth=2: a network has two reduction cells and a normal one at least"),
        ("--data.root nowhere", "nowhere"),
    ],
)
def test_bad_input_is_one_message(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        search("--out", tmp_path / "cells", *words.split())
    assert ended.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_other_cells_is_not_continued(tmp_path):
    budget = Budget(channels=4, epochs=1, batch_size=1437, seeds=1)
    recipe = cell_recipe(cells(seed=1), TINY, budget, name="found_0", seed=0)
    (tmp_path / "found_0").mkdir()
    (tmp_path / "found_0" / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    with pytest.raises(
        ValueError, match=r"holds a run of another recipe, 'found_0'; it differs in model_options\.genotype"
    ):
        compare_with_random(cells(seed=2), TINY, budget, tmp_path, resume=True)


def test_means_have_a_spread_between_seeds_only():
    from plainvision.search import Trained

    rows = [
        Trained("found", 0, 80.0, 100, 1000, 0.5),
        Trained("random", 0, 70.0, 300, 3000, 0.25),
        Trained("found", 1, 84.0, 100, 1000, 0.5),
    ]
    found, random = means(rows)
    assert (found["networks"], found["top1_mean"], found["top1_std"]) == (2, 82.0, pytest.approx(8**0.5))
    assert (random["networks"], random["top1_mean"], random["top1_std"]) == (1, 70.0, None)
    assert random["parameters_mean"] == 300
