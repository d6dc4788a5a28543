"""The images that forms of lower precision are calibrated with and judged by, as options of the command line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from plainvision.commands.options.data import DataOptions, PreparationOptions, changed_data, data_to_read

if TYPE_CHECKING:
    from plainvision.data.settings import Data
    from plainvision.deploy.examination import Examination
    from plainvision.training.network_words import Network


@dataclass(frozen=True, kw_only=True)
class ExaminationOptions:
    """Which images calibrate and judge."""

    calibrate: Path | None = None
    """A folder of images that set the ranges of int8; by default some of the training split. Without labelled images,
    half of these judge."""
    allow_loss: float = 1.0
    """Points of top-1 that a form of lower precision may lose, with 95 % confidence."""
    data: DataOptions = field(default_factory=DataOptions)
    """The labelled images that judge; what is not given is as in training."""
    preparation: Annotated[PreparationOptions, tyro.conf.arg(name="data")] = field(default_factory=PreparationOptions)
    """How they are prepared."""

    def prepared(self, network: "Network") -> "Data":
        """Return how images are prepared for ``network``, wherever they are."""
        return changed_data(network.data, self.data, self.preparation)

    def load(self, network: "Network", *, calibrating: bool) -> "tuple[Examination | None, tuple[str, ...]]":
        """Return the examination and the names of the classes; None where nobody says which images.

        Args:
            network: what is examined.
            calibrating: whether ranges of int8 are to be set; else labelled images only judge.

        Raises:
            ValueError, FileNotFoundError: there are no such images.
        """
        from plainvision.data.batches import EvaluationBatches
        from plainvision.deploy import Examination, Preprocessing
        from plainvision.deploy.examination import CALIBRATION_IMAGES

        if "root" not in self.data and (network.classes is None or self.calibrate is not None):
            how = Preprocessing.of(self.prepared(network))
            if self.calibrate is None:
                return None, network.classes or ()
            return Examination.of_folder(self.calibrate, how, allow_loss=self.allow_loss), network.classes or ()
        data = data_to_read(network, self.data, self.preparation)
        classes = network.classes or EvaluationBatches(data, batch_size=1).classes
        images = CALIBRATION_IMAGES if calibrating else 0
        found = Examination.of(
            data, classes=classes, calibrate=self.calibrate, allow_loss=self.allow_loss, images=images
        )
        return found, classes
