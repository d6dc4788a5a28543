"""A tiny network, images and batches to evaluate, and what compares outcomes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from networks_for_tests import trained
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

from plainvision.data.batches import EvaluationBatches
from plainvision.data.rows import Batch
from plainvision.dynamic import DynamicNetwork, Outcomes, Space
from plainvision.dynamic.views import VIEWS
from plainvision.training.recipe import Data

CLASSES = ("coat", "hat", "shoe")

Batches = list[tuple[Tensor, Tensor]]


class Tiny(nn.Module):
    """A few layers with two sites, whose answers differ between their options."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.a, self.b = nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 1, 1)
        self.act, self.fc = nn.ReLU(inplace=True), nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.stem(x)))
        x = self.act(self.a(x))
        return self.fc(self.act(self.b(x)).mean((2, 3)))


def tiny(
    space: Space | None = None, *, kind: type[Tiny] = Tiny, classes: int = 3, image_size: int = 8, seed: int = 3
) -> DynamicNetwork:
    torch.manual_seed(seed)
    model = trained(kind(classes), seed)
    with torch.no_grad():
        model.fc.weight *= 4
        model.fc.bias -= model(torch.randn(64, 3, 8, 8)).mean(0)  # so that no class always wins
    space = space or Space(stride=(0.5, 1, 2))
    return DynamicNetwork(model, sites={"A": "a", "B": "b"}, space=space, image_size=image_size, name="tiny")


def batches(*sizes: int, side: int = 8, classes: int = 3) -> Batches:
    """Return batches of images, the first pixel of which is their number."""
    found = [(torch.randn(n, 3, side, side), torch.randint(classes, (n,))) for n in sizes]
    for number, image in enumerate(image for images, _ in found for image in images):
        image[0, 0, 0] = number
    return found


def write_images(place: Path) -> Data:
    """Write ``clothes/SPLIT/CLASS/N.png``: 3 classes, 1 training and 6 validation images each."""
    random = np.random.default_rng(0)
    for split, each in (("train", 1), ("validation", 6)):
        for name in CLASSES:
            folder = place / "clothes" / split / name
            folder.mkdir(parents=True)
            for number in range(each):
                pixels = random.integers(0, 255, (18, 15, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return Data(root=str(place / "clothes"), image_size=8, crop_ratio=0.8, workers=0)


def read(data: Data, size: int) -> list[Batch]:
    return list(EvaluationBatches(data, batch_size=size))


def logits_of(network: DynamicNetwork, given: Iterable) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield images, labels and logits (P, B, K) of each batch, one plain pass after the other."""
    for batch in given:
        images, labels = (batch.images, batch.labels) if isinstance(batch, Batch) else batch
        found = []
        for permutation in network.permutations:
            with network.configure(dict(zip(network.sites, permutation, strict=True))):
                found.append(network(images.clone()))
        yield images, labels, torch.stack(found)


@torch.no_grad()
def assert_equals_plain_passes(outcomes: Outcomes, network: DynamicNetwork, given: Iterable) -> None:
    network.eval()
    rows = 0
    for images, labels, logits in logits_of(network, given):
        here = slice(rows, rows + len(labels))
        rows = here.stop
        softmax = logits.double().softmax(-1)
        truth = labels.long()[None, :, None].expand(len(logits), -1, -1)
        assert outcomes.labels[here].tolist() == labels.tolist()
        assert np.array_equal(outcomes.predictions[here].T, logits.argmax(-1).numpy())
        for found, expected in (
            (outcomes.log_confidences, softmax.gather(-1, truth)[..., 0]),
            (outcomes.log_tops, softmax.amax(-1)),
        ):
            assert_close(torch.from_numpy(np.exp(found[here].T.astype(np.float64))), expected, rtol=0, atol=1e-6)
        assert np.array_equal(outcomes.mean_predictions[here], softmax.mean(0).argmax(-1).numpy())
        with network.configure({}):
            assert np.array_equal(outcomes.static_predictions[here], network(images).argmax(-1).numpy())
            for name, view in outcomes.views.items():
                seen = [network(image).argmax(-1) for image in VIEWS[name](images, len(logits))]
                assert np.array_equal(view[here].T, torch.stack(seen).numpy())
    assert rows == len(outcomes.names)
    assert outcomes.permutations == network.permutations
    # Otherwise nothing has been shown.
    assert (outcomes.predictions != outcomes.predictions[:, :1]).any()
    assert (outcomes.mean_predictions != outcomes.static_predictions).any()


def assert_same(one: Outcomes, other: Outcomes) -> None:
    """Compare everything, bit for bit."""
    for field in fields(Outcomes):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "views":
            assert list(a) == list(b)
            for name in a:
                assert np.array_equal(a[name], b[name]), name
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            assert a.tobytes() == b.tobytes(), field.name
        else:
            assert a == b, field.name


@contextmanager
def watched(network: DynamicNetwork) -> Iterator[list[Tensor]]:
    """Give the images that reach the network's first layer, as they come."""
    seen: list[Tensor] = []
    hook = network.model.stem.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    try:
        yield seen
    finally:
        hook.remove()


def numbers(seen: list[Tensor]) -> set[int]:
    return {int(image[0, 0, 0]) for images in seen for image in images}


class Stopped(Exception):
    """What a test stops an evaluation with."""


def stop_after(count: int):
    def on_progress(done: int, _: int | None) -> None:
        if done >= count:
            raise Stopped

    return on_progress
