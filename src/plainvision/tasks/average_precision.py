"""Average precision of boxes and masks, by faster_coco_eval, which has pycocotools' figures."""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn

from plainvision.inspection.devices import device_of
from plainvision.inspection.eval_mode import eval_mode
from plainvision.processes import process_group
from plainvision.tasks.boxes import BoxScenes, masks_of
from plainvision.tasks.coco import Scene
from plainvision.tasks.scenes import SceneBatch


@dataclass(frozen=True)
class Precision:
    """Average precision of boxes or of masks, per cent; -1 where no object is there to be found."""

    ap: float
    """The mean over overlaps of 50 to 95 per cent and over classes, COCO's own score."""
    ap50: float
    """At an overlap of 50 per cent."""
    per_class: dict[str, float]
    """AP of each class that has objects."""


@dataclass(frozen=True)
class DetectionScores:
    """How well a detector finds the objects of a data set."""

    box: Precision
    mask: Precision | None
    """None for a detector of boxes."""
    images: int
    objects: int
    skipped: tuple[str, ...] = ()
    """Images of this process that could not be read."""

    @property
    def score(self) -> float:
        """AP of the boxes, by which the best weights are chosen; nothing found is 0."""
        return max(0.0, self.box.ap)

    @property
    def figures(self) -> dict[str, float]:
        """What the metrics of a run record."""
        found = {"box_ap": self.box.ap, "box_ap50": self.box.ap50}
        return found | ({} if self.mask is None else {"mask_ap": self.mask.ap, "mask_ap50": self.mask.ap50})

    @property
    def words(self) -> str:
        """The figures for the line of an epoch."""
        mask = "" if self.mask is None else f"  mask AP {self.mask.ap:.2f} %"
        return f"box AP {self.box.ap:.2f} %  AP50 {self.box.ap50:.2f} %{mask}"


def evaluate_detector(
    network: nn.Module,
    batches: Iterable[SceneBatch],
    scenes: BoxScenes,
    *,
    device: torch.device,
    masks: bool,
    shared: bool = False,
) -> DetectionScores:
    """Return the scores of a detector on ``batches`` of ``scenes``; it stays on its device and in its mode.

    Processes that have ``shared`` the scenes exchange what each found, and the main one scores it for all.

    Raises:
        ValueError: no image could be read.
    """
    places = {scenes.store.name(scene.path): place for place, scene in enumerate(scenes.scenes)}
    home = device_of(network)
    found: list[tuple[int, list[dict[str, Any]]]] = []
    skipped: list[str] = []
    try:
        network.to(device)
        with eval_mode(network), torch.inference_mode():
            for batch in batches:
                skipped += batch.skipped
                if not batch.images:
                    continue
                answers = network(list(batch.on(device).images))
                for place, answer in zip(map(places.__getitem__, batch.names), answers, strict=True):
                    found.append((place, results_of(answer, place, scenes.category_ids, masks=masks)))
    finally:
        network.to(home)
    if shared:
        found = gather_object(found)
    if not found:
        raise ValueError("no image to evaluate: every one was skipped. Check data.root.")
    if not shared:
        return _scored(scenes, found, skipped, masks=masks)
    scores = [_scored(scenes, found, (), masks=masks) if process_group().is_main_process else None]
    broadcast_object_list(scores)
    assert scores[0] is not None
    return replace(scores[0], skipped=tuple(skipped))


def _scored(
    scenes: BoxScenes, found: Sequence[tuple[int, list[dict[str, Any]]]], skipped: Sequence[str], *, masks: bool
) -> DetectionScores:
    """Return the scores of what was found, as `results_of`, at each place in ``scenes``."""
    found = sorted(found, key=lambda one: one[0])  # the order of images decides between equal scores
    seen = [scenes.scenes[place] for place, _ in found]
    results = [{**one, "image_id": number} for number, (_, own) in enumerate(found, start=1) for one in own]
    objects = sum(not thing.crowd for scene in seen for thing in scene.things)
    box = precision(seen, results, scenes.classes, scenes.category_ids, "bbox")
    mask = precision(seen, results, scenes.classes, scenes.category_ids, "segm") if masks else None
    return DetectionScores(box, mask, len(seen), objects, tuple(skipped))


