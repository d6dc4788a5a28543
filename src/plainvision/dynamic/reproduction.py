"""The rows of Tables 1, 2 and 3 of arXiv:2103.09891: evaluations of one network on the same images, below one folder.

    FOLDER/stride  FOLDER/dilation  FOLDER/size    each attribute (Table 1)
    FOLDER/stride_unbounded                        strides without the bound on activations
    FOLDER/stride_dilation ...                     attributes combined (Table 3)

Each folder is one evaluation, which resumes by itself. The trained network looks at other views of the images once, and
all evaluations share what it answers.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from plainvision.data.settings import Data
from plainvision.dynamic.evaluation import evaluate
from plainvision.dynamic.network import DynamicNetwork
from plainvision.dynamic.outcomes import Outcomes
from plainvision.dynamic.published import published
from plainvision.dynamic.space import Space
from plainvision.dynamic.tables import bounds_row
from plainvision.fields import typed
from plainvision.files import read_object
from plainvision.layers.dynamic_conv import ATTRIBUTES
from plainvision.processes import process_group

Progress = Callable[[str], AbstractContextManager[Callable[[int, int | None], object]]]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How networks are evaluated; see `plainvision.dynamic.evaluate`."""

    batch_size: int = 32
    """Images per pass."""
    unbounded_batch_size: int = 4
    """Images per pass without the bound on activations, whose maps are large."""
    combine_limit: int = 625
    """How many permutations combined attributes have, at most."""
    controls: bool = True
    """Also let the trained network look at as many other views of each image as there are permutations."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the passes."""


@dataclass
class Evaluations:
    """Evaluations of one network, each computed when it is asked for, and kept in ``out``."""

    model: nn.Module
    """The network."""
    data: Data
    """The images, whose validation split is read."""
    out: Path
    """The folder."""
    spaces: Mapping[str, Space]
    """The space of each attribute: of all three, or of one."""
    name: str
    """What to call the network."""
    progress: Progress
    """What shows how far an evaluation is, by what is evaluated."""
    classes: tuple[str, ...] | None = None
    """Names of the classes; None takes the data's."""
    device: torch.device | None = None
    """Where to compute; None is each process's own."""
    settings: Settings = field(default_factory=Settings)
    """How to compute."""

    def __post_init__(self) -> None:
        self._rows: dict[str, dict[str, Any]] = {}

    def row(self, attributes: Sequence[str]) -> dict[str, Any]:
        """Return bounds and controls over the permutations of one attribute, or of several combined (section 4.4).

        Raises:
            ValueError, OSError: as of `plainvision.dynamic.evaluate`.
        """
        name = "_".join(attributes)
        if name not in self._rows:
            self._rows[name] = _row(self._of(attributes), ", ".join(attributes))
        return self._rows[name]

    def unbounded_row(self) -> dict[str, Any] | None:
        """Return the row of strides without the bound on activations; None where the bound leaves nothing out."""
        space = self.spaces["stride"]
        if space.max_activations is None:
            return None
        network = self._network(replace(space, max_activations=None))
        if network.permutations == self._singles["stride"].permutations:
            return None
        found = self._evaluated("stride_unbounded", network, batch_size=self.settings.unbounded_batch_size)
        return _row(found, "stride, no bound")

    def _of(self, attributes: Sequence[str]) -> Outcomes:
        if len(attributes) == 1:
            return self._evaluated(attributes[0], self._singles[attributes[0]])
        parts = [self._of([attribute]) for attribute in attributes]
        limit = self._combined_count(len(parts))
        space = parts[0].combine(*parts[1:], limit=limit)
        return self._evaluated("_".join(attributes), self._network(space))

    @cached_property
    def _singles(self) -> dict[str, DynamicNetwork]:
        return {attribute: self._network(space) for attribute, space in self.spaces.items()}

    def _network(self, space: Space) -> DynamicNetwork:
        return DynamicNetwork(self.model, space=space, image_size=self.data.image_size, name=self.name)

    def _combined_count(self, parts: int) -> int:
        """Return how many permutations so many attributes have together (eq. 2), of which some may not be possible."""
        fewest = min(len(network.permutations) for network in self._singles.values())
        each = 1
        while each < fewest and (each + 1) ** parts <= self.settings.combine_limit:
            each += 1
        return each**parts

    @cached_property
    def _view_count(self) -> int:
        """The most permutations of any evaluation, without a bound aside."""
        combined = [self._combined_count(parts) for parts in range(2, len(self.spaces) + 1)]
        return max([len(network.permutations) for network in self._singles.values()] + combined)

    def _evaluated(self, name: str, network: DynamicNetwork, *, batch_size: int | None = None) -> Outcomes:
        settings, first, folder = self.settings, next(iter(self.spaces)), self.out / name
        sees, file = settings.controls and name == first, folder / "outcomes.safetensors"
        images = batch_size or settings.batch_size
        if file.exists():  # what is finished stays, however many images a pass others take
            images = typed(int, read_object(folder / "evaluation.json").get("batch_size"), f"{folder}: batch_size")
        what = f"{name.replace('_', ' ')}, {len(network.permutations)} permutations"
        with nullcontext() if file.exists() else self.progress(what) as on_progress:
            try:
                found = evaluate(
                    network,
                    self.data,
                    out=folder,
                    classes=self.classes,
                    batch_size=images,
                    controls=sees,
                    view_count=self._view_count if sees else None,
                    device=self.device,
                    precision=settings.precision,
                    on_progress=on_progress,
                )
            except torch.OutOfMemoryError as error:
                raise ValueError(
                    f"{images} images a pass do not fit into memory with the {name} of {self.name}. Give fewer; what "
                    f"is finished stays, but remove {folder}."
                ) from error
        if settings.controls and not found.views:
            found = with_views(found, self._of([first]))
            if process_group().is_main_process:
                found.save(file)
        return found


