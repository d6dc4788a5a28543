"""An evaluation in parts, which processes share and a killed run resumes from.

A part is a fixed range of images in fixed batches, so that neither the number of processes nor a stop changes outcomes.

    evaluation.json         what is evaluated: network, permutations, images
    part-00000.safetensors  the outcomes of one part
    outcomes.safetensors    all of them, when they are there; the parts are then gone
"""

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from torch import Tensor

from plainvision.data.batches import EvaluationBatches
from plainvision.data.rows import Batch
from plainvision.data.settings import Data
from plainvision.dynamic.outcomes import Outcomes
from plainvision.dynamic.space import to_plain
from plainvision.files import locked, read_object, write_json

_PART = re.compile(r"part-(\d{5,})\.safetensors")

Loader = Iterable[Batch | Sequence[Tensor]]


class Parts:
    """The images in ranges, from `Data` or from a loader."""

    def __init__(
        self, data: Data | Loader, batch_size: int, batches_per_part: int, classes: tuple[str, ...] | None
    ) -> None:
        self._batches_per_part = batches_per_part
        self._batch_size = batch_size
        self._data = data
        if isinstance(data, Data):
            data = EvaluationBatches(data, batch_size=batch_size, classes=classes)
        self._batches = data
        self.classes = classes or getattr(data, "classes", None)
        self._read: list[np.ndarray] = []
        self._all_read = False

    def described(self) -> dict[str, Any]:
        """Return what decides the images and their order, as JSON has it."""
        described: dict[str, Any] = {"batches_per_part": self._batches_per_part, "classes": self.classes}
        if isinstance(self._data, Data):
            described |= {"data": _plain(self._data), "batch_size": self._batch_size}
        if isinstance(self._batches, EvaluationBatches):
            described["images"] = self._batches.fingerprint
        return json.loads(json.dumps(described))

    def share(self, there: set[int], processes: PartialState) -> int | None:
        """Return about how many images this process has to evaluate, None where that is unknown."""
        known = self._ranges()
        if known is None:
            return None
        left = [images for number, images in enumerate(known) if number not in there]
        return sum(map(len, left[processes.process_index :: processes.num_processes]))

    def read(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Iterator[Batch]]]:
        """Yield the number and the batches of each wanted part; it is asked of each, in order."""
        known = self._ranges()
        if known is not None and isinstance(self._batches, EvaluationBatches):
            for number, images in enumerate(known):
                if wanted(number):
                    yield number, self._batches.part(images.start, images.stop)
            return
        items = iter(self._batches)
        for number in itertools.count():
            held = [self._kept(item) for item in itertools.islice(items, self._batches_per_part)]
            if not held:
                break
            if wanted(number):
                yield number, iter(held)
        self._all_read = True

    def check(self, labels: np.ndarray) -> None:
        """Check that a loader that has been read gave the images in the order of the outcomes."""
        if self._all_read and not np.array_equal(np.concatenate(self._read), labels):
            raise ValueError(
                "the loader gave its images in another order than before, so that outcomes and images no longer belong "
                "together. Give a loader that does not shuffle, and an empty folder."
            )

    def _ranges(self) -> list[range] | None:
        """Return the images of each part, None where their number is unknown."""
        total = self._batches.images if isinstance(self._batches, EvaluationBatches) else None
        size = self._batch_size * self._batches_per_part
        return None if total is None else [range(n, min(total, n + size)) for n in range(0, total, size)]

    def _kept(self, item: Batch | Sequence[Tensor]) -> Batch:
        """Return what a loader gave as a batch, its labels noted."""
        if not isinstance(item, Batch):
            images, labels = item[:2]
            seen = sum(map(len, self._read))
            item = Batch(images, labels, tuple(str(seen + number) for number in range(len(labels))), ())
        self._read.append(item.labels.cpu().numpy())
        return item


