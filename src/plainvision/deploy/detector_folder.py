"""A deployed detector, loaded and run: what its description may say, and the numpy file that chooses boxes."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from plainvision.deploy.comparing import short
from plainvision.deploy.folder import description_in
from plainvision.deploy.formats import format_called
from plainvision.deploy.writing import DESCRIPTION, file_hashes
from plainvision.fields import check_ranges, from_plain, ranges_of
from plainvision.files import read_object

Kind = Literal["retinanet", "mask_rcnn"]
Anchor = tuple[float, float, float, float]
_GRAPHS = {"retinanet": {"model.onnx"}, "mask_rcnn": {"model.onnx", "boxes.onnx", "masks.onnx"}}


@dataclass(frozen=True)
class _Checked:
    """Fields whose numbers lie within their ranges."""

    def __post_init__(self) -> None:
        check_ranges(self, ranges_of(type(self)), f"{DESCRIPTION}: ")


@dataclass(frozen=True)
class Resizing(_Checked):
    """How large the network sees an image."""

    min_size: Annotated[int, 1, 4096]
    """The shorter side, in pixels."""
    max_size: Annotated[int, 1, 8192]
    """The longer one at most."""
    multiple: Annotated[int, 1, 1024]
    """Both are filled up to a multiple of this."""


@dataclass(frozen=True)
class Choice(_Checked):
    """How boxes are decoded and chosen."""

    above: Annotated[float, -1.0, 1.0]
    """Of scores above this."""
    overlap: Annotated[float, 0.0, 1.0]
    """Without those that overlap a surer one by more."""
    most: Annotated[int, 1, 10_000]
    """So many of an image at most."""
    weights: Annotated[tuple[float, float, float, float], 1e-6, 1e6]
    """What codes of boxes are divided by."""
    candidates: Annotated[int, 1, 1_000_000] = 1_000_000
    """So many of each level before that."""
    least_side: Annotated[float, 0.0, 1e6] = 0.0
    """Without those of shorter sides, in pixels as the network sees them."""


@dataclass(frozen=True)
class DetectorDescription(_Checked):
    """What `deploy.json` says of a detector; a Mask R-CNN has ``heads`` and ``scales``."""

    task: Literal["detection"]
    kind: Kind
    format: Literal["onnx"]
    classes: tuple[str, ...]
    """Names of the labels from 1 on."""
    resize: Resizing
    mean: Annotated[tuple[float, ...], -1e3, 1e3]
    """What the border of an image is filled with."""
    anchors: Annotated[tuple[tuple[Anchor, ...], ...], -1e6, 1e6]
    """Of each level, around its first place, in pixels as the network sees them."""
    dense: Choice
    """Among what the anchors become."""
    network: str
    files: dict[str, str]
    """The SHA-256 of each graph."""
    proof: dict[str, int | float]
    versions: dict[str, str]
    heads: Choice | None = None
    """Among what the heads for single boxes make of these."""
    scales: Annotated[tuple[float, ...], 1e-3, 1.0] = ()
    """Of each feature that these look at, over the image."""
    parameters: int = 0
    source: str = ""
    unfused: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        two_stages = self.kind == "mask_rcnn"
        if len(self.mean) not in (1, 3) or not all(self.anchors) or two_stages is not bool(self.heads and self.scales):
            raise ValueError(
                f"{DESCRIPTION}: mean, anchors, heads and scales do not belong to a {self.kind}. Export it again."
            )
        if set(self.files) != _GRAPHS[self.kind]:
            raise ValueError(
                f"{DESCRIPTION}: a {self.kind} has the graphs {', '.join(sorted(_GRAPHS[self.kind]))}, and this folder "
                f"{', '.join(sorted(self.files)) or 'none'}. Export it again."
            )


@dataclass(frozen=True)
class DeployedDetector:
    """A detector in a deployed folder."""

    description: DetectorDescription
    """What the folder says of itself."""
    _find: Any = field(repr=False)

    def find(self, images: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Return boxes (N, 4), labels (N,), scores (N,) and, of a Mask R-CNN, masks (N, H, W) of each image.

        Images are (H, W, C), bytes or float32 in [0, 1], of any sizes. Boxes are x1, y1, x2, y2 in pixels, labels run
        from 1, and the surest come first, as torchvision has it.
        """
        return self._find(images)


def is_detector(folder: str | Path) -> bool:
    """Return whether a deployed folder holds a detector."""
    path = Path(folder) / DESCRIPTION
    return path.is_file() and read_object(path).get("task") == "detection"


def load_detector(folder: str | Path, *, threads: int | None = None) -> DeployedDetector:
    """Return the detector in a folder that `export_detector` wrote.

    Raises:
        FileNotFoundError: there is no deployed network.
        ValueError: its description is damaged, is no detector's, or belongs to other files.
        ImportError: ONNX Runtime is not installed.
    """
    folder = Path(folder)
    path = description_in(folder)
    if not is_detector(folder):
        raise ValueError(f"{folder} holds no detector. `plainvision.deploy.load` loads it.")
    description = from_plain(DetectorDescription, read_object(path), str(path))
    format_called("onnx")
    if description.files != file_hashes(folder):
        raise ValueError(
            f"{path} belongs to other files than those in {folder}: one was changed, is missing, or was added. Export "
            "the network again, or copy the whole folder again."
        )
    from plainvision.deploy.detector_script import Finder

    try:
        return DeployedDetector(description, Finder(folder, asdict(description), threads))
    except Exception as error:  # a damaged file makes runtimes raise nearly anything
        raise ValueError(f"{folder} cannot be loaded here: {short(error).rstrip('.')}. Copy it again.") from error
