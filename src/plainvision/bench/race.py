"""Time several works in turns until it is clear which is the fastest."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Set

from plainvision.bench.measurement import median_interval

_LEAST_ROUNDS = 8


def race(
    works: Mapping[str, Callable[[], object]],
    *,
    may_win: Set[str],
    rounds: int = 40,
    seconds: float = 60,
    warmup: int = 2,
    drop: bool = True,
    bases: Set[str] = frozenset(),
) -> dict[str, list[float]]:
    """Return the milliseconds of each work, one per round that it took part in.

    Each round times every work once, in an order drawn anew, so that none always follows the same other one. A work
    leaves when an interval of its ratio to the leader shows that it is behind; one that may not win leaves after enough
    rounds for an interval. The fastest of the ``bases`` stays, so that a ratio to it has every round.

    Args:
        works: what to time, by name.
        may_win: the names of those that lead.
        rounds: the most rounds.
        seconds: stop after the round that uses up this much time; there are always enough rounds for an interval.
        warmup: untimed passes of each work before.
        drop: let works leave; else all take part in each round.
        bases: the names of those that others are compared with.

    Raises:
        ValueError: none may win.
    """
    if not may_win & works.keys():
        raise ValueError("none of the works may win the race. Give at least one that may.")
    for work in works.values():
        for _ in range(warmup):
            work()
    times: dict[str, list[float]] = {name: [] for name in works}
    running, order = list(works), random.Random(0)
    started = time.perf_counter()
    for done in range(1, rounds + 1):
        order.shuffle(running)
        for name in running:
            start = time.perf_counter()
            works[name]()
            times[name].append(1000 * (time.perf_counter() - start))
        if done < _LEAST_ROUNDS:
            continue
        leader = _fastest(times, may_win & set(running))
        staying = {leader} | ({_fastest(times, bases & set(running))} if bases else set())
        if drop:
            running = [
                name for name in running if name in staying or (name in may_win and not _behind(times, name, leader))
            ]
        alone = set(running) == staying and done >= 2 * _LEAST_ROUNDS
        if alone or time.perf_counter() - started > seconds:
            break
    return times


def ratios(times: Mapping[str, list[float]], name: str, base: str) -> list[float]:
    """Return how many times as fast as ``base`` a work was, in each round that both took part in."""
    return [a / b for a, b in zip(times[base], times[name], strict=False)]


def _fastest(times: Mapping[str, list[float]], names: Set[str]) -> str:
    return min(sorted(names), key=lambda name: statistics.median(times[name]))


def _behind(times: Mapping[str, list[float]], name: str, leader: str) -> bool:
    interval = median_interval([1 / ratio for ratio in ratios(times, name, leader)])
    return interval is not None and interval[0] > 1
