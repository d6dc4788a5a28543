"""Calibration and temperature scaling, against scipy and by construction."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from plainvision.confidences import check_temperature, compare_with_accuracy, fit_temperature


def drawn(temperature: float, seed: int = 0, images: int = 4000, classes: int = 7):
    """Return logits and labels such that softmax(logits / temperature) is right as often as it says."""
    rng = np.random.default_rng(seed)
    true = rng.normal(scale=2, size=(images, classes))
    labels = np.array([rng.choice(classes, p=row) for row in softmax(true, axis=1)])
    return temperature * true, labels


def error(logits, labels):
    shares = softmax(logits, axis=1)
    return compare_with_accuracy(shares.max(1).tolist(), (shares.argmax(1) == labels).tolist()).error


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 9.0])
def test_the_temperature_is_the_one_that_scipy_finds(temperature):
    logits, labels = drawn(temperature)

    def loss(inverse):
        return -log_softmax(logits * inverse[0], axis=1)[np.arange(len(labels)), labels].mean()

    theirs = 1 / minimize(loss, [1.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}).x[0]
    found = fit_temperature(logits.astype(np.float32), labels)
    assert found == pytest.approx(theirs, rel=1e-4)
    assert found == pytest.approx(temperature, rel=0.05)


def test_it_takes_overconfidence_away():
    logits, labels = drawn(4.0)
    fitted = fit_temperature(logits[:2000], labels[:2000])
    before, after = error(logits[2000:], labels[2000:]), error(logits[2000:] / fitted, labels[2000:])
    assert before > 15
    assert after < 3
    assert (logits.argmax(1) == (logits / fitted).argmax(1)).all()


def test_large_logits_do_not_overflow():
    logits, labels = drawn(2.0)
    assert fit_temperature(logits + 1e4, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-6)


def test_where_no_temperature_is_the_best_there_is_none():
    logits, labels = drawn(1.0)
    with pytest.raises(ValueError, match=r"4000 of 4000 images are named rightly, .* Give more images"):
        fit_temperature(logits, logits.argmax(1))
    with pytest.raises(ValueError, match=r"no temperature from 0\.02 to 50 fits best: 0 of 4000"):
        fit_temperature(logits, logits.argmin(1))
    with pytest.raises(ValueError, match="a temperature needs images whose logits are finite"):
        fit_temperature(np.where(logits > 3, np.nan, logits), labels)
    with pytest.raises(ValueError, match="a temperature needs images"):
        fit_temperature(logits[:0], labels[:0])


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 0, 1e9, "hot", True, [1.0, "x"]])
def test_what_cannot_be_a_temperature_is_refused(value):
    with pytest.raises(
        ValueError, match=r"header\.temperature=.* is no temperature: that is a number from 0\.02 to 50"
    ):
        check_temperature(value, "header.temperature")


def test_a_confidence_that_is_no_number_leaves_no_calibration():
    found = compare_with_accuracy([0.5, math.nan], [True, False])
    assert math.isnan(found.error)
    assert found.bins == ()
