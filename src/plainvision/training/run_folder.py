"""A run's folder: its recipe, metrics, weights and full state.

    recipe.json          what was asked for
    metrics.jsonl        one line per look at the loss and one per epoch
    best.safetensors     the best network so far by validation top-1, the average where the recipe keeps one; once
                         deep training has ended, the best that fuses
    last.safetensors     the newest
    state.pt             everything that a restart needs
    tensorboard/         where TensorBoard is installed

Weights carry the recipe in their header, so that a file alone says which network it belongs to.
"""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from plainvision.files import write_json, write_whole
from plainvision.layers.linear_pair import set_slope
from plainvision.models.loading import load_checkpoint
from plainvision.models.registry import create_model
from plainvision.surgery.fuse import fold
from plainvision.training.recipe import Recipe

WEIGHTS = ("best", "last")


class RunFolder:
    """The files of one run; in a distributed run, only the main process writes.

    Raises:
        ValueError: the folder holds another recipe's run, this one's without ``resume``, or nothing to resume.
        OSError: the folder cannot be written.
    """

    def __init__(self, path: str | Path, recipe: Recipe, *, resume: bool) -> None:
        self.path = Path(path)
        self.recipe = recipe
        known = self.path / "recipe.json"
        if known.exists():
            self._check_same(json.loads(known.read_text()), resume)
        elif resume:
            raise ValueError(f"nothing to resume in {self.path}: it holds no recipe.json. Start without --resume.")
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise ValueError(f"{self.path} is not empty and holds no run of ours. Give an empty or a new folder.")

    def prepare(self) -> None:
        """Create the folder and write the recipe into it.

        Raises:
            OSError: it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / "recipe.json", self.recipe.to_dict())
        except OSError as error:
            raise OSError(
                f"cannot write the run's folder {self.path}: {error.strerror or error}. Give a folder that you may "
                "write, on a disk with space, with --out."
            ) from error

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to the metrics."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def rewind_metrics(self, step: int) -> None:
        """Forget what was logged after ``step``: it will be computed, and logged, again."""
        lines = [line for line in read_metrics(self.path) if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_whole(self.path / "metrics.jsonl", lambda file: file.write_text(text))

    def save_weights(self, kind: str, weights: dict[str, Tensor], classes: tuple[str, ...], epoch: int) -> None:
        """Write the weights of the network as it is in ``epoch``; ``kind`` is "best" or "last"."""
        save_network(self.path / f"{kind}.safetensors", weights, Origin(self.recipe, classes, epoch))

    def save_state(self, state: dict[str, Any]) -> None:
        """Write what a restart needs; a kill while writing leaves the state before."""
        write_whole(self.path / "state.pt", lambda file: torch.save(state, file))

    def load_state(self) -> dict[str, Any] | None:
        """Return what `save_state` wrote last, None when the run never got so far."""
        file = self.path / "state.pt"
        return torch.load(file, map_location="cpu", weights_only=True) if file.exists() else None

    def _check_same(self, there: dict[str, Any], resume: bool) -> None:
        here, there = dotted_fields(self.recipe.to_dict()), dotted_fields(there)
        # How the run uses the hardware may change between two parts of it.
        changed = sorted(
            key
            for key in here.keys() | there.keys()
            if not key.startswith("machine.") and key != "data.workers" and here.get(key) != there.get(key)
        )
        if changed:
            what = ", ".join(f"{key} ({there.get(key)!r} there, {here.get(key)!r} given)" for key in changed[:3])
            raise ValueError(
                f"{self.path} holds a run of another recipe, {there.get('name')!r}; it differs in {what}. Give another "
                "folder with --out, or the recipe and the overrides of that run."
            )
        if not resume:
            raise ValueError(
                f"{self.path} already holds a run of the recipe {self.recipe.name!r}. Add --resume to continue it, or "
                "give another folder with --out."
            )


@dataclass(frozen=True)
class Origin:
    """Where weights come from: enough to rebuild their network."""

    recipe: Recipe
    """The recipe that trained them."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the logits."""
    epoch: int
    """The epoch whose form the network has, from 0."""
    deployed: bool = False
    """Whether it was fused."""


def build_network(recipe: Recipe, classes: int, epoch: int) -> nn.Module:
    """Return the network of a recipe, with new weights, in the form that it has in ``epoch``."""
    model = create_model(recipe.model, **{"num_classes": classes, **recipe.model_options})
    for technique in recipe.techniques:
        model = technique.build(model)
    for technique in recipe.techniques:
        model = technique.reshape(model, epoch)
    return model


def save_network(path: Path, weights: dict[str, Tensor], origin: Origin) -> None:
    """Write a network's state dict, with where it comes from, as safetensors."""
    header = {
        "recipe": origin.recipe.to_dict(),
        "classes": origin.classes,
        "epoch": origin.epoch,
        "deployed": origin.deployed,
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    try:
        write_whole(path, lambda file: save_file(tensors, file, metadata={"plainvision": json.dumps(header)}))
    except SafetensorError as error:
        raise OSError(f"cannot write {path}: {error}. Look for space on the disk; the file before is kept.") from error


def load_network(source: str | Path, weights: str = "best") -> tuple[nn.Module, Origin]:
    """Return the network in a run's folder or in a file that plainvision wrote, in eval mode, and its origin.

    Args:
        source: the folder of a run, or a .safetensors file.
        weights: "best" or "last", for a folder.

    Raises:
        FileNotFoundError: there is no such run or file.
        ValueError: the file is damaged, or does not say which network it belongs to.
    """
    path = Path(source)
    if path.is_dir():
        path = path / f"{weights}.safetensors"
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path()
        near = difflib.get_close_matches(path.name, [item.name for item in folder.iterdir()], n=3)
        raise FileNotFoundError(
            f"no weights at {path}."
            + (f" Nearby: {', '.join(near)}." if near else "")
            + " Give the folder of a run, or a "
            ".safetensors file that plainvision wrote."
        )
    origin = _read_origin(path)
    model = build_network(origin.recipe, len(origin.classes), origin.epoch)
    if origin.deployed:
        set_slope(model, 1)
        model = fold(model)
    return load_checkpoint(model, path).eval(), origin


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics; one that a kill cut off is left out."""
    file = Path(folder) / "metrics.jsonl"
    lines = []
    for text in file.read_text().splitlines() if file.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def dotted_fields(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested fields under the dotted names that the command line has for them."""
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        flat |= dotted_fields(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _read_origin(path: Path) -> Origin:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}). Copy it again.") from error
    if "plainvision" not in metadata:
        raise ValueError(
            f"{path} does not say which network its weights belong to: plainvision did not write it. Build the network "
            "with `plainvision.create_model` and use `plainvision.load_checkpoint`, or on the command line name it "
            "with --model."
        )
    header = json.loads(metadata["plainvision"])
    recipe = Recipe.from_dict(header["recipe"])
    return Origin(recipe, tuple(header["classes"]), header["epoch"], header["deployed"])
