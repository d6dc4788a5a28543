"""Print the objects in photographs: python predict.py photo.jpg ...

`predict.py` of a deployed detector, copied as it stands. The graphs beside it say what each anchor looks like; here is
the rest, as torchvision has it: resizing, anchors, boxes, suppression, masks. It needs onnxruntime, numpy and Pillow.

Shapes   C channels, H height, W width, A anchors at a place, K classes, N boxes; boxes are x1, y1, x2, y2 in pixels
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

_MOST = math.log(1000 / 16)  # of a box over its anchor, as a logarithm


class Finder:
    """Images (H, W, C), bytes or floats in [0, 1] -> boxes (N, 4), labels (N,), scores (N,) of each, surest first.

    Labels run from 1; a Mask R-CNN adds masks (N, H, W), how likely each pixel belongs to each object.

    Args:
        folder: the deployed folder.
        about: what `deploy.json` says there.
        threads: of the runtime, which chooses by itself without.
    """

    def __init__(self, folder: Path, about: dict[str, Any], threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self.about, self.graphs = about, dict[str, Any]()
        for name in about["files"]:
            self.graphs[name] = onnxruntime.InferenceSession(folder / name, options, ["CPUExecutionProvider"])

    def __call__(self, images: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
        scaled = [self.scaled(image) for image in images]
        canvas = self.canvas(scaled)
        graph = self.graphs["model.onnx"]
        out = dict(zip((one.name for one in graph.get_outputs()), graph.run(None, {"images": canvas}), strict=True))
        sizes = [one.shape[1:] for one in scaled]
        found = [self.dense(out, index, size, canvas.shape[2:]) for index, size in enumerate(sizes)]
        if self.about["heads"]:
            found = self.looked_at_again(out, [boxes for boxes, _, _ in found], sizes)
        answers = []
        for index, (image, size, (boxes, labels, scores)) in enumerate(zip(images, sizes, found, strict=True)):
            whole = floats(image.shape[:2])
            answer = {"boxes": boxes * np.tile(whole / floats(size), 2)[[1, 0, 3, 2]]}
            answer |= {"labels": labels, "scores": scores}
            if "masks.onnx" in self.graphs:
                answer["masks"] = self.masks(out, index, boxes, labels, answer["boxes"], image.shape[:2])
            answers.append(answer)
        return answers

    def scaled(self, image: np.ndarray) -> np.ndarray:
        """Return an image (H, W, C) as (C, H', W') in [0, 1], of the size that the network looks at."""
        height, width = image.shape[:2]
        least, most = self.about["resize"]["min_size"], self.about["resize"]["max_size"]
        factor = min(least / min(height, width), most / max(height, width))
        values = floats(image) / np.float32(255) if image.dtype == np.uint8 else floats(image)
        return resized(values.transpose(2, 0, 1), math.floor(height * factor), math.floor(width * factor))

    def canvas(self, images: list[np.ndarray]) -> np.ndarray:
        """Return images of any sizes as one array (B, C, H, W), each at the top left, around it the mean."""
        multiple = self.about["resize"]["multiple"]
        height, width = (max(-(-one.shape[axis] // multiple) * multiple for one in images) for axis in (1, 2))
        mean = floats(self.about["mean"])[:, None, None]
        whole = np.tile(mean, (len(images), 1, height, width))
        for place, image in zip(whole, images, strict=True):
            place[:, : image.shape[1], : image.shape[2]] = image
        return whole

    def dense(self, out: dict[str, np.ndarray], index: int, size: Any, canvas: Any) -> tuple[np.ndarray, ...]:
        """Return the boxes, labels and scores that the anchors of one image become."""
        how, found = self.about["dense"], []
        for level, base in enumerate(self.about["anchors"]):
            logits, codes = out[f"logits_{level}"][index], out[f"boxes_{level}"][index]  # (H, W, A, K), (H, W, A, 4)
            places = anchors(floats(base), logits.shape[:2], canvas)
            scores = sigmoid(logits).ravel()
            likely = np.flatnonzero(scores > how["above"])
            likely = likely[np.argsort(-logits.ravel()[likely], kind="stable")[: how["candidates"]]]
            which, label = np.divmod(likely, logits.shape[3])
            boxes = clipped(decoded(codes.reshape(-1, 4)[which], places[which], how["weights"]), size)
            found.append((boxes, label, scores[likely], np.full(len(boxes), level)))
        boxes, labels, scores, levels = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return chosen(boxes, labels, scores, levels if self.about["heads"] else labels, how)

    def looked_at_again(
        self, out: dict[str, np.ndarray], proposals: list[np.ndarray], sizes: Any
    ) -> list[tuple[np.ndarray, ...]]:
        """Return the boxes, labels and scores that the proposals of each image become."""
        how, found = self.about["heads"], []
        for index, (boxes, size) in enumerate(zip(proposals, sizes, strict=True)):
            logits, codes = self.pooled("boxes.onnx", out, index, boxes)  # (N, K), (N, 4 K)
            shares = np.exp(logits - logits.max(1, keepdims=True))
            shares /= shares.sum(1, keepdims=True)
            fitted = clipped(decoded(codes.reshape(*logits.shape, 4), boxes[:, None], how["weights"]), size)
            which, label = np.nonzero(shares[:, 1:] > how["above"])  # 0 is the background
            label = label + 1
            found.append(chosen(fitted[which, label], label, shares[which, label], label, how))
        return found

    def pooled(self, name: str, out: dict[str, np.ndarray], index: int, boxes: np.ndarray) -> list[np.ndarray]:
        """Return what a graph says of boxes, each looked at in the feature whose grid fits its size."""
        scales = self.about["scales"]
        finest, coarsest = (round(-math.log2(scales[end])) for end in (0, -1))
        fits = np.floor(4 + np.log2(np.sqrt(area(boxes)) / 224) + np.float32(1e-6))
        levels = np.clip(fits, finest, coarsest).astype(int) - finest
        order, parts = np.argsort(levels, kind="stable"), []
        for level in np.unique(levels) if len(boxes) else [0]:
            regions = np.pad(boxes[levels == level] * np.float32(scales[level]), ((0, 0), (1, 0)))
            given = {"feature": out[f"feature_{level}"][index : index + 1], "regions": regions}
            parts.append(self.graphs[name].run(None, given))
        return [np.concatenate(one)[np.argsort(order)] for one in zip(*parts, strict=True)]

    def masks(
        self,
        out: dict[str, np.ndarray],
        index: int,
        boxes: np.ndarray,
        labels: np.ndarray,
        on_image: np.ndarray,
        size: Any,
    ) -> np.ndarray:
        """Return the masks (N, H, W) of the boxes of one image."""
        (logits,) = self.pooled("masks.onnx", out, index, boxes)  # (N, K, M, M)
        drawn = np.pad(sigmoid(logits[np.arange(len(labels)), labels]), ((0, 0), (1, 1), (1, 1)))
        half = (on_image[:, 2:] - on_image[:, :2]) * np.float32(0.5) * np.float32(drawn.shape[1] / logits.shape[2])
        middle = (on_image[:, 2:] + on_image[:, :2]) * np.float32(0.5)
        corners = np.concatenate([middle - half, middle + half], 1).astype(int)
        whole = np.zeros((len(boxes), *size), np.float32)
        for mask, small, (x1, y1, x2, y2) in zip(whole, drawn, corners, strict=True):
            large = resized(small[None], max(1, y2 - y1 + 1), max(1, x2 - x1 + 1))[0]
            seen = large[max(0, -y1) : size[0] - y1, max(0, -x1) : size[1] - x1]
            mask[max(0, y1) : max(0, y1) + seen.shape[0], max(0, x1) : max(0, x1) + seen.shape[1]] = seen
        return whole


def floats(values: Any) -> np.ndarray:
    """Return numbers as an array of float32, in which torchvision computes."""
    return np.asarray(values, np.float32)


def resized(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return images (C, H, W) with as many rows and columns, each value between the nearest two."""
    for axis, length in ((1, height), (2, width)):
        old = images.shape[axis]
        place = np.maximum(
            (np.arange(length, dtype=np.float32) + np.float32(0.5)) * np.float32(old / length) - np.float32(0.5), 0
        )
        first = np.minimum(place.astype(int), old - 1)
        share = (place - first).reshape((-1, 1) if axis == 1 else (1, -1))
        images = images.take(first, axis) * (1 - share) + images.take(np.minimum(first + 1, old - 1), axis) * share
    return images


