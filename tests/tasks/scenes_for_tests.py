"""Small data sets of scenes: bright squares on dark images, with boxes and masks, or with maps of labels."""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64


def coco_folder(root: Path, *, train: int = 6, validation: int = 3) -> Path:
    """Write images of one square or two, each third one empty, with boxes and polygons, in COCO's form."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("validation", validation)):
        (root / split).mkdir(parents=True)
        images, things = [], []
        for number in range(count):
            pixels = random.integers(0, 40, (SIDE, SIDE, 3), dtype=np.uint8)
            images.append({"id": 10 + number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
            for _ in range(number % 3):
                x, y, w, h = (int(one) for one in random.integers([4, 4, 16, 16], [28, 28, 32, 32]))
                kind = int(random.integers(2))
                pixels[y : y + h, x : x + w, kind] = 255
                corners = [x, y, x + w, y, x + w, y + h, x, y + h]
                things.append(
                    {
                        **{"id": len(things) + 1, "image_id": 10 + number, "category_id": (3, 7)[kind]},
                        **{"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0, "segmentation": [corners]},
                    }
                )
            Image.fromarray(pixels).save(root / split / f"{number}.png")
        kinds = [{"id": 7, "name": "green"}, {"id": 3, "name": "red"}]
        write(root, split, {"images": images, "annotations": things, "categories": kinds})
    return root


def read(root: Path, split: str) -> dict:
    return json.loads((root / f"{split}.json").read_text())


def write(root: Path, split: str, content: object) -> None:
    (root / f"{split}.json").write_text(json.dumps(content))


def label_folder(root: Path, *, train: int = 4, validation: int = 2) -> Path:
    """Write images of squares with maps of labels as ADE20k's: 0 unlabelled at the rim, 1 ground, 2 square."""
    random = np.random.default_rng(0)
    for split, count in (("training", train), ("validation", validation)):
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 40, (SIDE, SIDE + 16, 3), dtype=np.uint8)
            labels = np.ones(pixels.shape[:2], dtype=np.uint8)
            labels[:2] = 0
            x, y = (int(one) for one in random.integers(4, 30, 2))
            pixels[y : y + 24, x : x + 24], labels[y : y + 24, x : x + 24] = 255, 2
            Image.fromarray(pixels).save(root / "images" / split / f"{number}.jpg", quality=95)
            Image.fromarray(labels).save(root / "annotations" / split / f"{number}.png")
    (root / "classes.txt").write_text("ground\nsquare\n")
    return root


def pack(folder: Path) -> Path:
    """Return a .zip of a folder, which holds the folder itself."""
    return Path(shutil.make_archive(str(folder), "zip", folder.parent, folder.name))
