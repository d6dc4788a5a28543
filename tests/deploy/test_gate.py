import numpy as np
import pytest

from plainvision.deploy.gate import Gate, compare_classes
from plainvision.intervals import paired_bound


def test_few_lost_of_many_images_passes():
    gate = Gate(images=2000, lost=10, gained=8, right=1800, allowed=1.0)
    assert gate.verdict == "passes"
    assert gate.loss == pytest.approx(0.1)
    assert gate.bound < 1
    assert gate.accuracy == pytest.approx(89.9)
    assert gate.more_images == 0
    assert str(gate).startswith("passes: 89.90 % where the network has 90.00 %, 2000 images: 10 lost, 8 gained")


def test_many_lost_images_fail():
    gate = Gate(images=2000, lost=100, gained=10, right=1500, allowed=1.0)
    assert gate.verdict == "fails"
    assert gate.more_images == 0
    assert "fails: 70.50 %" in str(gate)


def test_too_few_images_cannot_tell_and_say_how_many_more():
    # 5 % of the answers differ, as many gained as lost: one point takes some 1,350 images.
    gate = Gate(images=372, lost=9, gained=9, right=324, allowed=1.0)
    assert gate.verdict == "cannot tell"
    assert 372 + gate.more_images == pytest.approx(1350, abs=30)
    assert "About 990 more images are needed for 1 points" in str(gate)
    more = Gate(images=3 * (372 + gate.more_images), lost=3 * 33, gained=3 * 33, right=3000, allowed=1.0)
    assert more.verdict == "passes"


def test_a_loss_that_looks_too_large_is_told_from_one_that_is():
    gate = Gate(images=372, lost=23, gained=13, right=324, allowed=0.5)
    assert gate.loss > gate.allowed
    assert gate.verdict == "cannot tell"
    assert gate.more_images > 0


@pytest.mark.parametrize(("images", "verdict"), [(100, "cannot tell"), (600, "passes")])
def test_no_difference_on_few_images_proves_little(images, verdict):
    assert Gate(images, lost=0, gained=0, right=images, allowed=0.5).verdict == verdict


def test_the_bound_of_no_loss_is_the_score_bound():
    assert paired_bound(0, 0, 372) == pytest.approx(2.7055 / (372 + 2.7055), rel=1e-4)


def test_the_bound_is_monotone():
    assert paired_bound(5, 5, 500) < paired_bound(6, 5, 500) < paired_bound(7, 5, 500)
    assert paired_bound(5, 6, 500) < paired_bound(5, 5, 500)
    assert paired_bound(50, 50, 5000) < paired_bound(5, 5, 500)


@pytest.mark.parametrize("lost", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("gained", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("images", [100, 400, 2000])
def test_the_bound_holds_in_95_of_100_draws(images, lost, gained):
    """The share of draws whose bound covers the true loss, by simulation: 95 % less what 4,000 draws and whole counts
    leave open."""
    draws = np.random.default_rng(0).multinomial(images, [lost, gained, 1 - lost - gained], size=4000)[:, :2]
    counts, which = np.unique(draws, axis=0, return_inverse=True)
    bounds = np.array([paired_bound(int(b), int(c), images) for b, c in counts])[which.ravel()]
    assert (bounds >= lost - gained).mean() > 0.93


def test_without_labels_each_changed_class_counts_as_lost():
    gate = compare_classes(np.arange(1000), np.r_[np.arange(998), 0, 0], None, allowed=1.0)
    assert (gate.lost, gate.gained, gate.accuracy) == (2, 0, None)
    assert gate.verdict == "passes"
    assert "accuracy was not measured; 2 of 1000 images without labels changed their class" in str(gate)


def test_counts_are_paired_by_image():
    labels = np.array([0, 1, 2, 3, 0])
    gate = compare_classes(np.array([0, 1, 0, 3, 1]), np.array([0, 0, 2, 3, 1]), labels)
    assert (gate.images, gate.lost, gate.gained, gate.right) == (5, 1, 1, 3)
    assert gate.verdict == "passes"  # nothing was asked for


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"images": 0, "lost": 0, "gained": 0}, r"no image to compare a form on"),
        ({"images": 5, "lost": 4, "gained": 2}, r"4 lost and 2 gained cannot be of 5 images"),
        ({"images": 5, "lost": 0, "gained": 0, "allowed": 0}, r"allow_loss=0 is no number of points above 0"),
    ],
)
def test_wrong_counts_are_said(wrong, said):
    with pytest.raises(ValueError, match=said):
        Gate(**({"right": None, "allowed": None} | wrong))


def test_predictions_of_other_images_are_refused():
    with pytest.raises(ValueError, match=r"3 and 4 predictions are not of the same images"):
        compare_classes(np.zeros(3), np.zeros(4), None)