def anchors(base: np.ndarray, grid: Any, canvas: Any) -> np.ndarray:
    """Return the anchors (H W A, 4) of a grid over the canvas; ``base`` (A, 4) are those around its first place."""
    rows, columns = (np.arange(grid[axis]) * (canvas[axis] // grid[axis]) for axis in (0, 1))
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return (np.stack([x, y, x, y], 2).reshape(-1, 1, 4).astype(np.float32) + base).reshape(-1, 4)


def decoded(codes: np.ndarray, anchors: np.ndarray, weights: Any) -> np.ndarray:
    """Return the boxes (..., 4) that codes (..., 4) make of anchors: moved by shares of a side, then enlarged."""
    codes = codes / floats(weights)
    sides = anchors[..., 2:] - anchors[..., :2]
    middle = codes[..., :2] * sides + (anchors[..., :2] + np.float32(0.5) * sides)
    half = np.float32(0.5) * (np.exp(np.minimum(codes[..., 2:], np.float32(_MOST))) * sides)
    return np.concatenate([middle - half, middle + half], -1)


def clipped(boxes: np.ndarray, size: Any) -> np.ndarray:
    """Return boxes (..., 4) cut at the border of an image of (H, W)."""
    return np.clip(boxes, floats(0), floats((size[1], size[0]) * 2))


def chosen(
    boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, how: dict[str, Any]
) -> tuple[np.ndarray, ...]:
    """Return boxes, labels and scores, the surest first, without those that overlap a surer one of their group."""
    large = (boxes[:, 2:] - boxes[:, :2] >= np.float32(how["least_side"])).all(1)
    kept: list[int] = []
    for group in np.unique(groups[large]):
        left = np.flatnonzero(large & (groups == group))
        left = left[np.argsort(-scores[left], kind="stable")]
        while len(left):
            first, left = left[0], left[1:]
            kept.append(first)
            left = left[~(overlap(boxes[first], boxes[left]) > how["overlap"])]
    best = np.array(kept, dtype=int)
    best = best[np.argsort(-scores[best], kind="stable")][: how["most"]]
    return boxes[best], labels[best], scores[best]


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the intersection over union (N,) of a box with others."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    both = np.maximum(sides, 0).prod(1)
    with np.errstate(invalid="ignore"):
        return both / (area(box[None]) + area(boxes) - both)


def area(boxes: np.ndarray) -> np.ndarray:
    """Return the areas (N,) of boxes."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probability of each logit."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits))


def main(folder: Path, paths: list[str]) -> None:
    """Print the objects of each photograph that are as likely as not: the class, its score and the box."""
    about = json.loads((folder / "deploy.json").read_text())
    find = Finder(folder, about)
    for path in paths:
        photo = ImageOps.exif_transpose(Image.open(path)).convert("RGB" if len(about["mean"]) == 3 else "L")
        found = find([np.asarray(photo).reshape(photo.height, photo.width, -1)])[0]
        for box, label, score in zip(found["boxes"], found["labels"], found["scores"], strict=True):
            if label and score >= 0.5:
                print(path, about["classes"][label - 1], round(float(score), 4), *(round(float(x), 1) for x in box))


if __name__ == "__main__":
    main(Path(__file__).parent, sys.argv[1:])
