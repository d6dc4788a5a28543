"""What runs say of a published difference: shown, not shown, refuted."""

import pytest
from scipy.stats import ttest_ind

from plainvision.study.differences import judge

HIGH, LOW, WIDE = [60.1, 60.4, 59.9], [50.2, 50.0, 50.6], [45.0, 55.0, 65.0]


def test_a_difference_on_the_published_side_is_shown():
    assert judge(HIGH, LOW, published=15.7).verdict == "shown"
    assert judge(LOW, HIGH, published=-0.1).verdict == "shown"


def test_a_difference_on_the_other_side_is_refuted():
    assert judge(HIGH, LOW, published=-0.4).verdict == "refuted"
    assert judge(LOW, HIGH, published=0.4).verdict == "refuted"


@pytest.mark.parametrize("published", [1.0, -1.0])
def test_a_difference_within_the_spread_of_the_seeds_is_not_shown(published):
    found = judge(WIDE, LOW, published)
    assert found.verdict == "not shown"
    assert found.low < 0 < found.high
    assert found.mean == pytest.approx(55 - 50.2666667)


def test_the_interval_is_welchs():
    found = judge(WIDE, LOW, published=1.0)
    expected = ttest_ind(WIDE, LOW, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_rows_may_have_different_numbers_of_runs():
    found = judge(HIGH, LOW[:2], published=1.0)
    expected = ttest_ind(HIGH, LOW[:2], equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_run_shows_nothing_however_far_it_lies():
    found = judge([90.0], LOW, published=1.0)
    assert (found.verdict, found.low, found.high) == ("not shown", None, None)


def test_runs_that_scored_alike_are_told_apart_by_any_difference():
    assert judge([50.0, 50.0], [49.0, 49.0], published=1.0).verdict == "shown"
    assert judge([50.0, 50.0], [50.0, 50.0], published=1.0).verdict == "not shown"


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(ValueError, match="without a finished run"):
        judge([], LOW, published=1.0)
    with pytest.raises(ValueError, match="has no side"):
        judge(HIGH, LOW, published=0.0)
