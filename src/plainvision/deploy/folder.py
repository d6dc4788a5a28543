"""A deployed folder, loaded and run: by its runtime, without torch where the format is not torch's own."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plainvision.confidences import check_temperature, confidences_of
from plainvision.data.decoding import decode
from plainvision.deploy.comparing import short
from plainvision.deploy.delegation import Delegation
from plainvision.deploy.formats import FORMATS, format_called
from plainvision.deploy.preprocessing import Preprocessing
from plainvision.deploy.process_memory import process_growth_mb
from plainvision.deploy.running import Precision, Run, Running
from plainvision.deploy.source import Task
from plainvision.deploy.writing import DESCRIPTION, file_hashes
from plainvision.fields import check_ranges, from_plain
from plainvision.files import read_object
from plainvision.inspection.devices import usable_device
from plainvision.inspection.foreign import Foreign

_BATCH = 16
_MOST_THREADS = 1024


@dataclass(frozen=True)
class Description:
    """What `deploy.json` says of a folder."""

    format: str
    input: Literal["float32", "uint8"]
    any_size: bool
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    network: str
    files: dict[str, str]
    proof: dict[str, int | float | str]
    versions: dict[str, str]
    precision: Precision = "fp32"
    scheme: str | None = None
    channels_last: bool = False
    device: Literal["cpu", "cuda"] = "cpu"
    compile: bool = False
    graph: bool = False
    parameters: int = 0
    macs: int = 0
    source: str = ""
    unfused: str | None = None
    gate: dict[str, int | float | str | None] | None = None
    delegation: Delegation | None = None
    tuned: dict[str, int | float | str | None] | None = None
    temperature: float = 1.0
    threshold: float | None = None
    task: Task = "classification"

    def __post_init__(self) -> None:
        check_temperature(self.temperature, f"{DESCRIPTION}: temperature")
        check_ranges(self, {"threshold": (0.0, 1.0)}, f"{DESCRIPTION}: ")


@dataclass(frozen=True)
class Answer:
    """The classes of one image, the likeliest first."""

    classes: tuple[str, ...]
    """Names, or numbers where none were given."""
    confidences: tuple[float, ...]
    """Their softmax probabilities, of logits over the temperature; sigmoids where an image has a set of labels."""
    labels: tuple[str, ...] | None = field(default=None, kw_only=True)
    """Of a set, all labels from the network's threshold on, the likeliest first; None where an image has one class."""


