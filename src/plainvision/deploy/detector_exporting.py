"""Export a detector of torchvision's to a folder that ONNX Runtime loads, with proof that it finds the same."""

import copy
import inspect
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.ops import MultiScaleRoIAlign

import plainvision
from plainvision.deploy.comparing import differences_of, short
from plainvision.deploy.detector_folder import DetectorDescription
from plainvision.deploy.detector_graphs import Graph, classes_of, graphs_of, kind_of, settings_of
from plainvision.deploy.exporting import check_free, replace_folder
from plainvision.deploy.formats import format_called
from plainvision.deploy.forms import with_even_padding
from plainvision.deploy.source import deployed_form
from plainvision.deploy.writing import DESCRIPTION, file_hashes
from plainvision.files import write_json, write_text
from plainvision.inspection.counting import count_parameters
from plainvision.inspection.fingerprint import weights_fingerprint

# Largest difference of a box that rounding explains, over the longer side of the image; some 1e-6 measured.
_TOLERANCE = 1e-4
# Scores that differ by less, over the largest, are alike.
_ALIKE = 1e-3
# Of the network's objects the file has to find so many: where two scores are equal but for rounding, either may win.
_LEAST_SHARED = 0.9
_PROOF = ("images", "largest_relative_error", "objects", "shared", "largest_box_error", "largest_score_error")
_PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime")


@dataclass(frozen=True)
class DetectorReport:
    """What was written, and how near its objects are to the network's."""

    folder: Path
    """Where the graphs, their description and predict.py are."""
    kind: str
    """retinanet or mask_rcnn."""
    size_mb: float
    """Size of the graphs, in MB (1e6 bytes)."""
    images: int
    """Images that both answered, together and alone."""
    largest_relative_error: float
    """Largest difference of an output of a graph, over the largest of that output."""
    objects: int
    """Objects that the network found, at any score; 0 where its scores are all alike, as before training."""
    shared: int
    """Those that the file found too, with the same label."""
    largest_box_error: float
    """Largest difference of a coordinate of these, in pixels of the image."""
    largest_score_error: float
    """Largest difference of their scores."""
    unfused: str | None = None
    """Why nothing was folded before; None where it was."""

    def __str__(self) -> str:
        told = (
            f"onnx fp32, {self.size_mb:.2f} MB in {self.folder}; on {self.images} images the graphs differ from the "
            f"layers by {self.largest_relative_error:.2e} of the largest output. "
        )
        if self.objects:
            told += (
                f"Of {self.objects} objects, at any score, it finds {self.shared}; their boxes differ by "
                f"{self.largest_box_error:.2e} pixels at most, their scores by {self.largest_score_error:.2e}"
            )
        else:
            told += "Objects were not compared: the network gives all the same score. Train it first"
        return told if self.unfused is None else f"{told}\nit is written as it was: {self.unfused.rstrip('.')}"


def export_detector(
    network: nn.Module, folder: str | Path, *, classes: Sequence[str] = (), images: Sequence[Tensor] = ()
) -> DetectorReport:
    """Write a detector into ``folder`` for ONNX Runtime, with its description and `predict.py`; return the proof.

    It is fused where it can be. `model.onnx` is the backbone, the pyramid and the heads up to their logits, for any
    number of images of any size; a Mask R-CNN has its heads for single boxes in `boxes.onnx` and `masks.onnx`.
    `predict.py` does the rest, by numpy. A folder of before stays as it was until the new one is whole.

    Args:
        network: torchvision's RetinaNet or Mask R-CNN, `pv.tasks.detector` for instance; it stays as it is.
        folder: a new folder, or a deployed one.
        classes: names of the K classes, in the order of the labels from 1 on; none leaves numbers.
        images: to compare on, each (C, H, W) in [0, 1] of any size; random ones by default.

    Raises:
        ValueError: another kind of network, a layer that ONNX lacks, or a file that answers differently.
        ImportError: a package that the format needs is not installed.
        OSError: the folder cannot be written.
    """
    kind = kind_of(network)
    format_called("onnx")
    from plainvision.deploy import detector_script

    folder = Path(folder)
    check_free(folder)
    names = _names(classes, classes_of(network))
    whole: Any = copy.deepcopy(network).cpu().float().eval()
    for pool in (module for module in whole.modules() if isinstance(module, MultiScaleRoIAlign)):
        pool.scales = pool.map_levels = None  # it guesses them from the first images that it sees
    deployed, unfused = deployed_form(with_even_padding(whole))  # images have sides that every stride divides
    sample = list(images) or _random_images(whole.transform.min_size[-1], len(whole.transform.image_mean))
    with torch.inference_mode():
        found = [_answers(whole, batch) for batch in _batches(sample)]
    settings = settings_of(whole)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
        made = Path(beside) / "made"
        made.mkdir()
        graphs = graphs_of(deployed)
        for graph in graphs:
            _write(graph, made, type(network).__name__)
        description = DetectorDescription(
            task="detection",
            kind=kind,
            format="onnx",
            classes=names,
            **settings,
            network=type(network).__name__,
            parameters=count_parameters(deployed),
            unfused=unfused,
            source=weights_fingerprint(whole),
            files=file_hashes(made),
            proof={},
            versions={"plainvision": plainvision.__version__} | {one: version(one) for one in _PACKAGES},
        )
        finder = detector_script.Finder(made, asdict(description))
        error = max(_graph_error(graph, finder, sample) for graph in graphs)
        size_mb = sum((made / graph.file).stat().st_size for graph in graphs) / 1e6
        report = DetectorReport(
            folder, kind, size_mb, len(sample), error, *_shared(finder, sample, found), unfused=unfused
        )
        proof = {name: getattr(report, name) for name in _PROOF}
        write_text(made / "predict.py", inspect.getsource(detector_script))
        write_json(made / DESCRIPTION, asdict(replace(description, proof=proof)))
        replace_folder(folder, made)
    return report


