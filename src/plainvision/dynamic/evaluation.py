"""Every permutation on every image (arXiv:2103.09891, section 3.3), in parts that a killed run finds again.

A part is a fixed range of images in fixed batches, so that the outcomes are the same however many processes share the
parts, and wherever a run was stopped.

    evaluation.json         what is evaluated: network, permutations, images
    part-00000.safetensors  the outcomes of one part
    outcomes.safetensors    all of them, when they are there; the parts are then gone
"""

import dataclasses
import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor

from plainvision.dynamic.engine import shared_passes, whole_passes
from plainvision.dynamic.levels import Levels
from plainvision.dynamic.network import DynamicNetwork
from plainvision.dynamic.outcomes import Outcomes
from plainvision.dynamic.space import to_plain
from plainvision.dynamic.views import VIEWS
from plainvision.layers.eval_mode import eval_mode
from plainvision.training.batch import Batch
from plainvision.training.data import EvaluationBatches
from plainvision.training.files import write_json
from plainvision.training.processes import leave_at_exit
from plainvision.training.recipe import Data
from plainvision.training.streams import is_stream

Loader = Iterable[Batch | Sequence[Tensor]]

# Above it, what the shared passes compute is not what the network computes. Rounding is a thousand times less.
_TOLERANCE = 1e-3


def evaluate(
    network: DynamicNetwork,
    data: Data | Loader,
    *,
    out: str | Path | None = None,
    classes: tuple[str, ...] | None = None,
    batch_size: int = 32,
    batches_per_part: int = 8,
    controls: bool = True,
    share: bool = True,
    scale: float = 1.0,
    context: int | None = None,
    device: str | torch.device | None = None,
    precision: Literal["no", "bf16", "fp16"] = "no",
    on_progress: Callable[[int, int | None], object] | None = None,
) -> Outcomes:
    """Return the outcome of every permutation of ``network`` on every image.

    Under ``accelerate launch`` or ``torchrun`` the processes share the images, and each returns all outcomes.

    Args:
        network: what to evaluate; it is left on its device, in its configuration and its mode.
        data: the data whose validation split to read; or batches of images (B, C, H, W) and labels (B,) in an order
            that stays the same, which every process reads whole.
        out: folder to write into as it goes; the same call finds there what an earlier one has done. Needed where
            several processes work.
        classes: names of the classes in the order of the logits; None takes the data's.
        batch_size: images per pass, when ``data`` is not in batches.
        batches_per_part: batches between two writes.
        controls: also let the trained network look at as many other views of each image as there are permutations.
        share: compute once what permutations share; False passes each image whole through each of them.
        scale: enlarge the prepared images by so much before the network sees them (section 4.5).
        context: crop so many pixels about the centre, at the size that images are resized to anyhow (section 4.5).
        device: where to compute; None is where the network is, or each process's own.
        precision: mixed precision of the passes.
        on_progress: called with the images that are done, and with how many there are when that is known.

    Raises:
        ValueError: labels outside the classes, logits that are not numbers, images of which a permutation cannot be
            computed, an evaluation of something else in ``out``, or several processes without it.
        OSError: ``out`` cannot be written.
    """
    processes = _processes()
    if processes.num_processes > 1 and out is None:
        raise ValueError(f"{processes.num_processes} processes need a folder to meet in: give `out`, the same to each.")
    condition: dict[str, float] = {} if scale == 1 else {"scale": scale}
    if context is not None:
        condition["context"] = context
        data = _cropped(data, context)
    several = processes.num_processes > 1
    home = next(network.parameters()).device
    target = torch.device(device) if device is not None else processes.device if several else home
    parts = _Parts(data, batch_size, batches_per_part, classes)
    passes = _Passes(network, parts.classes, controls, share, condition, target, precision)
    folder = None if out is None else _Folder(Path(out), passes.described() | parts.described(), processes)
    try:
        network.to(target)
        with eval_mode(network), network.configure({}), torch.inference_mode(), _autocast(target, precision):
            done = _evaluate(parts, passes, folder, processes, on_progress)
    finally:
        network.to(home)
    outcomes = _joined(done) if folder is None else folder.finish(parts)
    parts.check(outcomes.labels)
    return outcomes


def context_data(data: Data, side: int) -> Data:
    """Return ``data`` cropped to ``side`` pixels about the centre of the images as they are resized already.

    Raises:
        ValueError: the resized images are smaller.
    """
    whole = round(data.image_size / data.crop_ratio)
    if not 0 < side <= whole:
        raise ValueError(f"context={side}: images are resized to {whole} pixels, so give 1 to {whole}.")
    return dataclasses.replace(data, image_size=side, crop_ratio=side / whole)


