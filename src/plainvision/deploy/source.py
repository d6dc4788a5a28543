"""A network to be deployed, and what its forms are compared with."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from plainvision.confidences import check_temperature
from plainvision.deploy.examination import Examination, Reference
from plainvision.deploy.preprocessing import Preprocessing
from plainvision.inspection.fingerprint import weights_fingerprint
from plainvision.layers.linear_pair import LinearPair
from plainvision.surgery.fusing import fuse

Task = Literal["classification", "segmentation"]


@dataclass(frozen=True)
class Source:
    """A network to be deployed, and what its forms are compared with."""

    model: nn.Module
    """The network: images (B, C, H, W) -> logits (B, K)."""
    deployed: nn.Module
    """Its deployed form, in eval mode on the CPU."""
    unfused: str | None
    """Why nothing was folded; None where it was."""
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    temperature: float
    """Divides the logits for calibrated confidences."""
    examination: Examination | None
    reference: Reference | None
    task: Task = "classification"
    """What the logits are of: an image, or each of its pixels."""
    threshold: float | None = None
    """From which confidence on, a sigmoid, an image gets a label; None where it has one class."""

    @classmethod
    def of(
        cls,
        model: nn.Module,
        preprocessing: Preprocessing,
        classes: Sequence[str] = (),
        examination: Examination | None = None,
        temperature: float = 1.0,
        threshold: float | None = None,
        task: Task = "classification",
    ) -> "Source":
        """Return ``model`` with its deployed form; it stays as it is.

        Raises:
            ValueError: it has linear pairs whose slope is not 1, or ``temperature`` is none.
        """
        check_temperature(temperature)
        network = copy.deepcopy(model).cpu().float().eval()
        reference = None if examination is None else Reference(network, examination)
        deployed, unfused = deployed_form(network, preprocessing.image_size)
        return cls(
            network,
            deployed,
            unfused,
            preprocessing,
            tuple(classes),
            temperature,
            examination,
            reference,
            task,
            threshold,
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 of the network's weights and buffers, by name."""
        return weights_fingerprint(self.model)


def deployed_form(network: nn.Module, image_size: int | None = None) -> tuple[nn.Module, str | None]:
    """Return the network in deployed form, and why it is as it was where nothing was folded."""
    try:
        return fuse(network, image_size=image_size), None
    except ValueError as error:
        if any(isinstance(module, LinearPair) for module in network.modules()):
            raise  # a slope that is not 1
        return network, str(error)
