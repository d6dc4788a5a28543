"""The network, as options of the command line: a trained one of ours, timm's or torchvision's."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

    from plainvision.training.recipe import Data

_TORCHVISION = "torchvision/"


@dataclass(frozen=True)
class Network:
    """A trained network, and what it knows about its images."""

    model: "nn.Module"
    data: "Data"
    classes: tuple[str, ...] | None
    name: str | None
    """What to call it in records; None lets it say so itself."""


@dataclass(frozen=True)
class NetworkOptions:
    """Which network, and whose weights."""

    model: str
    """The folder of a run, a .safetensors file that plainvision wrote, or a name: ours, timm's, or torchvision/NAME."""
    checkpoint: str | None = None
    """Path or URL of the weights of a network by name."""
    pretrained: bool = False
    """Or download its published weights: timm's, or the first of torchvision, which arXiv:2103.09891 took."""
    num_classes: int | None = None
    """Classes of a network by name; by default its own number."""
    weights: Literal["best", "last"] = "best"
    """Which weights of a run."""

    @property
    def is_ours(self) -> bool:
        """Whether this is a run's folder or a file of ours, which bring their weights, rather than a name."""
        name = self.model
        if name.startswith((_TORCHVISION, "hf-hub:", "hf_hub:", "local-dir:")):
            return False
        return Path(name).exists() or name.endswith(".safetensors") or "/" in name

    @property
    def is_torchvision(self) -> bool:
        """Whether this is one of torchvision's."""
        return self.model.startswith(_TORCHVISION)

    def check(self) -> None:
        """Check that there are weights, and from one place.

        Raises:
            ValueError: there are none, or from two.
        """
        if self.is_ours:
            given = [
                option
                for option, value in (
                    ("--checkpoint", self.checkpoint),
                    ("--pretrained", self.pretrained),
                    ("--num-classes", self.num_classes),
                )
                if value
            ]
            if given:
                raise ValueError(
                    f"{self.model} brings its own weights and classes, and {given[0]} would give others. Drop "
                    f"{given[0]}, or name the network with --model."
                )
        elif self.pretrained and self.checkpoint is not None:
            raise ValueError("--pretrained and --checkpoint are two answers to one question. Give one of them.")
        elif self.pretrained and self.num_classes is not None:
            raise ValueError(
                f"--pretrained weights have classes of their own, and --num-classes {self.num_classes} would leave a "
                "classifier at random. Drop --num-classes."
            )
        elif not self.pretrained and self.checkpoint is None:
            raise ValueError(
                f"no weights for {self.model}: what random weights could do means nothing. Give the path or URL of its "
                "weights with --checkpoint, or --pretrained, or with --model the folder of a run."
            )

    def load(self) -> Network:
        """Return the network with its weights.

        Raises:
            ValueError, OSError: there is no such network, or there are no such weights.
        """
        self.check()
        from plainvision.models.loading import load_checkpoint
        from plainvision.training.run_folder import load_network

        if self.is_ours:
            model, origin = load_network(self.model, self.weights)
            return Network(model, origin.recipe.data, origin.classes, None)
        options: dict[str, Any] = {} if self.num_classes is None else {"num_classes": self.num_classes}
        model, data = (_torchvision if self.is_torchvision else _by_name)(self.model, self.pretrained, options)
        if self.checkpoint is not None:
            load_checkpoint(model, self.checkpoint)
        return Network(model.eval(), data, None, self.model)


def _by_name(name: str, pretrained: bool, options: dict[str, Any]) -> "tuple[nn.Module, Data]":
    """Return a network of ours or timm's, and its data."""
    from plainvision.models.registry import create_model
    from plainvision.training.evaluation import data_of

    try:
        model = create_model(name, pretrained=pretrained, **options)
    except RuntimeError as error:  # timm's way to say that there are none
        why = str(error).split(". ")[0]
        raise ValueError(
            f"cannot load published weights of {name}: {why}. Give the path or URL of its weights with --checkpoint."
        ) from error
    return model, data_of(model)


def _torchvision(name: str, pretrained: bool, options: dict[str, Any]) -> "tuple[nn.Module, Data]":
    """Return a classifier of torchvision, and the data that its first published weights were made for."""
    from torchvision import models

    from plainvision.training.recipe import Data

    short = name.removeprefix(_TORCHVISION)
    known = models.list_models(module=models)
    if short not in known:
        close = difflib.get_close_matches(short, known, n=3)
        hint = f" Did you mean {' or '.join(_TORCHVISION + one for one in close)}?" if close else ""
        raise ValueError(f"torchvision has no classifier {short!r}.{hint}")
    first = next(iter(models.get_model_weights(short)))
    preset = first.transforms()
    side, whole = preset.crop_size[0], preset.resize_size[0]
    data = Data(
        image_size=side,
        crop_ratio=side / whole,
        interpolation="bicubic" if preset.interpolation.value == "bicubic" else "bilinear",
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
    return models.get_model(short, weights=first if pretrained else None, **options), data