class Deployed:
    """A network in a deployed folder.

    Attributes:
        description: what the folder says of itself.
        run: images as the file takes them -> its outputs.
    """

    def __init__(self, description: Description, run: Run, folder: Path, threads: int | None) -> None:
        self.description, self.run = description, run
        self._folder, self._threads = folder, threads

    def module(self) -> Foreign:
        """Return it as a module that torch's users time and evaluate: images (B, C, H, W) -> logits (B, K)."""
        how = self.description.preprocessing

        def run(images: Tensor) -> Tensor:
            self._check_size(*images.shape[2:])
            given = images.numpy()
            return torch.from_numpy(self.run(how.bytes_of(given) if self.description.input == "uint8" else given)[0])

        return Foreign(
            run,
            parameters=self.description.parameters,
            macs=self.description.macs,
            process_mb=lambda batch_size: process_growth_mb(self._folder, batch_size, self._threads),
        )

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Return logits (B, K) of prepared images, bytes (B, H, W, C) as `Preprocessing.pixels` makes them.

        Raises:
            ValueError: the file takes images of another size.
        """
        self._check_size(*pixels.shape[1:3])
        given = pixels if self.description.input == "uint8" else self.description.preprocessing.normalised(pixels)
        return self.run(given)[0]

    def _check_size(self, height: int, width: int) -> None:
        side = self.description.preprocessing.image_size
        if not self.description.any_size and (height, width) != (side, side):
            raise ValueError(
                f"images of {height} x {width} pixels do not fit: the file takes {side} x {side}. Prepare them with "
                "`Preprocessing.pixels`, or export with any_size."
            )

    def predict(self, images: Iterable[str | Path | Image.Image], *, top: int = 5) -> Iterator[Answer]:
        """Yield the ``top`` classes of each image.

        Raises:
            ValueError: an image cannot be read, or is too large, or the network names the class of each pixel.
        """
        if self.description.task != "classification":
            raise ValueError(
                f"the network in {self._folder} names the class of each pixel, not of an image. Use `plainvision "
                "segment predict`, or `plainvision.tasks.load` with `find_areas`."
            )
        batch: list[np.ndarray] = []
        for image in images:
            batch.append(self.description.preprocessing.pixels(self._read(image)))
            if len(batch) == _BATCH:
                yield from self._answers(batch, top)
                batch = []
        if batch:
            yield from self._answers(batch, top)

    def _read(self, image: str | Path | Image.Image) -> Image.Image:
        if isinstance(image, Image.Image):
            return image
        try:
            return decode(Path(image).open("rb"), "L" if self.description.preprocessing.channels == 1 else "RGB")
        except Exception as error:  # a damaged file makes decoders raise nearly anything
            raise ValueError(f"cannot read the image {image}: {error}. Repair it, or leave it out.") from error

    def _answers(self, batch: Sequence[np.ndarray], top: int) -> Iterator[Answer]:
        about = self.description
        logits = self.logits(np.stack(batch)).astype(np.float64)
        shares = confidences_of(torch.from_numpy(logits), about.threshold, about.temperature).numpy()
        names = about.classes or tuple(map(str, range(logits.shape[1])))
        for order, row in zip(np.argsort(-logits, axis=1, kind="stable"), shares, strict=True):
            ranked, own = tuple(names[i] for i in order), row[order].tolist()
            given = None if about.threshold is None else ranked[: sum(one >= about.threshold for one in own)]
            yield Answer(ranked[:top], tuple(own[:top]), labels=given)


def description_in(folder: Path) -> Path:
    """Return the file in which a deployed folder says what it holds; where there is none, a `FileNotFoundError`."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(
            f"no deployed network in {folder}: it holds no {DESCRIPTION}. `plainvision deploy` writes one."
        )
    return path


def load(folder: str | Path, *, threads: int | None = None) -> Deployed:
    """Return the network in a folder that `export` wrote.

    Args:
        folder: the folder.
        threads: for its runtime; None takes what the folder was tuned with, or leaves the number to the runtime.

    Raises:
        FileNotFoundError: there is no deployed network.
        ValueError: its description is damaged, or belongs to other files.
        ImportError: its runtime is not installed.
    """
    folder = Path(folder)
    path = description_in(folder)
    said = read_object(path)
    if said.get("task") == "detection":
        raise ValueError(
            f"{folder} does not name the class of an image: it detects. Use `plainvision detect evaluate` and "
            "`plainvision detect predict`, `plainvision.tasks.load`, or `plainvision.deploy.load_detector`."
        )
    description = from_plain(Description, said, str(path))
    if description.format not in FORMATS:
        raise ValueError(f"{path}.format is {description.format!r}; this version knows {', '.join(FORMATS)}.")
    kind = format_called(description.format, description.precision, description.device)
    try:
        usable_device(description.device)
    except ValueError as error:
        raise ValueError(
            f"{folder} was written for {description.device}, which this machine lacks. Export the network for the CPU, "
            "or load the folder where there is a GPU."
        ) from error
    if description.files != file_hashes(folder) or kind.file not in description.files:
        raise ValueError(
            f"{path} belongs to other files than those in {folder}: one was changed, is missing, or was added. Export "
            "the network again, or copy the whole folder again."
        )
    if threads is None and description.tuned:
        threads = _tuned_threads(description.tuned.get("threads"), path)
    try:
        how = Running(description.precision, threads, description.device, description.compile, description.graph)
        run = kind.open(folder / kind.file, how)
    except Exception as error:
        raise ValueError(
            f"{folder / kind.file} cannot be loaded here: {short(error).rstrip('.')}. Where the file itself is "
            "damaged, copy it again."
        ) from error
    return Deployed(description, run, folder, threads)


def _tuned_threads(said: object, path: Path) -> int | None:
    if said is None:
        return None
    if not isinstance(said, int) or not 1 <= said <= _MOST_THREADS:
        raise ValueError(f"{path}.tuned.threads is {said!r}, and must be a number from 1 to {_MOST_THREADS}.")
    return said