def results_of(
    answer: dict[str, torch.Tensor], image_id: Any, category_ids: Sequence[int], *, masks: bool
) -> list[dict[str, Any]]:
    """Return what a detector says of an image as COCO's results: boxes as x, y, width, height, masks as run lengths."""
    coco_mask = _library().mask
    outlines: list[Any] = [None] * len(answer["labels"])
    if masks:
        drawn = (answer["masks"][:, 0] >= 0.5).to(torch.uint8).cpu().numpy()
        outlines = [coco_mask.encode(np.asfortranarray(one)) for one in drawn]
    rows = zip(answer["boxes"].tolist(), answer["labels"].tolist(), answer["scores"].tolist(), outlines, strict=True)
    found = []
    for (x1, y1, x2, y2), label, score, outline in rows:
        if label > 0:  # the background's column of a RetinaNet, which learns nothing
            one = {"image_id": image_id, "category_id": category_ids[label - 1], "score": score}
            one["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            found.append(one | ({} if outline is None else {"segmentation": outline}))
    return found


def precision(
    scenes: Sequence[Scene], found: Sequence[dict[str, Any]], classes: Sequence[str], ids: Sequence[int], kind: str
) -> Precision:
    """Return the average precision of what was ``found``, as `results_of`, in scenes that are numbered from 1.

    ``kind`` is "bbox" or "segm".
    """
    library = _library()
    images: list[dict[str, Any]] = []
    things: list[dict[str, Any]] = []
    for number, scene in enumerate(scenes, start=1):
        images.append({"id": number, "width": scene.width, "height": scene.height, "file_name": scene.path})
        outlines = masks_of(scene.things, scene.height, scene.width) if kind == "segm" else [None] * len(scene.things)
        for thing, outline in zip(scene.things, outlines, strict=True):
            x1, y1, x2, y2 = thing.box
            one: dict[str, Any] = {
                "id": len(things) + 1,
                "image_id": number,
                "category_id": ids[thing.label],
                "area": thing.area,
            }
            one["bbox"], one["iscrowd"] = [x1, y1, x2 - x1, y2 - y1], int(thing.crowd)
            if outline is not None:
                one["segmentation"] = library.mask.encode(np.asfortranarray(outline))
            things.append(one)
    categories = [{"id": number, "name": name} for number, name in zip(ids, classes, strict=True)]
    truth = library.COCO({"images": images, "annotations": things, "categories": categories, "info": {}})
    if not found or not things:  # which the library takes for no data
        nothing = 0.0 if things else -1.0
        return Precision(nothing, nothing, {name: 0.0 for name in classes if things and _has(scenes, classes, name)})
    results = library.COCOeval_faster(
        truth, truth.loadRes([dict(one) for one in found]), kind, print_function=_silent, extra_calc=False
    )
    results.evaluate()
    results.accumulate()
    # (overlap, recall, class, area, most detections): all areas, the most detections; -1 where there is nothing.
    table = np.asarray(results.eval["precision"])[:, :, :, 0, -1]
    each = {name: _mean(table[:, :, k]) for k, name in enumerate(classes)}
    return Precision(_mean(table), _mean(table[0]), {name: value for name, value in each.items() if value >= 0})


def _library() -> Any:
    try:
        return importlib.import_module("faster_coco_eval")
    except ImportError as error:
        raise ImportError(
            "average precision needs the package `faster_coco_eval`, which is not installed. "
            'pip install "plainvision[tasks]"'
        ) from error


def _silent(*_: object) -> None:
    """Print nothing."""


def _has(scenes: Sequence[Scene], classes: Sequence[str], name: str) -> bool:
    return any(classes[thing.label] == name and not thing.crowd for scene in scenes for thing in scene.things)


def _mean(table: np.ndarray) -> float:
    there = table[table > -1]
    return 100 * float(there.mean()) if there.size else -1.0