def _names(classes: Sequence[str], count: int) -> tuple[str, ...]:
    if classes and len(classes) != count:
        raise ValueError(
            f"{len(classes)} classes are named, and the detector has {count} without the background. Name each of its "
            "labels from 1 on."
        )
    return tuple(classes) or tuple(map(str, range(1, count + 1)))


def _random_images(side: int, channels: int) -> list[Tensor]:
    """Return smooth images (C, H, W) in [0, 1] of several sizes, which the network enlarges and reduces."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(side * high // 4, side * wide // 4) for high, wide in ((3, 4), (5, 3), (2, 2))]
    coarse = [torch.rand(1, channels, 12, 12, generator=generator) for _ in sizes]
    return [F.interpolate(one, size, mode="bicubic")[0].clamp(0, 1) for one, size in zip(coarse, sizes, strict=True)]


def _batches(images: list[Tensor]) -> list[list[Tensor]]:
    """Return all images together, and the first one alone."""
    return [images, images[:1]]


def _answers(network: Any, images: list[Tensor]) -> list[dict[str, np.ndarray]]:
    """Return the objects that a network finds at any score."""
    chooser = network if isinstance(network, RetinaNet) else network.roi_heads
    before, chooser.score_thresh = chooser.score_thresh, 0.0
    try:
        return [{name: value.numpy() for name, value in one.items()} for one in network(images)]
    finally:
        chooser.score_thresh = before


def _write(graph: Graph, folder: Path, name: str) -> None:
    try:
        graph.write(folder)
    except OSError:
        raise
    except Exception as error:  # exporters raise nearly anything
        raise ValueError(
            f"{name} cannot be exported to ONNX, at what becomes {graph.file}: {short(error)}. Build it on another "
            "backbone."
        ) from error


def _graph_error(graph: Graph, finder: Any, sample: list[Tensor]) -> float:
    """Return the largest difference of a graph's outputs from those of its layers, over the largest of each."""
    if len(graph.example) == 1:
        canvases = [finder.canvas([finder.scaled(_array(one)) for one in part]) for part in _batches(sample)]
        batches: list[tuple[Tensor, ...]] = [(torch.from_numpy(canvas),) for canvas in canvases]
    else:
        feature = torch.rand(1, *graph.example[0].shape[1:], generator=torch.Generator().manual_seed(0))
        batches = [(feature, graph.example[1][:count]) for count in (1, 2)]
    session, error = finder.graphs[graph.file], 0.0
    for given in batches:
        with torch.inference_mode():
            said = graph.module(*given)
        expected = [one.numpy() for one in (said if isinstance(said, tuple) else (said,))]
        answer = session.run(None, {name: one.numpy() for name, one in zip(graph.inputs, given, strict=True)})
        error = max(error, differences_of(graph.file, answer, expected)[1])
    return error


def _shared(
    finder: Any, sample: list[Tensor], expected: list[list[dict[str, np.ndarray]]]
) -> tuple[int, int, float, float]:
    """Return how many objects the network found, how many the file finds of them, and how far off boxes and scores.

    Raises:
        ValueError: too few, or too far off.
    """
    last = "heads" if finder.about["heads"] else "dense"
    finder.about = finder.about | {last: finder.about[last] | {"above": 0.0}}
    objects = shared = 0
    farthest = surest = 0.0
    for batch, theirs in zip(_batches(sample), expected, strict=True):
        for image, one, other in zip(batch, theirs, finder([_array(each) for each in batch]), strict=True):
            if not len(one["scores"]) or np.ptp(one["scores"]) <= _ALIKE * one["scores"].max():
                continue  # among equal scores it is rounding that chooses
            objects += len(one["scores"])
            if not len(other["scores"]):
                continue
            boxes = np.abs(one["boxes"][:, None] - other["boxes"]).max(2)
            scores = np.abs(one["scores"][:, None] - other["scores"])
            apart = boxes + scores / _ALIKE
            apart[one["labels"][:, None] != other["labels"]] = np.inf
            places = np.arange(len(apart)), apart.argmin(1)
            same = apart[places] < 1
            shared += int(same.sum())
            off = float(boxes[places][same].max(initial=0.0))
            if off > _TOLERANCE * max(image.shape):
                raise ValueError(
                    f"a box of the exported detector lies {off:.2e} pixels from the network's, in an image of "
                    f"{image.shape[1]} x {image.shape[2]}. Nothing was written."
                )
            farthest, surest = max(farthest, off), max(surest, float(scores[places][same].max(initial=0.0)))
    if shared < _LEAST_SHARED * objects:
        raise ValueError(
            f"of {objects} objects the exported detector finds {shared}. Nothing was written. Where its scores are "
            "nearly all alike, as before training, rounding chooses among them: train it, or give images that it knows."
        )
    return objects, shared, farthest, surest


def _array(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).float().numpy()
