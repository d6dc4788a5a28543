"""A learning-rate range test: one short run in which the rate rises, and which leaves nothing behind.

Paper    Smith 2015, https://arxiv.org/abs/1506.01186, section 3.3: train a few epochs with a rising rate, and look
         where the network begins to learn and where it no longer does
Differs  the rate rises by a constant factor and not by a constant amount, and the test ends once the loss diverges: as
         `lr_find` of fastai and Lightning do it. These smooth by an average of what was before, which shifts the curve
         to higher rates; here each step is averaged with those before and behind it
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count, islice

import numpy as np
from torch.optim import Optimizer

from plainvision.processes import stop_requested, threads
from plainvision.training.learner import Learner, accelerator_for, trial_batches
from plainvision.training.recipe import Recipe

# The test has seen enough when the mean of so many steps is so many times the lowest such mean.
_STEPS, _DIVERGED = 5, 3.0
# The standard deviation of the smoothing, as a share of all steps.
_WIDTH = 0.04
# The suggestion is so far below the rate of the lowest loss, where a step is already as long as it can be.
_BELOW = 10.0


@dataclass(frozen=True)
class RangeTest:
    """What a range test saw, step by step, and what follows from it."""

    rates: tuple[float, ...]
    """The learning rate of each step."""
    losses: tuple[float, ...]
    """Its training loss."""
    smoothed: tuple[float, ...]
    """The losses, averaged over neighbouring steps."""
    steepest: float
    """The rate at which the smoothed loss falls fastest."""
    lowest: float
    """The rate at which it is lowest."""
    diverged: float | None
    """The rate at which the loss diverged; None where it did at none."""
    suggested: float | None
    """A peak rate for the recipe; None where the loss did not fall."""

    @property
    def reason(self) -> str:
        """What the test says, in words."""
        end = f"diverges at {self.diverged:.2g}" if self.diverged else f"has not diverged at {self.rates[-1]:.2g}"
        if self.suggested is None:
            return (
                f"no rate is suggested: in {len(self.rates)} steps the loss did not fall by more than its noise, and "
                f"{end}. Give more steps, a larger batch_size or less augmentation, or look at the images."
            )
        return (
            f"the loss falls fastest at {self.steepest:.2g}, is lowest at {self.lowest:.2g} and {end}. Where it is "
            "lowest it is about to rise, and a whole run needs a rate below: a tenth of it, or that of the fastest "
            "fall if it is lower."
        )


def range_test(recipe: Recipe, *, low: float = 1e-5, high: float = 10.0, steps: int = 100) -> RangeTest:
    """Train a network by ``recipe`` for at most ``steps`` steps with rates from ``low`` to ``high``, and throw it away.

    Everything else is the recipe's: images, augmentation, optimizer, techniques, in the form of the first epoch. Its
    own rate and schedule play no part. The same recipe gives the same test.

    Raises:
        ValueError: recipe and data do not fit together, the rates or the number of steps cannot be, or there is more
            than one process.
        FileNotFoundError: images or weights are not there.
        KeyboardInterrupt: Ctrl-C or SIGTERM came.
    """
    if not 0 < low < high < math.inf or steps < 20:
        raise ValueError(
            f"rates from {low} to {high} in {steps} steps: give two finite rates above zero, the smaller one first, "
            "and 20 steps or more."
        )
    for technique in recipe.techniques:
        technique.check(recipe)
    accelerator = accelerator_for(recipe)
    if accelerator.num_processes > 1:
        raise ValueError("a range test runs in one process, with the whole batch. Start it without a launcher.")
    batches = trial_batches(recipe)
    losses: list[float] = []
    diverged, lowest = False, math.inf
    with threads(recipe.machine.threads), stop_requested() as stop:
        learner = Learner(recipe, accelerator, batches)
        rising = _Rising(learner.optimization.optimizer.optimizer, low, high, steps)
        learner.optimization.scheduler = rising
        for batch in islice(chain.from_iterable(map(batches.epoch, count())), steps):
            if stop.is_set():
                raise KeyboardInterrupt("the range test was stopped; it leaves nothing behind.")
            losses.append(learner.step(batch)[0].item())
            mean = sum(losses[-_STEPS:]) / len(losses[-_STEPS:])
            if diverged := not mean <= _DIVERGED * lowest:
                break
            lowest = min(lowest, mean) if len(losses) >= _STEPS else lowest
    return judged([rising.rate(step) for step in range(len(losses))], losses, diverged)


def judged(rates: Sequence[float], losses: Sequence[float], diverged: bool) -> RangeTest:
    """Return what follows from the losses of steps with such rates; ``diverged``: the test ended with the last one."""
    seen = np.array([loss for loss in losses if math.isfinite(loss)])
    places = np.arange(len(seen))
    width = max(1.0, _WIDTH * len(rates))
    weights = np.exp(-0.5 * ((places[:, None] - places) / width) ** 2)
    smoothed = weights @ seen / weights.sum(1)
    lowest = int(smoothed.argmin())
    fall = np.gradient(smoothed)[: lowest + 1]
    steepest = int(fall.argmin())
    # How far single losses lie from the average is their noise; that of the average is smaller.
    before = (seen - smoothed)[: lowest + 1]
    noise = before.std() / math.sqrt(2 * width)
    falls = smoothed[: lowest + 1].max() - smoothed[lowest] > max(6 * noise, 0.01 * smoothed[0])
    return RangeTest(
        rates=tuple(rates[: len(seen)]),
        losses=tuple(seen.tolist()),
        smoothed=tuple(smoothed.tolist()),
        steepest=rates[steepest],
        lowest=rates[lowest],
        diverged=rates[-1] if diverged else None,
        suggested=min(rates[steepest], rates[lowest] / _BELOW) if falls else None,
    )


class _Rising:
    """A schedule that raises the rate by a constant factor each step, from ``low`` to ``high``."""

    def __init__(self, optimizer: Optimizer, low: float, high: float, steps: int) -> None:
        self._optimizer, self._low, self._factor = optimizer, low, (high / low) ** (1 / (steps - 1))

    def rate(self, step: int) -> float:
        return self._low * self._factor**step

    def step_update(self, step: int) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate(step) * group.get("lr_scale", 1.0)  # timm's, with layer_decay
