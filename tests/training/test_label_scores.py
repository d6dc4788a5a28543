"""Scores of sets of labels are scikit-learn's, with ties and with labels that no image has."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from plainvision.training.label_scores import LabelPredictions, Ranking, compare_labels


def predictions(seed: int, *, images: int = 60, labels: int = 7, ties: int = 0, lost: int = 0) -> LabelPredictions:
    """Return random marks and confidences, in ``ties`` steps if given; the first ``lost`` labels are on no image."""
    random = np.random.default_rng(seed)
    truth = random.random((images, labels)) < random.uniform(0.05, 0.8, labels)
    truth[:, :lost], truth[0, lost:] = False, True
    confidences = 0.6 * random.random((images, labels)) + 0.3 * truth
    if ties:
        confidences = np.round(confidences * ties) / ties
    return LabelPredictions(truth, confidences.astype(np.float32), 0.5)


@pytest.mark.parametrize("lost", [0, 2])
@pytest.mark.parametrize("ties", [0, 5, 1])
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_scikit_learns(seed, ties, lost):
    found = predictions(seed, ties=ties, lost=lost)
    own = found.average_precision
    assert np.isnan(own[:lost]).all()
    theirs = 100 * average_precision_score(found.truth[:, lost:], found.confidences[:, lost:], average=None)
    assert_allclose(own[lost:], theirs, rtol=1e-12)
    assert_allclose(found.map, theirs.mean(), rtol=1e-12)


@pytest.mark.parametrize("lost", [0, 2])
@pytest.mark.parametrize("seed", range(4))
def test_f1_recall_and_precision_are_scikit_learns(seed, lost):
    found = predictions(seed, ties=5, lost=lost)
    known = list(range(lost, 7))
    macro, micro = found.f1
    assert_allclose(macro, 100 * f1_score(found.truth, found.given, labels=known, average="macro"))
    assert_allclose(micro, 100 * f1_score(found.truth, found.given, average="micro", zero_division=0))
    scores = found.class_scores([str(place) for place in range(7)])
    assert [one.name for one in scores] == [str(place) for place in known]
    for name, theirs in (("recall", recall_score), ("precision", precision_score), ("f1", f1_score)):
        wanted = 100 * theirs(found.truth, found.given, labels=known, average=None, zero_division=0)
        assert_allclose([getattr(one, name) or 0.0 for one in scores], wanted)


def test_images_that_are_drawn_twice_count_twice():
    found, random = predictions(1, ties=4), np.random.default_rng(0)
    counts = random.multinomial(60, np.full(60, 1 / 60))
    index = np.repeat(np.arange(60), counts)
    wanted = average_precision_score(found.truth[index], found.confidences[index], average=None)
    assert_allclose(Ranking(found.truth, found.confidences).average_precision(counts.astype(float)), wanted)


def test_intervals_hold_the_figures_and_are_wider_for_fewer_images():
    widths = []
    for images in (40, 400):
        told = predictions(3, images=images, lost=1).figures()
        assert told.precision[0] is None
        for one in (told.map, told.macro_f1, told.micro_f1, *told.precision[1:]):
            assert one.low <= one.value <= one.high
        widths.append(told.map.high - told.map.low)
    assert widths[0] > 1.5 * widths[1]
    assert predictions(3).figures() == predictions(3).figures()


def test_a_confidence_that_is_no_number_makes_the_score_none():
    found = predictions(0)
    found.confidences[3, 2] = np.nan
    assert np.isnan(LabelPredictions(found.truth, found.confidences, 0.5).map)


def test_two_networks_are_compared_on_the_same_images():
    good = predictions(0, images=200)
    bad = LabelPredictions(good.truth, np.random.default_rng(1).random(good.truth.shape), 0.5)
    assert compare_labels(bad, good).startswith("the second is better by ")
    assert compare_labels(good, bad).startswith("the second is worse by ")
    assert compare_labels(good, good).startswith("the two cannot be told apart: the mAP of the second differs by +0.0")