class Folder:
    """The files of an evaluation."""

    def __init__(self, path: Path, described: dict[str, Any], processes: PartialState) -> None:
        self._path = path
        self._processes = processes
        self._described = described
        self._file = path / "outcomes.safetensors"
        plan = path / "evaluation.json"
        if plan.exists():
            there = read_object(plan)
            there.setdefault("images", described.get("images"))  # versions before this one did not keep it
            if isinstance(there.get("data"), dict):
                there["data"] = _plain(Data()) | there["data"]  # nor the fields that they did not know
            changed = [key for key in described | there if described.get(key) != there.get(key)]
            if changed == ["images"]:
                raise ValueError(
                    f"{path} holds an evaluation of other images: their names or labels have changed since it began. "
                    "Restore them, or give another folder."
                )
            if changed:
                what = ", ".join(f"{key} ({_brief(there.get(key))} there)" for key in changed[:3])
                raise ValueError(
                    f"{path} holds an evaluation of something else: it differs in {what}. Give another folder, or the "
                    "arguments of that evaluation."
                )
        elif path.is_dir() and any(not file.name.startswith(".") for file in path.iterdir()):
            raise ValueError(f"{path} is not empty and holds no evaluation of ours. Give an empty or a new folder.")
        self.is_finished = self._file.exists()
        processes.wait_for_everyone()
        if processes.is_main_process and not plan.exists():
            write_json(plan, described)
        processes.wait_for_everyone()

    def part(self, number: int) -> Path:
        """Return the file of one part."""
        return self._path / f"part-{number:05}.safetensors"

    def parts(self) -> set[int]:
        """Return the numbers of the parts that are there."""
        return {int(found[1]) for file in self._path.iterdir() if (found := _PART.fullmatch(file.name))}

    def finish(self, parts: Parts) -> Outcomes:
        """Return all outcomes, joined into one file."""
        self._processes.wait_for_everyone()
        if self._processes.is_main_process and not self._file.exists():
            files = [self.part(number) for number in sorted(self.parts())]
            if not files:
                raise ValueError("there is no image to evaluate. Check data.root, or the loader.")
            outcomes = joined([self._part(file) for file in files])
            parts.check(outcomes.labels)  # before anything is given up
            outcomes.save(self._file)
        if self._processes.is_main_process:
            for number in self.parts():
                self.part(number).unlink()
        self._processes.wait_for_everyone()
        return self._of_plan(self._file)

    def _part(self, file: Path) -> Outcomes:
        try:
            return self._of_plan(file)
        except ValueError as error:
            raise ValueError(f"{error} Or remove that file: the same call computes this part again.") from error

    def _of_plan(self, file: Path) -> Outcomes:
        """Return the outcomes in a file, and refuse those of another evaluation."""
        found = Outcomes.load(file, self._described["fingerprint"])
        for name, value in (("sites", found.sites), ("permutations", to_plain(found.permutations))):
            if value != self._described[name]:
                raise ValueError(f"{file} is of another evaluation than this folder's: its {name} are others.")
        return found


@contextmanager
def opened(path: Path, described: dict[str, Any], processes: PartialState) -> Iterator[Folder]:
    """Lock and give the folder of an evaluation, which ``described`` decides.

    Raises:
        ValueError: another evaluation is in it, now or before, or something else.
        OSError: it cannot be written.
    """
    with ExitStack() as held:
        if processes.is_main_process:
            try:
                path.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(path))
            except OSError as error:
                raise OSError(f"cannot write {path}: {error.strerror or error}. Give another folder.") from error
        yield Folder(path, described, processes)


def joined(parts: Sequence[Outcomes]) -> Outcomes:
    """Return the outcomes of all parts as one."""
    first = parts[0]
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("labels", "predictions", "log_confidences", "log_tops", "static_predictions", "mean_predictions")
    }
    views = {name: np.concatenate([part.views[name] for part in parts]) for name in first.views}
    if any(not np.array_equal(part.macs, first.macs) for part in parts):
        raise ValueError(
            "the images have several sizes, and what a permutation costs depends on it. Evaluate each size by itself."
        )
    names = tuple(name for part in parts for name in part.names)
    skipped = tuple(name for part in parts for name in part.skipped)
    return dataclasses.replace(first, names=names, skipped=skipped, views=views, **joined)


def _plain(data: Data) -> dict[str, Any]:
    """Return what decides the images, less what their fingerprint says and an older folder lacks."""
    plain = dataclasses.asdict(data)
    drawn = ("validation_share", "folds", "fold", "split_seed", "split_fingerprint")
    for name in ("workers", "allow_pipes", *drawn, "labels"):
        del plain[name]
    return json.loads(json.dumps(plain))


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else text[:57] + "..."
