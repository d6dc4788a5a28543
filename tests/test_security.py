"""The promises of docs/security.md: what somebody else's file says is never carried out."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import plainvision as pv
from plainvision.commands import main
from plainvision.genotype import load_genotype
from plainvision.models.reading import read_safetensors, save_tensors
from plainvision.training import Data, Recipe, train
from plainvision.training.weights_file import Origin, build_network, save_network

ROOT = Path(__file__).parents[1]
PROMISES = re.findall(r"^- (.+?) `(tests/[\w/.]+\.py)::(\w+)`$", (ROOT / "docs" / "security.md").read_text(), re.M)
NAMES = ("hat", "shirt")
RECIPE = Recipe(
    name="tiny",
    model="resnet20_cifar",
    model_options={"width": 0.5, "depths": [1, 1, 1]},
    data=Data(root="digits", image_size=16, workers=0),
    epochs=1,
    warmup_epochs=0,
    batch_size=700,
)


class Bomb:
    """What a pickle of weights would run."""

    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder to work in, in which nothing may be executed."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.rglob("executed*"))


def test_every_promise_names_a_test():
    page = (ROOT / "docs" / "security.md").read_text()
    assert len(PROMISES) > 20
    assert len(PROMISES) == page.count("`tests/")
    for promise, file, test in PROMISES:
        assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.M), promise


def hostile(folder: Path, root: str) -> None:
    data = replace(RECIPE.data, root="x")
    recipe = replace(RECIPE, data=data)
    save_network(folder / "best.safetensors", build_network(recipe, 2, 0).state_dict(), Origin(recipe, NAMES, 0))
    tensors, words = read_safetensors(folder / "best.safetensors")
    header = json.loads(words["plainvision"])
    header["recipe"]["data"] |= {"root": root, "validation_root": root, "allow_pipes": True}
    header["recipe"]["start_from"] = root
    save_tensors(folder / "best.safetensors", tensors, {"plainvision": json.dumps(header)})
    (folder / "recipe.json").write_text(json.dumps(header["recipe"]))


@pytest.mark.parametrize(
    "root", ["wds/pipe:touch executed", "hfds/somebody/script", "http://127.0.0.1:1/a.zip", "/etc"]
)
@pytest.mark.parametrize(
    "words",
    [
        "evaluate {}",
        "evaluate {}/best.safetensors",
        "dynamic evaluate --model {} --stride A=1,2 --out out",
        "dynamic finetune --model {} --stride A=1,2 --epochs 1 --batch-size 2 --out out",
    ],
)
def test_no_command_opens_what_a_header_records(place, capsys, words, root):
    hostile(place, root)
    with pytest.raises(SystemExit) as ended:
        main(words.format(place).split())
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in said
    assert (
        f"records data.root as {root!r}, and a file opens nothing by itself. Give the images with --data.root" in said
    )


def test_what_needs_no_images_works_on_a_file_whose_data_cannot_be_trusted(place, capsys):
    hostile(place, "wds/pipe:touch executed")
    main(["fuse", str(place), "--out", "fused.safetensors"])
    main(["bench", "fused.safetensors", "--image-size", "16", "--runs", "2"])
    assert "fused.safetensors" in capsys.readouterr().out


def test_the_state_of_a_run_runs_no_code(place):
    train(RECIPE, place / "run")
    torch.save({"step": Bomb()}, place / "run" / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt is damaged, or no state of ours"):
        train(RECIPE, place / "run", resume=True)


def test_what_was_computed_before_runs_no_code(place):
    torch.save({"step": Bomb()}, place / "odd.safetensors")
    torch.save({"step": Bomb()}, place / "odd.json")
    for read in (pv.dynamic.Outcomes.load, load_genotype):
        for file in ("odd.safetensors", "odd.json"):
            with pytest.raises(ValueError, match="odd"):
                read(place / file)
