"""A network in words: a run's folder, a weights file, a deployed folder, or ``NAME:option=value,...``.

``:deployed`` behind a run, a file or a name is its fused form, ``:plain`` behind a name is the network without its
shortcuts.

A name is one of ours, timm's, or torchvision/NAME. Options are the keyword arguments of the network's builder, as in
``vanillanet_5:num_classes=10``.
"""

import ast
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from plainvision.training.image_task import ImageTask
    from plainvision.training.recipe import Data
    from plainvision.training.weights_file import Origin

_TORCHVISION = "torchvision/"
# The recipe's name of a network that was fused by its own name: no run trained it, so its classes have no names.
NO_RUN = "no run"
# What timm's names may begin with; their colon begins no option.
_SCHEMES = ("hf-hub:", "hf_hub:", "local-dir:")


@dataclass(frozen=True)
class Network:
    """A network, and what it knows about its images."""

    model: "nn.Module"
    """The network, in eval mode."""
    name: str | None
    """What to call it in records; None lets it say so itself."""
    known: "Data | None"
    """How its images are prepared, and for a run where they are; None asks the network."""
    channels: int
    """Channels of its images."""
    origin: "Origin | None" = None
    """Where the weights of a run or a file come from."""
    named: tuple[str, ...] | None = None
    """Names of the classes of a deployed folder."""
    temperature: float = 1.0
    """Divides the logits for calibrated confidences; the weights' file or the folder says it."""
    threshold: float | None = None
    """From which confidence on an image gets a label; None where it has one class."""

    @property
    def task(self) -> "ImageTask":
        """What the logits mean."""
        from plainvision.training.classification import ONE_CLASS
        from plainvision.training.multi_label import MultiLabel

        return ONE_CLASS if self.threshold is None else MultiLabel(self.threshold)

    def with_threshold(self, given: float | None) -> "Network":
        """Return the network with another threshold, if one is given; a network that has none is a `ValueError`."""
        if given is None:
            return self
        if self.threshold is None:
            raise ValueError(
                f"threshold={given} is for networks that give an image a set of labels, and this one names its one "
                "class. Leave it out."
            )
        return replace(self, threshold=given)

    def refuse_sets(self, what: str) -> None:
        """Raise a `ValueError` where an image gets a set of labels, for which there is no ``what``."""
        if self.threshold is not None:
            raise ValueError(
                f"the network gives an image a set of labels, and {what} is for networks that name its one class. "
                "`plainvision evaluate`, `predict`, `explain`, `fuse`, and `deploy` in fp32 take such a network."
            )

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes; None where no run trained the network, which then has no data set either."""
        if self.named:
            return self.named
        return None if self.origin is None or self.origin.recipe.name == NO_RUN else self.origin.classes

    @property
    def data(self) -> "Data":
        """How its images are prepared; where nobody says so, that is a `ValueError`."""
        from plainvision.training.evaluation import data_of

        return self.known or data_of(self.model)


@dataclass(frozen=True)
class NetworkWords:
    """What the words of a network say."""

    name: str
    """The path of a run or a file, or the name of a network."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of a network by name."""
    deployed: bool = False
    """Whether its deployed form is meant."""
    plain: bool = False
    """Whether the network without its shortcuts is meant."""

    @property
    def is_ours(self) -> bool:
        """Whether this is a run's folder or a file of ours, which bring their weights, rather than a name."""
        if self.name.startswith((_TORCHVISION, *_SCHEMES)):
            return False
        return Path(self.name).exists() or self.name.endswith(".safetensors") or "/" in self.name

    @property
    def is_torchvision(self) -> bool:
        return self.name.startswith(_TORCHVISION)

    def check(self, checkpoint: str | None, pretrained: bool = False) -> None:
        """Raise a `ValueError` where there are no weights, or weights from two places."""
        if self.is_ours and (checkpoint is not None or pretrained):
            option = "--pretrained" if pretrained else "--checkpoint"
            raise ValueError(
                f"{self.name} brings its own weights and classes, and {option} would give others. Drop {option}, or "
                "give the name of a network instead."
            )
        if pretrained and checkpoint is not None:
            raise ValueError("--pretrained and --checkpoint are two answers to one question. Give one of them.")
        if pretrained and "num_classes" in self.options:
            raise ValueError(
                f"--pretrained weights have classes of their own, and num_classes={self.options['num_classes']} would "
                "leave a classifier at random. Drop it."
            )
        if not self.is_ours and not pretrained and checkpoint is None:
            raise ValueError(
                f"no weights for {self.name}: what random weights could do means nothing. Give the path or URL of its "
                "weights with --checkpoint, or the folder of a run instead of a name."
            )

    def load(
        self, checkpoint: str | None = None, *, weights: str = "best", pretrained: bool = False, random: bool = False
    ) -> Network:
        """Return the network with its weights, in eval mode.

        Those of a run are "best" or "last"; those of a network by name are in the ``checkpoint``, a path or a URL, or
        the published ones, ``pretrained``, or ``random``.

        Raises:
            ValueError, OSError: there is no such network, or there are no such weights.
        """
        if not random:
            self.check(checkpoint, pretrained)
        if self.plain and not random:
            raise ValueError(
                f"{self.name}:plain computes something else than the network that the weights were trained in. Train "
                f"it from the beginning, with `plainvision train --model {self.name} --with plain`, and give that run."
            )
        import plainvision as pv
        from plainvision.training.image_task import ImageTask
        from plainvision.training.weights_file import load_network

        if (Path(self.name) / "deploy.json").is_file():
            found = _deployed_folder(self.name)
        elif self.is_ours:
            model, origin = load_network(self.name, weights)
            data, task = origin.recipe.data, origin.recipe.task
            if not isinstance(task, ImageTask):
                command = task.command
                raise ValueError(
                    f"{self.name} does not name the class of an image: it was trained to {command}. Use `plainvision "
                    f"{command} evaluate` and `plainvision {command} predict`, or `plainvision.tasks.load`."
                )
            found = Network(
                model, None, data, data.channels, origin, temperature=origin.temperature, threshold=task.threshold
            )
        else:
            found = self._built(pretrained)
            if self.plain:
                found = replace(found, model=pv.surgery.plain(found.model))
            if checkpoint is not None:
                try:
                    pv.load_checkpoint(found.model, checkpoint)
                except ValueError as error:
                    raise ValueError(
                        f"{error} On the command line the options of a network follow its name, such as "
                        f"{self.name}:num_classes=10."
                    ) from error
        if self.deployed:
            if random and not self.is_ours:
                pv.set_slope(found.model, 1)
            side = found.known.image_size if found.known else None
            fused = pv.fuse(found.model, images=1 if random else 8, image_size=side)
            found = replace(found, model=fused, origin=found.origin and replace(found.origin, deployed=True))
        found.model.eval()
        return found

    def origin(self, found: Network) -> "Origin":
        """Return what rebuilds ``found``, a network by name; a thousand classes get ImageNet's names, others numbers.

        Raises:
            ValueError: a file can't: the name is torchvision's or leads elsewhere, or an option is no plain value.
        """
        from plainvision.explain.explanation import class_names
        from plainvision.models.described import check_description
        from plainvision.training.recipe import Recipe
        from plainvision.training.weights_file import Origin

        if self.is_torchvision:
            raise ValueError(
                f"{self.name}: a file has to rebuild its network by a name of ours or timm's. timm has most of "
                "torchvision's networks and their weights, for instance resnet50.tv_in1k --pretrained."
            )
        own = {key: value for key, value in self.options.items() if key != "num_classes"}
        check_description(self.name, own)
        classes = class_names(int(getattr(found.model, "num_classes", 0)))
        return Origin(Recipe(NO_RUN, self.name, own, data=found.data), classes, 0)

    def _built(self, pretrained: bool) -> Network:
        from plainvision.data.settings import Data
        from plainvision.models.registry import create_model
        from plainvision.models.torchvision_classifiers import preparation

        try:
            model = create_model(self.name, pretrained=pretrained, **self.options)
            data = Data(**preparation(self.name)) if self.is_torchvision else None
            return Network(model, self.name, data, self.options.get("in_chans", 3))
        except (TypeError, RuntimeError, AssertionError, AttributeError, LookupError, OSError) as error:
            # RuntimeError is timm's way to say that there are no weights, OSError is of their download, the others are
            # any builder's about an option.
            why = str(error).split(". ")[0] or repr(error)
            if pretrained:
                raise ValueError(
                    f"cannot load published weights of {self.name}: {why}. Give the path or URL of its weights with "
                    "--checkpoint."
                ) from error
            given = ",".join(f"{key}={value}" for key, value in self.options.items())
            raise ValueError(
                f"cannot build {self.name} with {given or 'no options'}: {why}. Correct its options."
            ) from error


