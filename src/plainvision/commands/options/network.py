"""Networks as options of the command line: which, and whose weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from plainvision.training.network_words import Network, NetworkWords, network_words


@dataclass(frozen=True, kw_only=True)
class WeightsOptions:
    """Whose weights networks have."""

    pretrained: bool = False
    """Download the published weights of a network by name: timm's, or the first of torchvision."""
    weights: Literal["best", "last"] = "best"
    """Which weights of a run."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(WeightsOptions):
    """Which network, and whose weights."""

    network: Annotated[str, tyro.conf.Positional]
    """The folder of a run, a .safetensors file that plainvision wrote, or a name (ours, timm's, torchvision/NAME) with
    its options: NAME:option=value,...; :deployed behind any of them is its fused form."""
    checkpoint: str | None = None
    """Path or URL of the weights of a network by name."""

    @property
    def words(self) -> NetworkWords:
        """What the words of the network say; ones that say nothing are a `ValueError`."""
        return network_words(self.network)

    def load(self) -> Network:
        """Return the network with its weights.

        Raises:
            ValueError, OSError: there is no such network, or there are no such weights.
        """
        return self.words.load(self.checkpoint, weights=self.weights, pretrained=self.pretrained)


@dataclass(frozen=True, kw_only=True)
class NetworksOptions(WeightsOptions):
    """Whose weights several networks have."""

    checkpoint: tuple[str, ...] = ()
    """Paths or URLs of weights, one for each network by name, in their order."""

    def load(self, texts: Sequence[str], *, random: bool = False) -> dict[str, Network]:
        """Return the networks by what tells them apart: their words, and their checkpoint where words are there twice.

        Networks by name may be left as they were made, ``random``, unless their weights are given.

        Raises:
            ValueError, OSError: there is no such network, there are no such weights, or more than networks by name.
        """
        words = [network_words(text) for text in texts]
        named = sum(not one.is_ours for one in words)
        if named < len(self.checkpoint) or (self.pretrained and not named):
            given = "--pretrained" if self.pretrained else f"--checkpoint gives {len(self.checkpoint)} files"
            raise ValueError(
                f"{given} for {named} networks by name; runs and .safetensors files of ours bring their own weights. "
                "Give one for each name."
            )
        left = iter(self.checkpoint)
        found = {}
        for text, one in zip(texts, words, strict=True):
            checkpoint = None if one.is_ours else next(left, None)
            pretrained = self.pretrained and not one.is_ours
            label = text.rstrip("/") if texts.count(text) == 1 or not checkpoint else f"{text} {Path(checkpoint).name}"
            found[label] = one.load(
                checkpoint,
                weights=self.weights,
                pretrained=pretrained,
                random=random and not (one.is_ours or pretrained or checkpoint),
            )
        return found


def network_first(words: list[str]) -> list[str]:
    """Put the network first that older commands name with ``--model NETWORK``."""
    if "--model" not in words[:-1]:
        return words
    place = words.index("--model")
    return [words[place + 1], *words[:place], *words[place + 2 :]]
