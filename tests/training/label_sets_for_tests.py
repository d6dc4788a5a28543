"""Images with sets of labels, as small as learning allows: a colour for each label, on a part of the image."""

from pathlib import Path

import numpy as np
from PIL import Image

from plainvision.training import Data, Machine, Recipe
from plainvision.training.multi_label import multi_label
from plainvision.training.recipe import Augment

LABELS = ("blue", "green", "red")


def write_images(root: Path, count: int, *, head: str = "labels", seed: int = 0) -> Path:
    """Write images into ``root``/images, every fourth for validation, and return the .csv of their labels."""
    random = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    lines = [f"image,{head},split" if head == "labels" else f"image,{','.join(LABELS)},split"]
    for number in range(count):
        own = random.random(3) < 0.4
        pixels = random.integers(0, 40, (16, 16, 3))
        for place, has in enumerate(own):
            pixels[:, :, 2 - place] += 200 * has
        Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / f"{number}.png")
        split = "validation" if number % 4 == 0 else "train"
        joined = "|".join(name for name, has in zip(LABELS, own, strict=True) if has)
        cells = [joined] if head == "labels" else [str(int(has)) for has in own]
        lines.append(",".join([f"{number}.png", *cells, split]))
    (root / "labels.csv").write_text("\n".join(lines))
    return root / "labels.csv"


def recipe_of(labels: Path, **changes) -> Recipe:
    """Return a recipe that learns such labels in a second."""
    data = Data(root=str(labels.parent / "images"), labels=str(labels), image_size=32, crop_ratio=1.0, workers=0)
    made = {
        "name": "colours",
        "model": "resnet20_cifar",
        "data": data,
        "augment": Augment(scale=(0.8, 1.0)),
        "epochs": 3,
        "batch_size": 16,
        "optimizer": "adamw",
        "lr": 5e-3,
        "warmup_epochs": 0,
        "machine": Machine(threads=1, log_steps=2),
    }
    return multi_label(Recipe(**{**made, **changes}))
