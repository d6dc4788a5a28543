"""A deletion score is perfect for a map that names the patch that counts, worst for one that hides it."""

import pytest
import torch
from torch import nn

import plainvision as pv
from plainvision.explain import deletion

GRID = (4, 6)
SIDE = 8


class OnePatch(nn.Module):
    """Two classes; the logit of the first rests on how bright one patch is, and on nothing else."""

    def __init__(self, row: int = 1, column: int = 4) -> None:
        super().__init__()
        self.row, self.column, self.seen = row, column, 0

    def forward(self, images):
        self.seen += len(images)
        top, left = SIDE * self.row, SIDE * self.column
        bright = images[:, :, top : top + SIDE, left : left + SIDE].mean((1, 2, 3))
        return torch.stack([6 * bright, torch.zeros_like(bright)], dim=1)


@pytest.fixture
def image() -> torch.Tensor:
    image = torch.zeros(3, GRID[0] * SIDE, GRID[1] * SIDE)
    image[:, SIDE : 2 * SIDE, 4 * SIDE : 5 * SIDE] = 1
    return image


def maps(right: bool) -> torch.Tensor:
    one = torch.rand(GRID) / 10 + (0 if right else 0.5)
    one[1, 4] = 1.0 if right else 0.0
    return one[None]


def test_the_patch_that_counts_first_is_the_best_and_last_the_worst(image):
    steps = GRID[0] * GRID[1]
    (best,) = deletion(OnePatch(), image, maps(True), [0], steps=steps)
    (worst,) = deletion(OnePatch(), image, maps(False), [0], steps=steps)
    high, low = best.by_map[0], best.by_map[-1]
    assert high == pytest.approx(torch.sigmoid(torch.tensor(6.0)).item())
    assert low == pytest.approx(torch.sigmoid(6 * image.mean()).item())
    assert best.by_map[1:] == pytest.approx([low] * steps)
    assert worst.by_map[:-1] == pytest.approx([high] * steps)
    # Nothing can be below or above: the area with the fall in the first step, and in the last.
    assert best.score == pytest.approx(low + (high - low) / (2 * steps))
    assert worst.score == pytest.approx(high - (high - low) / (2 * steps))
    for found in (best, worst):
        assert best.score <= min(found.random_scores) <= max(found.random_scores) <= worst.score


def test_a_map_without_preferences_is_like_chance(image):
    scores = [deletion(OnePatch(), image, torch.ones(1, *GRID), [0], seed=seed, draws=20)[0] for seed in range(40)]
    mean = sum(one.score for one in scores) / len(scores)
    random, spread = scores[0].random_mean, scores[0].random_spread
    assert spread > 0.05
    assert abs(mean - random) < 3 * spread * (1 / 40 + 1 / 20) ** 0.5
    uniform, best = scores[0], deletion(OnePatch(), image, maps(True), [0])[0]
    assert best.score < random - spread
    assert min(uniform.random_scores) <= uniform.score <= max(uniform.random_scores)


def test_each_map_has_its_class_and_draws_are_shared_and_repeatable(image):
    both = torch.cat([maps(True), maps(False)])
    first, second = deletion(OnePatch(), image, both, [0, 1], draws=3, seed=5)
    assert [a + b for a, b in zip(first.at_random[0], second.at_random[0], strict=True)] == pytest.approx([1.0] * 9)
    assert len(first.at_random) == 3
    assert deletion(OnePatch(), image, both, [0, 1], draws=3, seed=5) == (first, second)
    assert deletion(OnePatch(), image, both, [0, 1], draws=3, seed=6)[0].at_random != first.at_random


def test_it_takes_the_passes_that_it_says_and_no_large_batch(image):
    model = OnePatch()
    most = []
    model.register_forward_pre_hook(lambda _, given: most.append(len(given[0])))
    deletion(model, image, torch.rand(3, *GRID), [0, 1, 0], steps=7, draws=11)
    assert model.seen == 1 + 7 * (3 + 11)
    assert max(most) <= 32
    model.seen = 0
    (found,) = deletion(model, image, torch.rand(1, 2, 2), [0], steps=1000)  # no more steps than patches
    assert found.shares == (0.0, 0.25, 0.5, 0.75, 1.0)


def test_confidences_are_those_of_the_temperature(image):
    (found,) = deletion(OnePatch(), image, maps(True), [0], draws=1, temperature=3.0)
    assert found.by_map[0] == pytest.approx(torch.sigmoid(torch.tensor(2.0)).item())


def test_a_patch_is_covered_with_what_is_said(image):
    image = image + torch.linspace(0, 1, image.shape[2])
    (by_mean,) = deletion(OnePatch(), image, maps(True), [0], draws=1)
    assert by_mean.by_map[-1] == pytest.approx(torch.sigmoid(6 * image.mean()).item(), rel=1e-5)
    (by_blur,) = deletion(OnePatch(), image, maps(True), [0], draws=1, cover="blur")
    assert by_mean.by_map[-1] < by_blur.by_map[-1] < by_blur.by_map[0]
    assert (by_blur.cover, by_blur.random_spread) == ("blur", 0.0)
    deletion(OnePatch(0, 0), image[:, :8, :8], torch.ones(1, 1, 1), [0], cover="blur")  # the blur is no wider


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": torch.ones(2, 4, 6)}, r"maps are \(2, 4, 6\) for 1 classes"),
        ({"classes": [2]}, "there is no class 2"),
        ({"steps": 0}, "steps=0 and draws=5: give numbers from 1 to 1000"),
        ({"draws": 0}, "steps=8 and draws=0"),
        ({"cover": "noise"}, "no cover 'noise': give 'mean' or 'blur'"),
    ],
)
def test_what_cannot_be_covered_is_said(image, change, message):
    with pytest.raises(ValueError, match=message):
        deletion(**{"model": OnePatch(), "image": image, "maps": torch.ones(1, 4, 6), "classes": [0], **change})


def test_the_network_keeps_its_mode(image):
    model = pv.create_model("patchconvnet_s20", embed_dim=16, depth=1, num_classes=5).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    deletion(model, image, torch.rand(1, 2, 3), [4], draws=1)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
