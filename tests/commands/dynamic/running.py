"""How tests run `plainvision dynamic`, and the networks they run it on."""

import contextlib
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from networks_for_tests import trained

from plainvision import commands
from plainvision.data.batches import EvaluationBatches
from plainvision.dynamic import Outcomes
from plainvision.models.resnet_cifar import ResNetCifar
from plainvision.training.recipe import Data, Recipe
from plainvision.training.weights_file import Origin, build_network, save_network

NAMES = ("dots", "lines", "rings")
STRIDES = ("--stride", "A=1,2", "D=1,2")
DILATIONS = ("--dilation", "A=1,2", "D=1,2")


@dataclass(frozen=True)
class Ended:
    """What a command leaves behind: an exit status and two texts."""

    status: int
    out: str
    err: str


def plainvision(*words: object) -> Ended:
    """Run `plainvision dynamic` in this process; an exception that would reach the user fails the test."""
    out, err = io.StringIO(), io.StringIO()
    status: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            commands.main(["dynamic", *map(str, words)])
        except SystemExit as ended:
            status = ended.code
    assert "Traceback" not in out.getvalue() + err.getvalue()
    return Ended(status or 0, out.getvalue(), err.getvalue())


def good(*words: object) -> str:
    """Return what a command prints that succeeds in silence."""
    ended = plainvision(*words)
    assert (ended.status, ended.err) == (0, "")
    return ended.out


def failure(*words: object) -> str:
    """Return what the command says when it gives up, as bad input makes it."""
    ended = plainvision(*words)
    said = " ".join(ended.err.split())
    assert ended.status == 2, said
    return said.removeprefix("plainvision: ")


def cells(text: str) -> list[list[str]]:
    """Return the words of each line."""
    return [line.split() for line in text.splitlines() if line.strip()]


def record(path: Path) -> dict[str, Any]:
    """Return the figures of a record, which tells nothing of this machine's folders."""
    text = path.read_text()
    assert str(path.parent.parent) not in text
    return json.loads(text)["figures"]


@dataclass(frozen=True)
class Place:
    """A run, its images, and outcomes of it."""

    folder: Path
    run: Path
    images: Path
    strides: Path
    dilations: Path
    said: str

    @property
    def words(self) -> tuple[str | Path, ...]:
        """The run with its images, as options."""
        return self.run, "--data.root", self.images


def made(run: Path, recipe: Recipe, seed: int = 0) -> None:
    """Write a run of that recipe, which was never trained."""
    run.mkdir()
    network = trained(build_network(recipe, len(NAMES), 0), seed)
    if isinstance(network, ResNetCifar):
        learn_classifier(network, recipe.data)
    save_network(run / "best.safetensors", network.state_dict(), Origin(recipe, NAMES, 0))


def learn_classifier(network: ResNetCifar, data: Data) -> None:
    """Let the classifier fit the training images, or all answers would be the same one."""
    (batch,) = EvaluationBatches(replace(data, validation_split="train"), batch_size=99)
    with torch.no_grad():
        features = network.forward_head(network.forward_features(batch.images), pre_logits=True)
        features = torch.cat([features, torch.ones(len(features), 1)], 1)
        wanted = torch.nn.functional.one_hot(batch.labels, len(NAMES)).float()
        weights = torch.linalg.solve(features.T @ features + 1e-2 * torch.eye(features.shape[1]), features.T @ wanted).T
        network.linear.weight.copy_(weights[:, :-1])
        network.linear.bias.copy_(weights[:, -1])


def outcomes(folder: Path) -> Outcomes:
    return Outcomes.load(folder / "outcomes.safetensors")