def _evaluate(
    parts: "_Parts",
    passes: "_Passes",
    folder: "_Folder | None",
    processes: PartialState,
    on_progress: Callable[[int, int | None], object] | None,
) -> list[Outcomes]:
    """Compute the parts that are this process's and not there yet; return them where there is no folder."""
    if folder is not None and folder.is_finished:
        return []
    there = folder.parts() if folder is not None else set()
    processes.wait_for_everyone()  # nobody writes before everybody has looked
    turn, found, images = 0, [], 0

    def wanted(number: int) -> bool:
        nonlocal turn
        mine = number not in there and turn % processes.num_processes == processes.process_index
        turn += number not in there
        return mine

    for number, batches in parts.read(wanted, there):
        rows = []
        for batch in batches:
            rows.append(passes(batch))
            images += len(batch.labels)
            if on_progress is not None:
                on_progress(images, parts.share(there, processes))
        if rows and folder is not None:
            _joined(rows).save(folder.part(number))
        elif rows:
            found += rows
    if folder is None and not found:
        raise ValueError("there is no image to evaluate. Check data.root, or the loader.")
    return found


class _Parts:
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
        described: dict[str, Any] = {"batches_per_part": self._batches_per_part}
        if isinstance(self._data, Data):
            plain = dataclasses.asdict(self._data)
            del plain["workers"]
            described |= {"data": plain, "batch_size": self._batch_size}
        return json.loads(json.dumps(described))

    def share(self, there: set[int], processes: PartialState) -> int | None:
        """Return about how many images this process has to do, None where nobody knows."""
        total = self._total()
        if total is None:
            return None
        size = self._batch_size * self._batches_per_part
        left = [n for n in range(math.ceil(total / size)) if n not in there]
        mine = left[processes.process_index :: processes.num_processes]
        return sum(min(size, total - n * size) for n in mine)

    def read(self, wanted: Callable[[int], bool], there: set[int]) -> Iterator[tuple[int, Iterator[Batch]]]:
        """Yield the number and the batches of each wanted part; it is asked of each, in order."""
        total = self._total()
        if total is not None and isinstance(self._batches, EvaluationBatches):
            size = self._batch_size * self._batches_per_part
            for number in range(math.ceil(total / size)):
                if wanted(number):
                    yield number, iter(self._batches.part(number * size, min(total, (number + 1) * size)))
            return
        held: list[Batch] = []
        number = 0
        for item in self._batches:
            batch = _batch(item, sum(map(len, self._read)))
            self._read.append(batch.labels.cpu().numpy())
            held.append(batch)
            if len(held) == self._batches_per_part:
                if wanted(number):
                    yield number, iter(held)
                held, number = [], number + 1
        if held and wanted(number):
            yield number, iter(held)
        self._all_read = True

    def check(self, labels: np.ndarray) -> None:
        """Check that a loader that has been read gave the images in the order of the outcomes."""
        if self._all_read and not np.array_equal(np.concatenate(self._read), labels):
            raise ValueError(
                "the loader gave its images in another order than before, so that outcomes and images no longer belong "
                "together. Give a loader that does not shuffle, and an empty folder."
            )

    def _total(self) -> int | None:
        return self._batches.images if isinstance(self._batches, EvaluationBatches) else None


