"""Comparisons and percentiles, of times that were made up."""

from dataclasses import replace

import pytest

from plainvision.bench import Measurement, comparison, median_interval, ratios_per_round


def timed(name: str, *times_ms: float) -> Measurement:
    return Measurement(
        name=name, parameters=1, macs=1, batch_size=2, image_size=(8, 8), device="cpu", precision="no",
        channels_last=False, compiled=False, threads=1, times_ms=times_ms, peak_memory_mb=None,
    )  # fmt: skip


def test_percentiles_follow_the_times():
    found = timed("a", *map(float, range(1, 102)))
    assert (found.p50_ms, found.p90_ms, found.runs) == (51, 91, 101)
    assert found.to_dict()["images_per_second"] == pytest.approx(2000 / 51)
    assert "times_ms" not in found.to_dict()
    assert replace(found, times_ms=(3.0,)).p90_ms == 3


def test_ratios_compare_within_rounds():
    # The machine was ten times slower in the last round, for both.
    found = [timed("slow", 2.0, 4.0, 30.0), timed("fast", 1.0, 2.0, 10.0)]
    assert ratios_per_round(found) == [(1.0, 1.0, 1.0), (2.0, 2.0, 3.0)]
    row = comparison(found)[1]
    assert (row["name"], row["speed_ratio"], row["ratio_low"], row["ratio_high"]) == ("fast", 2.0, None, None)


def test_measurements_of_two_calls_are_not_compared():
    with pytest.raises(ValueError, match=r"\[1, 2\] rounds. Give measurements of one call"):
        comparison([timed("a", 1.0), timed("b", 1.0, 2.0)])
    with pytest.raises(ValueError, match="Give measurements of one call"):
        comparison([])


@pytest.mark.parametrize(
    ("count", "ranks"), [(1, None), (3, None), (5, None), (6, (1, 6)), (10, (2, 9)), (30, (10, 21))]
)
def test_the_interval_of_a_median_follows_the_sign_test(count, ranks):
    # Ranks of the textbooks' table, 95 %, two-sided.
    assert median_interval([float(value) for value in range(count, 0, -1)]) == ranks


def test_an_interval_needs_values():
    with pytest.raises(ValueError, match="no median of no values"):
        median_interval([])