def table_1(name: str, found: Evaluations, *, unbounded: bool = True) -> Iterator[dict[str, Any]]:
    """Yield the rows of a network in Table 1, those of strides with the bound on activations and without."""
    for attribute in found.spaces:
        yield _beside(published(name, [attribute]), name, found.row([attribute]))
    if unbounded and (row := found.unbounded_row()) is not None:
        yield _beside(published(name, ["stride"]), name, row)


def table_2(name: str, found: Evaluations, finetuned: Callable[[str], Evaluations]) -> Iterator[dict[str, Any]]:
    """Yield the rows of Table 2: of each attribute before and after fine-tuning, ``finetuned``, with its options."""
    for attribute in found.spaces:
        yield _beside(published(name, [attribute]), name, found.row([attribute]))
        row = finetuned(attribute).row([attribute])
        yield _beside(published(name, [attribute], finetuned=True), f"{name}, fine-tuned", row)


def table_3(name: str, found: Evaluations) -> Iterator[dict[str, Any]]:
    """Yield the rows of Table 3: each attribute, and all combinations of several."""
    for count in range(1, len(ATTRIBUTES) + 1):
        for chosen in itertools.combinations(ATTRIBUTES, count):
            yield _beside(published(name, chosen), name, found.row(chosen))


def with_views(outcomes: Outcomes, other: Outcomes) -> Outcomes:
    """Return outcomes with the views of another evaluation of the same network on the same images, as controls.

    Raises:
        ValueError: the networks or the images differ.
    """
    first, second = ((one.fingerprint, one.names, one.condition) for one in (outcomes, other))
    if first != second:
        raise ValueError(
            f"the views of {other.network} are no controls of {outcomes.network}: weights or images differ. Evaluate "
            "both with the same."
        )
    return replace(outcomes, views={n: view[:, : len(outcomes.permutations)] for n, view in other.views.items()})


def _beside(paper: dict[str, Any] | None, name: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"network": name, **row, "published": paper}


def _row(outcomes: Outcomes, changes: str) -> dict[str, Any]:
    count = len(outcomes.permutations)
    oracles = bounds_row(outcomes)
    others = {one.name.removesuffix(f" of the {count}"): one.top1 for one in outcomes.controls() if not one.uses_labels}
    return {
        "changes": changes,
        **oracles,
        "controls": {**oracles["controls"], **others},
        "skipped": len(outcomes.skipped),
        "left_out": outcomes.left_out,
        "fingerprint": outcomes.fingerprint,
    }
