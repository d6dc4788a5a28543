"""`plainvision.load`: network, transform and classes of what was trained."""

import numpy as np
import pytest
import torch
from networks_for_tests import trained
from PIL import Image

import plainvision as pv
from plainvision.deploy import Preprocessing
from plainvision.recipes import get_recipe
from plainvision.training.weights_file import Origin, build_network, save_network

CLASSES = ("hat", "shoe", "dress")


@pytest.fixture
def weights(tmp_path):
    recipe = get_recipe("vanillanet_clothing")
    recipe.model_options.update({"width": 1 / 32})
    network = trained(build_network(recipe, len(CLASSES), recipe.epochs))
    save_network(tmp_path / "best.safetensors", network.state_dict(), Origin(recipe, CLASSES, recipe.epochs))
    return tmp_path / "best.safetensors"


def test_a_picture_goes_through_transform_and_network(weights):
    loaded = pv.load(weights)
    assert loaded.classes == CLASSES
    assert not loaded.network.training
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 140), dtype=np.uint8))
    image = loaded.transform(picture)
    assert image.shape == (3, loaded.data.image_size, loaded.data.image_size)
    with torch.no_grad():
        logits = loaded.network(image[None])
    (answer,) = pv.predict(weights, [picture], top=1)
    assert answer.classes[0] == CLASSES[logits.argmax()]


def test_a_deployed_folder_is_loaded_alike(weights, tmp_path):
    loaded = pv.load(weights)
    how = Preprocessing.of(loaded.data)
    pv.deploy.export(loaded.network, tmp_path / "out", preprocessing=how, format="torch", classes=CLASSES)
    deployed = pv.load(tmp_path / "out")
    assert deployed.classes == CLASSES
    picture = Image.new("RGB", (150, 130), (200, 30, 90))
    with torch.no_grad():
        torch.testing.assert_close(
            deployed.network(deployed.transform(picture)[None]),
            loaded.network(loaded.transform(picture)[None]),
            rtol=1e-3,
            atol=1e-3,
        )


def test_a_name_is_no_trained_network(tmp_path):
    with pytest.raises(
        ValueError, match=r"'resnet18' is no run, weights file or deployed folder\. `plainvision\.create"
    ):
        pv.load("resnet18")
    with pytest.raises((ValueError, OSError), match=r"nowhere"):
        pv.load(tmp_path / "nowhere")
