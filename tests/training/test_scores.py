"""Scores beyond top-1, against scipy, scikit-learn and closed forms."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import confusion_matrix as theirs
from sklearn.metrics import precision_recall_fscore_support

from plainvision.intervals import paired_bound, share_interval
from plainvision.training.evaluation import Prediction
from plainvision.training.scores import (
    PairedDifference,
    calibration,
    class_scores,
    compare_predictions,
    confusion_matrix,
    most_confused,
)

CLASSES = ("hat", "shoe", "dress", "never seen")


def predictions(seed=0, count=300, right=0.7):
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        label = CLASSES[rng.integers(3)]
        predicted = label if rng.random() < right else CLASSES[rng.integers(4)]
        found.append(Prediction(f"{number}.jpg", label, predicted, float(rng.random())))
    return found


def test_scores_per_class_are_those_of_scikit_learn():
    given = predictions()
    labels, named = [one.label for one in given], [one.predicted for one in given]
    precision, recall, f1, support = precision_recall_fscore_support(labels, named, labels=CLASSES[:3])
    found = class_scores(given, CLASSES)
    assert [one.name for one in found] == list(CLASSES[:3])
    assert [one.images for one in found] == list(support)
    assert [one.recall for one in found] == pytest.approx(100 * recall)
    assert [one.precision for one in found] == pytest.approx(100 * precision)
    assert [one.f1 for one in found] == pytest.approx(100 * f1)
    for one in found:
        for value, (low, high) in (
            (one.recall, one.recall_interval),
            (one.precision, one.precision_interval),
            (one.f1, one.f1_interval),
        ):
            assert 0 <= low < value < high <= 100


def test_a_class_that_nothing_was_named_has_no_precision():
    (found,) = class_scores([Prediction("a", "hat", "shoe", 0.9)] * 4, ("hat",))
    assert (found.recall, found.precision, found.f1) == (0, None, 0)
    assert found.precision_interval == (0, 100)


def test_the_interval_of_f1_covers_it_in_95_of_100_draws():
    covered = 0  # of two classes of equal size, each recognised with 60 %: F1 is 60 % too
    for seed in range(400):
        rng = np.random.default_rng(seed)
        labels = rng.integers(2, size=200)
        named = np.where(rng.random(200) < 0.6, labels, 1 - labels)
        given = [Prediction("", str(a), str(b), 1.0) for a, b in zip(labels, named, strict=True)]
        low, high = class_scores(given, ("0",))[0].f1_interval
        covered += low <= 60 <= high
    assert covered / 400 > 0.92


def test_the_confusion_matrix_and_its_worst_pairs():
    given = predictions()
    labels, named = [one.label for one in given], [one.predicted for one in given]
    matrix = confusion_matrix(given, CLASSES)
    np.testing.assert_array_equal(matrix, theirs(labels, named, labels=CLASSES))
    worst = most_confused(given, 3)
    off = matrix - np.diag(matrix.diagonal())
    assert [one.images for one in worst] == sorted(off.ravel().tolist(), reverse=True)[:3]
    assert all(off[CLASSES.index(one.label), CLASSES.index(one.predicted)] == one.images for one in worst)


def test_calibration_is_the_mean_distance_of_confidence_and_accuracy():
    sure = [Prediction("", "a", "a" if i < 8 else "b", 0.95) for i in range(10)]
    unsure = [Prediction("", "a", "a" if i < 5 else "b", 0.5) for i in range(10)]
    found = calibration(sure + unsure)
    assert found.error == pytest.approx((15 + 0) / 2)
    assert sorted(found.bins) == [
        (10, pytest.approx(50), pytest.approx(50)),
        (10, pytest.approx(95), pytest.approx(80)),
    ]
    with pytest.raises(ValueError, match=r"no prediction to compare confidences with"):
        calibration([])


def test_two_networks_on_the_same_images_are_compared_by_mcnemar():
    found = PairedDifference(1000, only_first=10, only_second=30)
    assert found.points == pytest.approx(2)
    assert found.p_value == pytest.approx(scipy.stats.binomtest(10, 40).pvalue)
    low, high = found.interval
    assert 0 < low < 2 < high < 4
    assert str(found).startswith(f"the second is better by 2.0 points, 95 % interval {low:.1f} to {high:.1f}, McNemar")
    assert "cannot be told apart" in str(PairedDifference(1000, 10, 12))
    assert PairedDifference(10, 0, 0).p_value == 1


def test_predictions_of_other_images_are_refused():
    with pytest.raises(ValueError, match=r"predictions for 300 and 299 images, which are not the same"):
        compare_predictions(predictions(), predictions()[:-1])
    found = compare_predictions(predictions(right=0.6), predictions(right=0.6))
    assert (found.only_first, found.only_second) == (0, 0)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (372, 400)])
def test_shares_have_wilsons_interval(successes, trials):
    z, share = scipy.stats.norm.ppf(0.975), successes / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    assert share_interval(successes, trials) == pytest.approx((max(0, middle - half), min(1, middle + half)), abs=1e-9)


def test_the_two_bounds_of_a_paired_difference_are_mirrored():
    assert paired_bound(30, 10, 1000, 0.975) == pytest.approx(0.0333, abs=2e-3)
    assert share_interval(0, 0) == (0, 1)
