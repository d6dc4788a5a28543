"""Evaluation of every permutation on every image, with the oracle's controls (arXiv:2103.09891, section 3.3)."""

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor

from plainvision.data.rows import Batch
from plainvision.data.settings import Data, crop_ratio_of, resized_side
from plainvision.data.streams import is_stream
from plainvision.dynamic.engine import shared_passes, whole_passes
from plainvision.dynamic.network import DynamicNetwork
from plainvision.dynamic.outcomes import Outcomes
from plainvision.dynamic.parts import Folder, Loader, Parts, joined, opened
from plainvision.dynamic.space import to_plain
from plainvision.dynamic.views import VIEWS
from plainvision.inspection.eval_mode import eval_mode
from plainvision.processes import process_group

# Above it, what the shared passes compute is not what the network computes. Rounding is a thousand times less.
_TOLERANCE = 1e-3
_PRECISIONS = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def evaluate(
    network: DynamicNetwork,
    data: Data | Loader,
    *,
    out: str | Path | None = None,
    classes: tuple[str, ...] | None = None,
    batch_size: int = 32,
    batches_per_part: int = 8,
    controls: bool = True,
    view_count: int | None = None,
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
        network: the network, left on its device, in its configuration and its mode.
        data: data, whose validation split is read; or batches of images (B, C, H, W) and labels (B,) in an order that
            stays the same, which every process reads whole.
        out: folder for the finished parts, which the same call resumes from. Several processes need it.
        classes: names of the classes in the order of the logits; None takes the data's.
        batch_size: images per pass, when ``data`` is not in batches.
        batches_per_part: batches between two writes.
        controls: also evaluate the trained network on as many other views of each image as there are permutations.
        view_count: or on so many views, which other evaluations of the network can then share (`with_views`).
        share: compute once what permutations share; False runs a whole pass for each.
        scale: factor by which the prepared images are enlarged (section 4.5).
        context: side in pixels of the centre crop of the resized images (section 4.5).
        device: where to compute; None is where the network is, or each process's own.
        precision: mixed precision of the passes.
        on_progress: called with the number of images done, and with that of all, None where unknown.

    Raises:
        ValueError: labels outside the classes, logits that are not numbers, images of which a permutation cannot be
            computed, an evaluation of something else, of other images, or at work in ``out``, or several processes
            without it.
        OSError: ``out`` cannot be written.
    """
    if batch_size < 1 or batches_per_part < 1:
        raise ValueError(f"batch_size={batch_size} and batches_per_part={batches_per_part} must be 1 or more.")
    if view_count is not None and view_count < 1:
        raise ValueError(f"view_count={view_count} leaves no view. Give 1 or more, or controls=False.")
    if precision not in _PRECISIONS:
        raise ValueError(f"precision={precision!r} is none of {', '.join(_PRECISIONS)}.")
    processes = process_group()
    several = processes.num_processes > 1
    if several and out is None:
        raise ValueError(f"{processes.num_processes} processes need a folder to meet in: give `out`, the same to each.")
    condition: dict[str, float] = {} if scale == 1 else {"scale": scale}
    if context is not None:
        condition["context"] = context
        data = _cropped(data, context)
    home = next(network.parameters()).device
    target = torch.device(device) if device is not None else processes.device if several else home
    parts = Parts(data, batch_size, batches_per_part, classes)
    views, count = VIEWS if controls else {}, view_count or len(network.permutations)
    passes = _Passes(network, parts.classes, views, count, share, condition, target, precision)
    described = passes.described() | parts.described()
    with nullcontext() if out is None else opened(Path(out), described, processes) as folder:
        try:
            network.to(target)
            autocast = torch.autocast(target.type, _PRECISIONS[precision], enabled=precision != "no")
            with eval_mode(network), network.configure({}), torch.inference_mode(), autocast:
                done = _evaluate(parts, passes, folder, processes, on_progress)
        finally:
            network.to(home)
        outcomes = joined(done) if folder is None else folder.finish(parts)
    parts.check(outcomes.labels)
    return outcomes


def _evaluate(
    parts: Parts,
    passes: "_Passes",
    folder: Folder | None,
    processes: PartialState,
    on_progress: Callable[[int, int | None], object] | None,
) -> list[Outcomes]:
    """Compute this process's missing parts; return them where there is no folder."""
    if folder is not None and folder.is_finished:
        return []
    there = folder.parts() if folder is not None else set()
    processes.wait_for_everyone()  # so that all have looked before one writes
    turns, images = itertools.count(), 0
    found: list[Outcomes] = []

    def wanted(number: int) -> bool:
        return number not in there and next(turns) % processes.num_processes == processes.process_index

    def keep(number: int, part: Outcomes) -> None:
        found[:] = [*(found if folder is None else ()), part]
        if folder is not None:
            part.save(folder.part(number))

    skipped: tuple[str, ...] = ()
    last = 0
    for number, batches in parts.read(wanted):
        rows: list[Outcomes] = []
        for batch in batches:
            skipped += batch.skipped
            if len(batch.labels):
                rows.append(passes(batch))
                images += len(batch.labels)
                if on_progress is not None:
                    on_progress(images, parts.share(there, processes))
        if rows:  # else the next part names what could not be read
            keep(number, replace(joined(rows), skipped=skipped))
            skipped, last = (), number
    if skipped and found:
        part = found.pop()
        keep(last, replace(part, skipped=part.skipped + skipped))
    if folder is None and not found:
        raise ValueError("there is no image to evaluate. Check data.root, or the loader.")
    return found


@dataclass
class _Passes:
    """Outcomes of a batch: every permutation, the trained network, and its views."""

    network: DynamicNetwork
    classes: tuple[str, ...] | None
    views: Mapping[str, Callable[[Tensor, int], Iterator[Tensor]]]
    view_count: int
    share: bool
    condition: dict[str, float]
    device: torch.device
    precision: str
    size: tuple[int, ...] | None = None
    """Of the images, (H, W), once one is known."""

    def described(self) -> dict[str, Any]:
        """Return what decides the outcomes, as JSON has it."""
        described = {
            "network": self.network.name,
            "fingerprint": self.network.fingerprint,
            "sites": self.network.described_sites,
            "permutations": to_plain(self.network.permutations),
            "views": list(self.views),
            "condition": self.condition,
            "precision": self.precision,
        }
        if self.views and self.view_count != len(self.network.permutations):
            described["view_count"] = self.view_count
        return described

    def __call__(self, batch: Batch) -> Outcomes:
        """Return the outcomes of one batch."""
        network = self.network
        images = batch.images.to(self.device)
        if "scale" in self.condition:
            scale = self.condition["scale"]
            images = F.interpolate(images, scale_factor=scale, mode="bilinear", antialias=True)
        if self.size is None:
            self.size = tuple(images.shape[2:])
            self.macs, self.static_macs = self._cost(images)
            self.share = self.share and self._agrees(images)
        elif self.size != tuple(images.shape[2:]):
            raise ValueError(
                f"images of {self.size[0]}x{self.size[1]} and of {images.shape[2]}x{images.shape[3]} pixels: what a "
                "permutation costs depends on the size. Give images of one size, or evaluate each size by itself."
            )
        permutations = len(network.permutations)
        passes = shared_passes if self.share else whole_passes
        found = passes(network.levels, network.permutations, tuple(network.sites), images)
        # All of a batch stays on the device until its end: a GPU would wait at each copy.
        for place, (number, logits) in enumerate(found):
            if place == 0:
                labels = self._labels(batch.labels, logits.shape[1])
                answers = torch.empty((len(labels), permutations), dtype=torch.int32, device=logits.device)
                confidences = torch.empty(answers.shape, device=logits.device)
                tops = torch.empty_like(confidences)
                mean = torch.zeros(logits.shape, dtype=_exact(logits), device=logits.device)
            # In float64 confidences near 1 differ, by which permutations are ordered.
            log_probabilities = F.log_softmax(logits, 1, dtype=_exact(logits))
            top, answer = log_probabilities.max(1)
            answers[:, number], tops[:, number] = answer, top
            confidences[:, number] = log_probabilities.gather(1, labels[:, None])[:, 0]
            mean += log_probabilities.exp()
        if bool((wrong := (~torch.isfinite(tops)).any(0)).any()):
            raise ValueError(
                f"the logits of {int(wrong.sum())} of {len(wrong)} permutations are not finite numbers. Use "
                "precision='no', and check the weights."
            )
        kind = np.uint16 if mean.shape[1] <= 2**16 else np.uint32
        predictions = answers.cpu().numpy().astype(kind)
        if network.default in network.permutations:
            static = predictions[:, network.permutations.index(network.default)].copy()
        else:
            static = self._predict(images).astype(kind)
        views = {
            name: np.stack([self._predict(view) for view in make(images, self.view_count)], 1).astype(kind)
            for name, make in self.views.items()
        }
        return Outcomes(
            network=network.name,
            fingerprint=network.fingerprint,
            sites=network.described_sites,
            permutations=network.permutations,
            default=network.default,
            macs=self.macs,
            static_macs=self.static_macs,
            classes=mean.shape[1],
            names=batch.names,
            labels=labels.cpu().numpy().astype(kind),
            predictions=predictions,
            log_confidences=confidences.cpu().numpy(),
            log_tops=tops.cpu().numpy(),
            static_predictions=static,
            mean_predictions=mean.argmax(1).cpu().numpy().astype(kind),
            views=views,
            condition=self.condition,
            left_out=network.left_out,
        )

    def _agrees(self, images: Tensor) -> bool:
        """Return whether shared passes compute what whole ones do; where not, say so."""
        network = self.network
        # Several, so that what one leaves behind for the next is seen too.
        some = [network.permutations[place] for place in sorted({0, len(network.permutations) // 2, -1})]
        given = network.levels, some, tuple(network.sites), images[:1]
        shared, whole = dict(shared_passes(*given)), dict(whole_passes(*given))
        agrees = all(_close(shared[number], whole[number]) for number in whole)
        if not agrees:
            warnings.warn(
                f"{network.name} computes something else when it is followed layer by layer, so that each permutation "
                "takes a whole pass. The results are those of the network.",
                stacklevel=2,
            )
        return agrees

    def _cost(self, images: Tensor) -> tuple[np.ndarray, int]:
        """Return the multiply-adds of each permutation and of the trained network, for images of this size."""
        network = self.network
        if tuple(images.shape[2:]) == network.image_size:
            return network.macs, network.static_macs
        costs = network.costs(images)
        found = [costs(permutation) for permutation in network.permutations]
        if problems := [cost.problem for cost in found if cost.problem is not None]:
            height, width = images.shape[2:]
            raise ValueError(
                f"{len(problems)} of {len(found)} permutations cannot be computed for images of {height}x{width} "
                f"pixels: {problems[0]}. Give image_size=({height}, {width}) to DynamicNetwork, which leaves them out."
            )
        return np.array([cost.macs for cost in found], dtype=np.int64), costs(network.default).macs

    def _labels(self, labels: Tensor, classes: int) -> Tensor:
        if self.classes is not None and len(self.classes) != classes:
            raise ValueError(
                f"the network has {classes} classes and the data {len(self.classes)}: they do not belong together. "
                "Evaluate on the classes that it was trained for."
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            wrong = int(labels.max()) if int(labels.max()) >= classes else int(labels.min())
            raise ValueError(
                f"labels outside the classes: there is a label {wrong}, and the network has {classes} classes, 0 to "
                f"{classes - 1}. Give the labels of the classes that it was trained for."
            )
        return labels.to(self.device, torch.int64)

    def _predict(self, images: Tensor) -> np.ndarray:
        """Return the answers of the network in its present configuration, the trained one."""
        return self.network(images.clone()).argmax(1).cpu().numpy()


def _cropped(data: Data | Loader, side: int) -> Data:
    """Return ``data`` cropped to ``side`` pixels about the centre of the images as they are resized already."""
    if not isinstance(data, Data) or is_stream(data.root):
        raise ValueError(
            "context crops images as they are read: give `Data` instead of a loader, or crop in the loader yourself."
        )
    whole = resized_side(data.image_size, data.crop_ratio)
    if not 0 < side <= whole:
        raise ValueError(f"context={side}: images are resized to {whole} pixels, so give 1 to {whole}.")
    return replace(data, image_size=side, crop_ratio=crop_ratio_of(side, whole))


def _close(found: Tensor, wanted: Tensor) -> bool:
    """Return whether logits differ by rounding alone; NaN is another error."""
    if not bool(torch.isfinite(wanted).all()):
        return True
    return bool((found - wanted).abs().max() <= _TOLERANCE * wanted.abs().max() + 1e-6)


def _exact(logits: Tensor) -> torch.dtype:
    return torch.float32 if logits.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
