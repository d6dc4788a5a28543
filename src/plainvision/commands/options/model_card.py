"""What a model card says, as options of the command line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from plainvision.commands.options.data import DataOptions, PreparationOptions, changed_data
from plainvision.commands.options.output import Device

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

    from plainvision.data.settings import Data
    from plainvision.training.network_words import Network


@dataclass(frozen=True, kw_only=True)
class ModelCardOptions:
    """What the card says."""

    licence: str | None = None
    """The Hub's identifier of the licence of the weights, such as apache-2.0."""
    data: DataOptions = field(default_factory=DataOptions)
    """The labelled images that it is scored on; without a root, and for other than the embedded digits, the card tells
    the scores of the run alone."""
    preparation: Annotated[PreparationOptions, tyro.conf.arg(name="data")] = field(default_factory=PreparationOptions)
    """How they are prepared."""
    device: Device = None

    def make(self, found: "Network", source: str, repo: str | None) -> "ModelCard":
        """Return the card of the network in ``source`` for a repository, scored where its images can be read.

        Raises:
            ValueError, OSError: the images cannot be read, or an option cannot be.
        """
        from plainvision.hub import model_card
        from plainvision.inspection.devices import usable_device

        data = self._images(found)
        run = Path(source.removesuffix(":deployed"))
        device = str(usable_device(self.device))
        return model_card(found, data=data, run=run, repo=repo, licence=self.licence, device=device)

    def _images(self, found: "Network") -> "Data | None":
        from plainvision.data.settings import RECORDED

        data = changed_data(found.data, self.data, self.preparation)
        return None if found.classes is None or data.root.startswith(RECORDED) else data
