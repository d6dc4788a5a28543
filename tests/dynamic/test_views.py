"""Other views of an image, read off images whose pixels say where they are."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from plainvision.dynamic.views import VIEWS, crops, zooms

SIDE, WIDE = 32, 48
LEAST, MOST = 0.08, 4 / 3


def places() -> Tensor:
    """Return one image whose channels are x, y and 1; x and y go from -1 to 1 between its outer borders."""
    x, y = ((2 * torch.arange(size, dtype=torch.float64) + 1) / size - 1 for size in (WIDE, SIDE))
    return torch.stack([x.expand(SIDE, WIDE), y[:, None].expand(SIDE, WIDE), torch.ones(SIDE, WIDE)])[None]


def window(view: Tensor) -> tuple[float, float, float, float]:
    """Return width, height and centre of what a view shows, from its pixels a little inside."""
    x, y = places()[0, 0, SIDE // 2], places()[0, 1, :, WIDE // 2]
    rows, columns = slice(SIDE // 2 - 4, SIDE // 2 + 4), slice(WIDE // 2 - 4, WIDE // 2 + 4)
    found = []
    for channel, own in ((view[0, 0, SIDE // 2, columns], x[columns]), (view[0, 1, rows, WIDE // 2], y[rows])):
        scale = (channel[-1] - channel[0]) / (own[-1] - own[0])
        assert_close(channel, channel.mean() + scale * (own - own.mean()))  # evenly spaced, and not mirrored
        found.append((float(scale), float(channel.mean() - scale * own.mean())))
    (width, left), (height, top) = found
    return width, height, left, top


@pytest.mark.parametrize("name", VIEWS)
def test_the_first_view_is_the_image_itself(name):
    for dtype in (torch.float32, torch.float64):
        images = torch.randn(2, 3, 7, 9, dtype=dtype)
        before = images.clone()
        views = list(VIEWS[name](images, 4))
        assert torch.equal(views[0], before)
        assert torch.equal(images, before)
        for view in views:
            assert (view.shape, view.dtype) == (images.shape, dtype)
        for view in views[1:]:
            assert not torch.allclose(view, before)
    assert list(VIEWS[name](images, 0)) == []


@pytest.mark.parametrize("name", VIEWS)
def test_the_first_views_are_those_of_a_longer_list_and_all_differ(name):
    images = torch.randn(1, 3, 12, 12)
    many = list(VIEWS[name](images, 40))
    assert len(many) == 40
    for count in (1, 3, 17):
        for one, other in zip(VIEWS[name](images, count), many[:count], strict=True):
            assert torch.equal(one, other)
    assert len({tuple(view.flatten().tolist()) for view in many}) == 40


@pytest.mark.parametrize("name", VIEWS)
def test_every_image_of_every_batch_is_seen_in_the_same_way(name):
    images = torch.randn(3, 3, 12, 12)
    together = VIEWS[name](images, 10)
    alone = VIEWS[name](images[2:], 10)
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one[2:], other)


def test_views_are_made_one_at_a_time():
    for make in VIEWS.values():
        views = make(torch.randn(1, 3, 4, 4), 10**9)
        assert isinstance(views, Iterator)
        next(views)
        next(views)


# Zooms


def test_zooms_keep_the_centre_and_show_from_twice_the_side_to_a_quarter_of_it():
    sides = []
    for view in zooms(places(), 128):
        width, height, left, top = window(view)
        assert_close((width, left, top), (height, 0.0, 0.0), rtol=0, atol=1e-9)
        sides.append(width)
    assert sides[0] == pytest.approx(1)
    assert 1.9 < max(sides) <= 2
    assert 0.25 <= min(sides) < 0.26


def test_the_first_few_zooms_are_spread_over_the_whole_range():
    shares = [torch.tensor(window(view)[0]).log2().item() for view in list(zooms(places(), 64))[1:]]
    assert sorted(shares[:3]) == pytest.approx([-1.25, -0.5, 0.25])  # a quarter, half, three quarters of -2 to 1
    for count in (7, 15, 31, 63):
        gaps = sorted([1, *shares[:count], -2])
        assert max(b - a for a, b in itertools.pairwise(gaps)) == pytest.approx(3 / (count + 1), rel=1e-4)


def test_a_zoom_at_twice_the_side_shows_zeros_around_the_image():
    images = 1 + torch.rand(1, 3, 16, 24)
    *_, view = zooms(images, 1025)  # number 1024 is the widest so far
    inside = view[:, :, 4:12, 6:18]
    assert (view != 0).sum() == (inside != 0).sum() == 3 * 8 * 12
    assert not view[:, :, :4].any()
    assert not view[:, :, :, 18:].any()
    # Each of its pixels lies between four of the image.
    halved = images.unflatten(2, (8, 2)).unflatten(4, (12, 2)).mean((3, 5))
    assert_close(inside, halved, rtol=0, atol=0.01)


def test_a_narrow_zoom_enlarges_the_centre():
    images = torch.zeros(1, 1, 16, 16)
    images[:, :, 6:10, 6:10] = 1
    *_, view = zooms(images, 1024)  # number 1023 is the narrowest so far: a quarter of the side
    assert_close(view[:, :, 2:14, 2:14], torch.ones(1, 1, 12, 12), rtol=0, atol=1e-4)


# Crops


def test_crops_lie_within_the_image_and_are_as_large_and_uneven_as_random_resized_crops():
    found = [window(view) for view in crops(places(), 400)]
    assert found[0] == pytest.approx((1, 1, 0, 0))
    for width, height, x, y in found:
        assert 0 < width <= 1 + 1e-9
        assert 0 < height <= 1 + 1e-9
        assert abs(x) + width <= 1 + 1e-9
        assert abs(y) + height <= 1 + 1e-9
        assert LEAST * 0.999 <= width * height <= 1 + 1e-9
        assert 1 / MOST - 1e-9 <= width / height <= MOST + 1e-9
    areas = [width * height for width, height, _, _ in found[1:]]
    assert min(areas) < 0.1
    assert max(areas) > 0.9
    assert 0.45 < sum(areas) / len(areas) < 0.6  # even over 0.08 to 1
    for axis in (2, 3):
        centres = [abs(crop[axis]) for crop in found]
        assert max(centres) > 0.6  # up to the borders, on both sides
        assert -0.05 < sum(crop[axis] for crop in found) / len(found) < 0.05


def test_crops_are_the_same_each_time_and_others_by_another_seed():
    images = torch.randn(1, 3, 12, 12)
    torch.manual_seed(1)
    first = torch.stack(list(crops(images, 20)))
    torch.manual_seed(2)
    assert torch.equal(torch.stack(list(crops(images, 20))), first)
    other = torch.stack(list(crops(images, 20, seed=1)))
    assert torch.equal(other[0], first[0])
    assert not torch.equal(other[1], first[1])


def test_a_crop_fills_the_whole_view():
    for view in crops(torch.ones(1, 1, 16, 16), 50):
        # Half a pixel at the border of a crop that touches the image's border is beyond its outermost centres.
        assert_close(view[:, :, 2:-2, 2:-2], torch.ones(1, 1, 12, 12))
