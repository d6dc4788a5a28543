"""The network of an evaluation, as options of the command line."""

from dataclasses import dataclass, replace
from typing import Literal

from plainvision.commands.options.network import Network, NetworkWords, network_words


@dataclass(frozen=True)
class NetworkOptions:
    """Which network, and whose weights."""

    model: str
    """The folder of a run, a .safetensors file that plainvision wrote, or a name, ours, timm's, or torchvision/NAME,
    with its options: NAME:option=value,..."""
    checkpoint: str | None = None
    """Path or URL of the weights of a network by name."""
    pretrained: bool = False
    """Or download its published weights: timm's, or the first of torchvision, which arXiv:2103.09891 took."""
    num_classes: int | None = None
    """Classes of a network by name; by default its own number."""
    weights: Literal["best", "last"] = "best"
    """Which weights of a run."""

    @property
    def words(self) -> NetworkWords:
        """What the words of the network say.

        Raises:
            ValueError: they are no words of a network.
        """
        words = network_words(self.model)
        if self.num_classes is None or words.is_ours:
            return words
        return replace(words, options={**words.options, "num_classes": self.num_classes})

    def check(self) -> None:
        """Check that there are weights, and from one place.

        Raises:
            ValueError: there are none, or from two.
        """
        words = self.words
        if words.is_ours and self.num_classes is not None:
            raise ValueError(
                f"{self.model} brings its own classes, and --num-classes {self.num_classes} would give others. Drop "
                "--num-classes, or name the network with --model."
            )
        words.check(self.checkpoint, self.pretrained)

    def load(self) -> Network:
        """Return the network with its weights.

        Raises:
            ValueError, OSError: there is no such network, or there are no such weights.
        """
        self.check()
        return self.words.load(self.checkpoint, weights=self.weights, pretrained=self.pretrained)
