"""Files of a run or a search that were damaged or edited are named, never a traceback and never another result."""

import json
import os
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from search.searches_for_tests import TINY as SEARCH
from training.recipes_for_tests import TINY

from plainvision.search import search_cells
from plainvision.training import loop, train
from plainvision.training.resumable import read_metrics

HALF = replace(TINY, epochs=3)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A run of three epochs that was stopped in the third."""
    folder = tmp_path_factory.mktemp("run") / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        step = loop._Run.step

        def broken(run, batch):
            if run.state.step == 5:
                raise RuntimeError("killed")
            step(run, batch)

        patch.setattr(loop._Run, "step", broken)
        with pytest.raises(RuntimeError, match="killed"):
            train(HALF, folder)
    return folder


@pytest.fixture
def run(stopped, tmp_path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "whole"
    search_cells(replace(SEARCH, epochs=1), folder)
    return folder


def edited(**changes: object) -> Callable[[Path], None]:
    def edit(file: Path) -> None:
        state = torch.load(file, weights_only=True)
        torch.save(state | changes, file)

    return edit


def lacking(name: str) -> Callable[[Path], None]:
    def edit(file: Path) -> None:
        state = torch.load(file, weights_only=True)
        del state[name]
        torch.save(state, file)

    return edit


def holding(content: object) -> Callable[[Path], None]:
    return lambda file: torch.save(content, file)


def rewritten(content: bytes) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(content)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (rewritten(b""), r"damaged, or no state of ours \(BadZipFile"),
        (cut, r"damaged, or no state of ours \(BadZipFile"),
        (zeroed, r"damaged, or no state of ours \(BadZipFile"),
        (rewritten(b"<!doctype html>"), r"damaged, or no state of ours"),
        (holding([1, 2]), r"it holds a list"),
        (holding({"step": 4}), r"words"),
        (edited(step="4"), r"step is '4'"),
        (edited(step=-1), r"step is -1"),
        (edited(step=10_000), r"does not fit this run .*step is 10000, of 6"),
        (edited(best_top1="high"), r"does not fit this run .*high"),
        (edited(model={}), r"does not fit this run .*Missing key"),
        (edited(model=3), r"does not fit this run"),
        (edited(optimizer={"state": {}, "param_groups": []}), r"does not fit this run .*parameter group"),
        (edited(optimizer=None), r"does not fit this run"),
        (edited(words=torch.tensor([1, 2], dtype=torch.uint8)), r"damaged, or no state of ours"),
        (lacking("model"), r"does not fit this run .*model"),
    ],
)
def test_a_damaged_state_is_named(run, damage, words):
    damage(run / "state.pt")
    with pytest.raises(ValueError, match=rf"state\.pt .*{words}.*--resume begins anew"):
        train(HALF, run, resume=True)
    (run / "state.pt").unlink()  # as the message says
    train(HALF, run, resume=True)


def test_one_flipped_bit_of_a_state_is_found_or_changes_nothing(run):
    content = bytearray((run / "state.pt").read_bytes())
    folder = loop.RunFolder(run, HALF, resume=True)
    right = folder.load_state()
    told = []
    for place in range(17, len(content), len(content) // 60):
        content[place] ^= 4
        (run / "state.pt").write_bytes(content)
        try:
            torch.testing.assert_close(folder.load_state(), right, rtol=0, atol=0)
        except ValueError as error:
            told.append(str(error))
        content[place] ^= 4
    assert len(told) > 30
    assert all("state.pt is damaged" in words for words in told)


@pytest.mark.parametrize(
    "changes",
    [{"optimizer": "adamw"}, {"model_options": {"width": 1 / 32, "in_chans": 1}}, {"lr": 2e-3}],
    ids=["optimizer", "network", "rate"],
)
def test_the_state_of_another_run_is_refused(run, tmp_path, changes):
    train(replace(HALF, epochs=1, **changes), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "state.pt", run / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt belongs to another run: it differs in .* there, .* given\)"):
        train(HALF, run, resume=True)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (rewritten(b""), r"recipe\.json is damaged"),
        (cut, r"recipe\.json is damaged"),
        (zeroed, r"recipe\.json is damaged"),
        (rewritten(b"[1]"), r"recipe\.json is damaged: it holds JSON, but no object"),
        (rewritten(b'{"lr": NaN}'), r"recipe\.json is damaged: it is not whole JSON \(NaN is no number"),
        (rewritten(b"\xff\xfe\xfd"), r"recipe\.json is damaged"),
        (rewritten(b"[" * 100_000), r"recipe\.json is damaged"),
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_a_damaged_recipe_is_named(run, damage, words, resume):
    damage(run / "recipe.json")
    with pytest.raises(ValueError, match=words):
        train(HALF, run, resume=resume)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lr", "fast", r"differs in lr \('fast' there, 0\.001 given\)"),
        ("colour", 1, r"differs in colour \(1 there, None given\)"),
        ("techniques", [{"technique": "EMA"}], r"differs in techniques"),
        ("data", 3, r"differs in data"),
    ],
)
def test_an_edited_recipe_is_another_one(run, name, value, words):
    recipe = json.loads((run / "recipe.json").read_text())
    (run / "recipe.json").write_text(json.dumps(recipe | {name: value}))
    with pytest.raises(ValueError, match=words):
        train(HALF, run, resume=True)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", r"line 2 \(it is not whole JSON \(Expecting value"),
        ("[1]", r"line 2 \(it holds JSON, but no object"),
        ('{"step": "4"}', r"line 2 \(its step is '4'"),
        ('{"step": 4, "top1": "high"}', r"line 2 \(top1 is 'high', and no number"),
        ('{"step": 4, "loss": NaN}', r"line 2 \(it is not whole JSON \(NaN is no number"),
        ("", r"line 2 \(it is not whole JSON \(Expecting value"),
    ],
)
def test_a_damaged_line_of_the_metrics_is_named(run, line, words):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    with pytest.raises(ValueError, match=rf"metrics\.jsonl is damaged in {words}.*Remove that line"):
        train(HALF, run, resume=True)
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    train(HALF, run, resume=True)


def test_metrics_that_are_gone_or_have_no_last_newline_change_nothing(run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "other"))
    (run / "metrics.jsonl").unlink()
    (other / "metrics.jsonl").write_text((other / "metrics.jsonl").read_text().rstrip("\n"))
    train(HALF, run, resume=True)
    train(HALF, other, resume=True)
    one, two = ((folder / "last.safetensors").read_bytes() for folder in (run, other))
    assert one == two
    assert [line["epoch"] for line in read_metrics(other) if "top1" in line] == [0, 1, 2]


@pytest.mark.parametrize("damage", [rewritten(b""), cut, zeroed, holding([]), edited(step=9), edited(net={})])
def test_a_damaged_state_of_a_search_is_named(searched, tmp_path, damage):
    folder = Path(shutil.copytree(searched, tmp_path / "search"))
    damage(folder / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt (is damaged|does not fit this search).*--resume begins anew"):
        search_cells(replace(SEARCH, epochs=1), folder, resume=True)


# images that changed


@pytest.fixture
def pictures(tmp_path) -> Path:
    for split, count in (("train", 12), ("validation", 4)):
        for number in range(count):
            file = tmp_path / "pictures" / split / "ab"[number % 2] / f"{number:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((32, 32), 9 * number, dtype=np.uint8)).save(file)
    return tmp_path / "pictures"


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "train" / "a" / "00.png").unlink(),
        lambda root: (root / "train" / "a" / "00.png").rename(root / "train" / "b" / "00.png"),
        lambda root: (root / "validation" / "b" / "01.png").rename(root / "validation" / "b" / "99.png"),
    ],
    ids=["one is gone", "one has another class", "one of the validation images has another name"],
)
def test_a_run_whose_images_changed_is_not_resumed(pictures, tmp_path, change):
    recipe = replace(TINY, batch_size=4, data=replace(TINY.data, root=str(pictures), train_per_class=None))
    train(recipe, tmp_path / "run")
    train(recipe, tmp_path / "run", resume=True)
    change(pictures)
    with pytest.raises(ValueError, match=r"the images are not those that the run in .* began with.*Restore them"):
        train(recipe, tmp_path / "run", resume=True)


def test_a_search_whose_images_changed_is_not_resumed(pictures, tmp_path):
    settings = replace(SEARCH, epochs=1, batch_size=5, data=replace(SEARCH.data, root=str(pictures)))
    search_cells(settings, tmp_path / "search")
    (pictures / "train" / "a" / "00.png").rename(pictures / "train" / "a" / "new.png")
    with pytest.raises(ValueError, match=r"the images are not those that the search in"):
        search_cells(settings, tmp_path / "search", resume=True)


# disks and folders


@pytest.mark.parametrize("size", [100, 700, 3000, 20_000, 60_000])
def test_a_full_disk_is_one_error_and_the_run_goes_on_from_what_was_there(stopped, tmp_path, size):
    run = Path(shutil.copytree(stopped, tmp_path / "run"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(OSError, match=r"cannot write .*(whole|kept)\. "):
            train(HALF, run, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    train(HALF, run, resume=True)
    train(HALF, tmp_path / "other")
    one, two = ((folder / "last.safetensors").read_bytes() for folder in (run, tmp_path / "other"))
    assert one == two


@pytest.mark.parametrize("step", [1, 2])
def test_a_folder_that_is_removed_during_the_run_is_one_error(tmp_path, monkeypatch, step):
    took = loop._Run.step

    def removed(run, batch):
        if run.state.step == step - 1:
            shutil.rmtree(run.folder.path)
        took(run, batch)

    monkeypatch.setattr(loop._Run, "step", removed)
    with pytest.raises(OSError, match=r"cannot write .*metrics\.jsonl: No such file or directory"):
        train(TINY, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_only_be_read_is_one_error(run):
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    run.chmod(0o500)
    try:
        with pytest.raises(OSError, match=r"cannot write .*Permission denied"):
            train(HALF, run, resume=True)
    finally:
        run.chmod(0o700)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
