"""Intervals of shares and of paired differences of shares."""

import math
import statistics


def share_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a share (1927, Journal of the American Statistical Association 22: 209-212).

    It is (0, 1) where there are no trials.
    """
    if not trials:
        return 0.0, 1.0
    z, share = statistics.NormalDist().inv_cdf((1 + level) / 2), successes / trials
    middle, spread = share + z * z / (2 * trials), z * math.sqrt(share * (1 - share) / trials + (z / trials / 2) ** 2)
    low, high = ((middle + sign * spread) / (1 + z * z / trials) for sign in (-1, 1))
    return (max(0.0, low) if successes else 0.0), (min(1.0, high) if successes < trials else 1.0)


def percent_interval(percent: float, trials: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval, per cent, of a share that is known in per cent of whole ``trials``."""
    low, high = share_interval(round(percent * trials / 100), trials)
    return 100 * low, 100 * high


def paired_bound(lost: float, gained: float, images: float, level: float = 0.95) -> float:
    """Return the one-sided upper bound of the lost share, ``(lost - gained) / images`` being its estimate.

    Of the same images, ``lost`` are right by the first way alone and ``gained`` by the second alone. It is the score
    bound for paired proportions (Tango 1998, Statistics in Medicine 17: 891-908), which holds its level where nothing
    was lost, too.
    """
    limit = statistics.NormalDist().inv_cdf(level)
    low, high = (lost - gained) / images, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _score(lost, gained, images, middle) > -limit else (low, middle)
    return high


def _score(lost: float, gained: float, images: float, loss: float) -> float:
    """Return the score statistic of the hypothesis that the lost share is ``loss``."""
    a = 2 * images
    b = (2 * images - lost + gained) * loss - lost - gained
    c = -gained * loss * (1 - loss)
    share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)  # the likeliest share of gained images
    variance = images * (2 * share + loss * (1 - loss))
    difference = lost - gained - images * loss
    return difference / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, difference)