def _deployed_folder(folder: str) -> Network:
    from plainvision.data.settings import Data
    from plainvision.deploy import load

    deployed = load(folder)
    if deployed.description.task != "classification":
        raise ValueError(
            f"{folder} does not name the class of an image: it segments. Use `plainvision segment evaluate` and "
            "`plainvision segment predict`, or `plainvision.tasks.load`."
        )
    about, how = deployed.description, deployed.description.preprocessing
    data = Data(**asdict(how))
    return Network(deployed.module(), None, data, how.channels, None, about.classes, about.temperature, about.threshold)


def network_words(text: str) -> NetworkWords:
    """Return what the words of a network say.

    Raises:
        ValueError: what stands behind the colon is neither ``deployed`` nor ``plain`` nor ``option=value,...``.
    """
    if Path(text).exists():
        return NetworkWords(text)
    scheme = next((scheme for scheme in _SCHEMES if text.startswith(scheme)), "")
    name, _, rest = text.removeprefix(scheme).partition(":")
    options: dict[str, Any] = {}
    forms: set[str] = set()
    for word in re.split(r",(?=\w+=|deployed$|plain\b)", rest) if rest else ():
        option, sign, value = word.partition("=")
        if word in ("deployed", "plain"):
            forms.add(word)
        elif sign and option.isidentifier() and option not in options:
            options[option] = _value(value)
        else:
            raise ValueError(
                f"{text}: {word!r} is no option. Write NAME:option=value,option=value with each option once, "
                "NAME:deployed, or NAME:plain."
            )
    words = NetworkWords(scheme + name, options, "deployed" in forms, "plain" in forms)
    if (options or words.plain) and words.is_ours:
        raise ValueError(f"{words.name} has its form from training. Drop {rest!r}.")
    return words


def _value(word: str) -> Any:
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):  # a word, such as bicubic; or true
        return {"true": True, "false": False}.get(word, word)
