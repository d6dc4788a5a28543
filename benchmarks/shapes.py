"""Circles, rectangles and triangles on textured grounds, drawn from a seed: a data set to detect and to segment.

Run: python benchmarks/shapes.py --out shapes

Writes images, COCO's boxes and outlines, and ADE20k's maps of labels, into one folder that `plainvision detect` and
`plainvision segment` both read. A class is a form alone: colours, textures, sizes and angles are drawn for each shape.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

CLASSES = ("circle", "rectangle", "triangle")
SIDE = 128
_RADII = (16, 30)  # of the circle around a shape, in pixels
_MOST = 3  # shapes in an image
_GROUND, _SHAPE = (20, 110), (140, 255)  # of each channel: shapes are lighter than what they lie on

Random = np.random.Generator


@dataclass(frozen=True)
class Shape:
    """One shape and the pixels that it covers."""

    label: int
    """Its place in `CLASSES`."""
    mask: np.ndarray
    """(SIDE, SIDE) bool."""
    corners: np.ndarray | None
    """(N, 2) as x, y; None for a circle."""

    @property
    def box(self) -> list[int]:
        """x, y, width, height."""
        rows, columns = (np.flatnonzero(self.mask.any(axis)) for axis in (1, 0))
        x, y = int(columns[0]), int(rows[0])
        return [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]

    @property
    def outline(self) -> object:
        """COCO's segmentation: a polygon, or the run lengths of a circle."""
        if self.corners is not None:
            return [self.corners.round(2).ravel().tolist()]
        pixels = np.concatenate([[False], self.mask.T.ravel(), [False]])  # column by column
        changes = np.flatnonzero(pixels[1:] != pixels[:-1])
        runs = np.diff([0, *changes, self.mask.size])
        return {"size": [SIDE, SIDE], "counts": runs.tolist()}


def drawn_shape(random: Random, label: int) -> Shape:
    """Return a shape somewhere within the image."""
    radius = random.uniform(*_RADII)
    middle = random.uniform(radius + 1, SIDE - radius - 1, 2)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5  # pixels' middles, as COCO counts from their edges
    if CLASSES[label] == "circle":
        return Shape(label, (x - middle[0]) ** 2 + (y - middle[1]) ** 2 <= radius**2, None)
    turn = random.uniform(0, 2 * np.pi)
    if CLASSES[label] == "rectangle":
        half = random.uniform(0.4, np.pi / 2 - 0.4)  # of the angle between the diagonals
        angles = turn + np.array([half, np.pi - half, np.pi + half, -half])
    else:
        angles = turn + np.array([0, 2, 4]) * np.pi / 3 + random.uniform(-0.3, 0.3, 3)
    corners = middle + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    inside = np.ones((SIDE, SIDE), dtype=bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        inside &= (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) >= 0
    return Shape(label, inside, corners)


def texture(random: Random, channels: tuple[int, int]) -> np.ndarray:
    """Return (SIDE, SIDE, 3) around a random colour: clouds of a random size, and noise."""
    cells = int(random.integers(3, 24))
    clouds = Image.fromarray(random.integers(0, 256, (cells, cells), dtype=np.uint8))
    light = np.asarray(clouds.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float64) - 128
    return (
        random.uniform(*channels, 3)
        + random.uniform(0.1, 0.3) * light[:, :, None]
        + random.normal(0, 8, (SIDE, SIDE, 3))
    )


def drawn_scene(random: Random) -> tuple[np.ndarray, list[Shape]]:
    """Return an image (SIDE, SIDE, 3) and its shapes, which do not overlap; one in ten has none."""
    pixels, shapes, taken = texture(random, _GROUND), list[Shape](), np.zeros((SIDE, SIDE), dtype=bool)
    for _ in range(int(random.integers(1, _MOST + 1)) if random.random() < 0.9 else 0):
        shape = drawn_shape(random, int(random.integers(len(CLASSES))))
        x, y, width, height = shape.box
        if taken[y : y + height, x : x + width].any():
            continue
        taken[y : y + height, x : x + width] = True
        pixels[shape.mask] = texture(random, _SHAPE)[shape.mask]
        shapes.append(shape)
    return pixels.clip(0, 255).astype(np.uint8), shapes


def write_shapes(root: Path, *, train: int = 400, validation: int = 100, seed: int = 0) -> Path:
    """Write so many images of each split below ``root``, and return it."""
    for number, (split, count) in enumerate({"train": train, "validation": validation}.items()):
        random = np.random.default_rng((seed, number))
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        images, things = list[dict[str, object]](), list[dict[str, object]]()
        for image in range(count):
            pixels, shapes = drawn_scene(random)
            labels = np.zeros((SIDE, SIDE), dtype=np.uint8)
            for shape in shapes:
                labels[shape.mask] = shape.label + 1
                area, box = int(shape.mask.sum()), shape.box
                thing = {"id": len(things), "image_id": image, "category_id": shape.label, "bbox": box, "area": area}
                things.append({**thing, "iscrowd": 0, "segmentation": shape.outline})
            Image.fromarray(pixels).save(root / "images" / split / f"{image:04}.png")
            Image.fromarray(labels).save(root / "annotations" / split / f"{image:04}.png")
            images.append({"id": image, "file_name": f"{image:04}.png", "width": SIDE, "height": SIDE})
        kinds = [{"id": label, "name": name} for label, name in enumerate(CLASSES)]
        content = {"images": images, "annotations": things, "categories": kinds}
        (root / f"{split}.json").write_text(json.dumps(content))
    (root / "classes.txt").write_text("\n".join(("ground", *CLASSES)) + "\n")
    return root


@dataclass(frozen=True)
class Arguments:
    """What the script takes."""

    out: Path
    """The new folder."""
    train: int = 400
    """Images to learn from."""
    validation: int = 100
    """Images to score."""
    seed: int = 0
    """Decides every pixel."""


if __name__ == "__main__":
    given = tyro.cli(Arguments, description=__doc__)
    print(write_shapes(given.out, train=given.train, validation=given.validation, seed=given.seed))