class _Passes:
    """What is computed for a batch: every permutation, the trained network, and its views."""

    def __init__(
        self,
        network: DynamicNetwork,
        classes: tuple[str, ...] | None,
        controls: bool,
        share: bool,
        condition: dict[str, float],
        device: torch.device,
        precision: str,
    ) -> None:
        self._network = network
        self._classes = classes
        self._views = VIEWS if controls else {}
        self._share = share
        self._condition = condition
        self._device = device
        self._precision = precision
        self._sites = tuple(network.sites)
        self._default = [n for n, p in enumerate(network.permutations) if p == network.default]
        self._macs: tuple[np.ndarray, int] | None = None

    def described(self) -> dict[str, Any]:
        """Return what decides the outcomes, as JSON has it."""
        return {
            "network": self._network.name,
            "fingerprint": self._network.fingerprint,
            "sites": self._network.described_sites,
            "permutations": to_plain(self._network.permutations),
            "views": list(self._views),
            "condition": self._condition,
            "precision": self._precision,
        }

    def __call__(self, batch: Batch) -> Outcomes:
        """Return the outcomes of one batch."""
        network = self._network
        images = batch.images.to(self._device)
        if "scale" in self._condition:
            scale = self._condition["scale"]
            images = F.interpolate(images, scale_factor=scale, mode="bilinear", antialias=True)
        if self._macs is None:
            self._macs = self._cost(images)
            self._share = self._share and self._agrees(images)
        macs, static_macs = self._macs
        permutations = len(network.permutations)
        first = None
        for number, logits in self._logits(network.levels, images):
            if first is None:
                first = logits
                labels = self._labels(batch.labels, logits.shape[1])
                kind = np.uint16 if logits.shape[1] <= 2**16 else np.uint32
                predictions = np.empty((len(labels), permutations), kind)
                confidences = np.empty((len(labels), permutations), np.float32)
                tops = np.empty_like(confidences)
                mean = torch.zeros(logits.shape, dtype=_exact(logits), device=logits.device)
            answers, log_probabilities = self._answers(logits, number)
            mean += log_probabilities.exp()
            predictions[:, number] = answers.cpu().numpy()
            confidences[:, number] = log_probabilities.gather(1, labels[:, None])[:, 0].float().cpu().numpy()
            tops[:, number] = log_probabilities.gather(1, answers[:, None])[:, 0].float().cpu().numpy()
        static = predictions[:, self._default[0]].copy() if self._default else self._predict(images).astype(kind)
        views = {
            name: np.stack([self._predict(view) for view in make(images, permutations)], 1).astype(kind)
            for name, make in self._views.items()
        }
        return Outcomes(
            network=network.name,
            fingerprint=network.fingerprint,
            sites=network.described_sites,
            permutations=network.permutations,
            default=network.default,
            macs=macs,
            static_macs=static_macs,
            classes=mean.shape[1],
            names=batch.names,
            labels=labels.cpu().numpy().astype(kind),
            predictions=predictions,
            log_confidences=confidences,
            log_tops=tops,
            static_predictions=static,
            mean_predictions=mean.argmax(1).cpu().numpy().astype(kind),
            views=views,
            condition=self._condition,
            left_out=network.left_out,
        )

    def _logits(self, levels: Levels, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        passes = shared_passes if self._share else whole_passes
        return passes(levels, self._network.permutations, self._sites, images)

    def _agrees(self, images: Tensor) -> bool:
        """Return whether a shared pass computes what a whole one does; where not, say so."""
        last = self._network.permutations[-1:]
        ((_, shared),) = shared_passes(self._network.levels, last, self._sites, images[:1])
        ((_, whole),) = whole_passes(self._network.levels, last, self._sites, images[:1])
        if (shared - whole).abs().max() <= _TOLERANCE * whole.abs().max() + 1e-6:
            return True
        warnings.warn(
            f"{self._network.name} computes something else when it is followed layer by layer, so that each "
            "permutation takes a whole pass. The results are those of the network.",
            stacklevel=2,
        )
        return False

    def _cost(self, images: Tensor) -> tuple[np.ndarray, int]:
        """Return the multiply-adds of each permutation and of the trained network, for images of this size."""
        network = self._network
        if tuple(images.shape[2:]) == network.image_size:
            return network.macs, network.static_macs
        costs = network.costs(images)
        found = [costs(permutation) for permutation in network.permutations]
        problems = [cost.problem for cost in found if cost.problem is not None]
        if problems:
            height, width = images.shape[2:]
            raise ValueError(
                f"{len(problems)} of {len(found)} permutations cannot be computed for images of {height}x{width} "
                f"pixels: {problems[0]}. Give image_size=({height}, {width}) to DynamicNetwork, which leaves them out."
            )
        return np.array([cost.macs for cost in found], dtype=np.int64), costs(network.default).macs

    def _labels(self, labels: Tensor, classes: int) -> Tensor:
        if self._classes is not None and len(self._classes) != classes:
            raise ValueError(
                f"the network has {classes} classes and the data {len(self._classes)}: they do not belong together. "
                "Evaluate on the classes that it was trained for."
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            wrong = int(labels.max()) if int(labels.max()) >= classes else int(labels.min())
            raise ValueError(
                f"labels outside the classes: there is a label {wrong}, and the network has {classes} classes, 0 to "
                f"{classes - 1}. Give the labels of the classes that it was trained for."
            )
        return labels.to(self._device)

    def _answers(self, logits: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Return the predicted classes and the log probabilities."""
        # In float64 confidences near 1 differ, by which permutations are ordered.
        log_probabilities = F.log_softmax(logits, 1, dtype=_exact(logits))
        if not bool(torch.isfinite(logits).all()):
            raise ValueError(
                f"the logits of permutation {number} are not finite numbers. Use precision='no', and check the weights."
            )
        return logits.argmax(1), log_probabilities

    def _predict(self, images: Tensor) -> np.ndarray:
        """Return what the network answers as it is configured now, which is as it was trained."""
        return self._network(images).argmax(1).cpu().numpy()


class _Folder:
    """The files of an evaluation."""

    def __init__(self, path: Path, described: dict[str, Any], processes: PartialState) -> None:
        self._path = path
        self._processes = processes
        self._fingerprint = described["fingerprint"]
        self._file = path / "outcomes.safetensors"
        plan = path / "evaluation.json"
        if plan.exists():
            there = json.loads(plan.read_text())
            changed = [key for key in described | there if described.get(key) != there.get(key)]
            if changed:
                what = ", ".join(f"{key} ({_brief(there.get(key))} there)" for key in changed[:3])
                raise ValueError(
                    f"{path} holds an evaluation of something else: it differs in {what}. Give another folder, or the "
                    "arguments of that evaluation."
                )
        elif path.is_dir() and any(path.iterdir()):
            raise ValueError(f"{path} is not empty and holds no evaluation of ours. Give an empty or a new folder.")
        self.is_finished = self._file.exists()
        processes.wait_for_everyone()
        if processes.is_main_process and not plan.exists():
            try:
                path.mkdir(parents=True, exist_ok=True)
                write_json(plan, described)
            except OSError as error:
                raise OSError(f"cannot write {path}: {error.strerror or error}. Give another folder.") from error
        processes.wait_for_everyone()

    def part(self, number: int) -> Path:
        """Return the file of one part."""
        return self._path / f"part-{number:05}.safetensors"

    def parts(self) -> set[int]:
        """Return the numbers of the parts that are there."""
        return {int(file.stem.removeprefix("part-")) for file in self._path.glob("part-*.safetensors")}

    def finish(self, parts: _Parts) -> Outcomes:
        """Return all outcomes, joined into one file."""
        self._processes.wait_for_everyone()
        if self._processes.is_main_process and not self._file.exists():
            files = [self.part(number) for number in sorted(self.parts())]
            if not files:
                raise ValueError("there is no image to evaluate. Check data.root, or the loader.")
            outcomes = _joined([Outcomes.load(file, self._fingerprint) for file in files])
            parts.check(outcomes.labels)  # before anything is given up
            outcomes.save(self._file)
            for file in files:
                file.unlink()
        self._processes.wait_for_everyone()
        return Outcomes.load(self._file, self._fingerprint)


def _joined(parts: Sequence[Outcomes]) -> Outcomes:
    """Return the outcomes of all parts as one."""
    first = parts[0]
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("labels", "predictions", "log_confidences", "log_tops", "static_predictions", "mean_predictions")
    }
    views = {name: np.concatenate([part.views[name] for part in parts]) for name in first.views}
    names = tuple(name for part in parts for name in part.names)
    return dataclasses.replace(first, names=names, views=views, **joined)


def _batch(item: Batch | Sequence[Tensor], seen: int) -> Batch:
    if isinstance(item, Batch):
        return item
    images, labels = item[:2]
    return Batch(images, labels, tuple(str(seen + number) for number in range(len(labels))), ())


def _cropped(data: Data | Loader, context: int) -> Data:
    if not isinstance(data, Data) or is_stream(data.root):
        raise ValueError(
            "context crops images as they are read: give `Data` instead of a loader, or crop in the loader yourself."
        )
    return context_data(data, context)


def _processes() -> PartialState:
    # Without a word about CPUs, processes that torchrun starts on a machine with nothing else would each work alone.
    processes = PartialState(cpu=not torch.accelerator.is_available())
    leave_at_exit()
    return processes


def _exact(logits: Tensor) -> torch.dtype:
    return torch.float32 if logits.device.type == "mps" else torch.float64  # Apple's GPUs have no float64


@contextmanager
def _autocast(device: torch.device, precision: str) -> Iterator[None]:
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    with torch.autocast(device.type, kinds.get(precision), enabled=precision != "no"):
        yield


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else text[:57] + "..."
