"""A run, its deployed form and images of two of its classes, for the tests of every command."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from commands.running import SHORT, STEPS, Ended, Run, plainvision
from PIL import Image

from plainvision.training import loop


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Run:
    place = tmp_path_factory.mktemp("commands")
    words = (*SHORT, "--out", place / "digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "everyone_stops", lambda run, _: run.state.step == STEPS + 1)
        stopped = plainvision(*words)
    shutil.copytree(place / "digits", place / "half")
    return Run(place / "digits", place / "half", stopped, plainvision(*words, "--resume"))


@pytest.fixture(scope="session")
def deployed(run, tmp_path_factory) -> tuple[Path, Ended]:
    file = tmp_path_factory.mktemp("deployed") / "new" / "folder" / "digits.safetensors"
    return file, plainvision("fuse", run.folder, "--out", file)


@pytest.fixture
def two_digits(tmp_path) -> Path:
    """``sevens/test/{3,7}/N.png``: validation images of two of the ten digits, N as in their embedded names."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number in (n for n in range(300) if digits.target[n] in (3, 7)):
        place = tmp_path / "sevens" / "test" / str(digits.target[number])
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.round(digits.images[number] * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{number:04d}.png")
    return tmp_path / "sevens"
