"""Whether runs show a difference that a paper publishes between two rows of a table."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["shown", "not shown", "refuted"]

RULE = (
    "Shown: the 95 % interval of the difference of the means (Welch's, over the seeds) lies wholly on the published "
    "side of zero. Refuted: it lies wholly on the other side. Not shown: it holds zero, or a row has fewer than two "
    "runs."
)


@dataclass(frozen=True)
class Difference:
    """How far the scores of a row lie above those of another one."""

    mean: float
    """Mean of the row less mean of the other."""
    low: float | None
    """Lower end of the 95 % interval; None where a row has fewer than two runs."""
    high: float | None
    """Upper end."""
    verdict: Verdict
    """What becomes of the published difference, by `RULE`."""


def judge(scores: Sequence[float], base: Sequence[float], published: float) -> Difference:
    """Return the difference of two rows' scores, one score per seed, and what it says of the ``published`` difference.

    The interval is Welch's, which lets each row have its own spread (1947, Biometrika 34: 28-35).

    Raises:
        ValueError: a row has no scores, or the published difference is zero and so has no side.
    """
    if not scores or not base:
        raise ValueError("a row without a finished run has no mean. Train it, or leave it out.")
    if published == 0:
        raise ValueError("a published difference of zero has no side on which to lie. Compare other rows.")
    mean = statistics.fmean(scores) - statistics.fmean(base)
    interval = _welch(scores, base, mean)
    if interval is None:
        return Difference(mean, None, None, "not shown")
    low, high = interval
    if low <= 0 <= high:
        return Difference(mean, low, high, "not shown")
    return Difference(mean, low, high, "shown" if (mean > 0) == (published > 0) else "refuted")


def _welch(scores: Sequence[float], base: Sequence[float], mean: float) -> tuple[float, float] | None:
    if min(len(scores), len(base)) < 2:
        return None
    parts = [statistics.variance(one) / len(one) for one in (scores, base)]
    if not any(parts):  # runs that all scored alike: no spread to be told from
        return mean, mean
    from scipy.stats import t  # a second, which importing a study does not have to wait for

    freedom = sum(parts) ** 2 / sum(part**2 / (len(one) - 1) for part, one in zip(parts, (scores, base), strict=True))
    reach = float(t.ppf(0.975, freedom)) * sum(parts) ** 0.5
    return mean - reach, mean + reach
