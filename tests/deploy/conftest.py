"""A network that the tests of lower precision and of tuning deploy."""

import pytest
import torch
from networks_for_tests import trained

import plainvision as pv


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = trained(pv.create_model("vanillanet_6", width=1 / 64, num_classes=10))
    pv.set_slope(model, 1)
    return model.eval()
