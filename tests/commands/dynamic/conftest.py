"""A run with outcomes, and networks that make trouble."""

from dataclasses import replace

import numpy as np
import pytest
from commands.dynamic.running import DILATIONS, NAMES, STRIDES, Place, good, made
from PIL import Image
from safetensors.torch import save_file

import plainvision as pv
from plainvision.training.recipe import Data, Recipe
from plainvision.training.weights_file import load_network


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Place:
    folder = tmp_path_factory.mktemp("dynamic")
    images, run = folder / "images", folder / "run"
    pixels = np.random.default_rng(0)
    for split, count in (("train", 4), ("validation", 4), ("test", 6)):
        for number, name in enumerate(NAMES):
            (images / split / name).mkdir(parents=True)
            for index in range(count):
                picture = pixels.integers(0, 80 + 80 * number, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(picture).save(images / split / name / f"{index}.png")
    data = Data(root=str(images), image_size=16, crop_ratio=1.0, workers=0)
    made(run, Recipe(name="tiny", model="resnet20_cifar", model_options={"width": 0.5}, data=data))
    said = good("evaluate", run, "--data.root", images, *STRIDES, "--out", folder / "strides")
    good("evaluate", run, "--data.root", images, *DILATIONS, "--out", folder / "dilations")
    return Place(folder, run, images, folder / "strides", folder / "dilations", said)


@pytest.fixture(scope="session")
def more(place, tmp_path_factory) -> dict[str, str]:
    """Networks that make trouble."""
    from plainvision.training.techniques import SpatialOps

    folder = tmp_path_factory.mktemp("more")
    data = replace(load_network(place.run)[1].recipe.data, root=str(place.images))
    made(
        folder / "vision",
        Recipe(name="v", model="test_vit", model_options={"img_size": 16, "patch_size": 8}, data=data),
    )
    ops = SpatialOps(op="max", image_size=64)
    fused = Recipe(name="f", model="resnet26", data=data, techniques=(ops,))
    made(folder / "fused", fused)
    weights = folder / "weights.safetensors"
    save_file(pv.create_model("resnet20_cifar", num_classes=3).state_dict(), weights)
    return {"vision": str(folder / "vision"), "fused": str(folder / "fused"), "weights": str(weights)}
