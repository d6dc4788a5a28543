"""How many passes a batch has to be split into, for a training step to fit into the memory of a GPU."""

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import replace

import torch
from accelerate import Accelerator
from accelerate.utils.memory import should_reduce_batch_size

from plainvision.processes import threads
from plainvision.training.learner import Learner, accelerator_for, trial_batches
from plainvision.training.recipe import Recipe
from plainvision.training.task import TrainingSplit

# What a step may take: later ones meet memory in smaller pieces, and validation comes on top.
_SHARE = 0.9


def fitting_passes(recipe: Recipe) -> Recipe:
    """Return ``recipe`` with the least `machine.accumulate` with which a training step fits, found by trying.

    The batch stays, and with it the result, but for the statistics of batch norms. Numbers from the recipe's own on are
    tried, each at least twice the one before: two steps on noise, with the recipe's optimizer and techniques, in the
    form of the first and of the last epoch.

    Raises:
        ValueError: there is no GPU, there are several processes, not even the smallest pass fits, or recipe and data do
            not fit together.
        FileNotFoundError: images or weights are not there.
    """
    accelerator = accelerator_for(recipe)
    if not _has_own_memory(accelerator.device):
        raise ValueError(
            "batch_size=auto fits a step into the memory of a GPU, and there is none here. A processor shares its "
            "memory with everything else: the system swaps or ends programs instead of saying that there is no more. "
            "Leave it out, or give a number; machine.accumulate splits it into passes."
        )
    if accelerator.num_processes > 1:
        raise ValueError(
            "batch_size=auto tries steps in one process, and the others would wait for it without end. Find "
            "machine.accumulate on one GPU with the batch_size that each process gets, and give that number."
        )
    batches = trial_batches(recipe)
    tried = 0
    with _kept_free(accelerator.device), threads(recipe.machine.threads):
        for passes in _ladder(recipe):
            tried = recipe.batch_size // passes
            split = replace(recipe, machine=replace(recipe.machine, accumulate=passes))
            # A network that is frozen at first needs more later; one that is merged later needs more at first.
            if all(_fits(split, accelerator, batches, epoch) for epoch in sorted({0, recipe.epochs - 1})):
                return split
    size = recipe.data.image_size
    raise ValueError(
        f"not even {tried} images of {size}x{size} in a pass of {recipe.model} fit into the memory of "
        f"{accelerator.device}. Give a smaller network or data.image_size, machine.precision=bf16, or free the memory "
        "that other programs hold."
    )


def _ladder(recipe: Recipe) -> list[int]:
    """Return numbers of passes that divide the batch, each at least twice the one before, and the largest.

    The largest leaves two images to a pass: a single one gives a batch norm nothing to normalise by.
    """
    first, images = recipe.machine.accumulate, recipe.batch_size
    ladder = [first]
    divisors = [passes for passes in range(first + 1, images // 2 + 1) if images % passes == 0]
    for passes in divisors:
        if passes >= 2 * ladder[-1] or passes == divisors[-1]:
            ladder.append(passes)
    return ladder


def _fits(recipe: Recipe, accelerator: Accelerator, batches: TrainingSplit, epoch: int) -> bool:
    try:
        learner = Learner(recipe, accelerator, batches, epoch=epoch)
        batch = recipe.task.noise(recipe, batches)
        for _ in range(2):  # the first one makes the optimizer's state, which the second one finds there
            loss, _ = learner.step(batch)
            loss.item()  # a GPU is told now, and fails later
        return True
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        return False
    finally:
        learner = None  # type: ignore[assignment]
        accelerator.free_memory()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _has_own_memory(device: torch.device) -> bool:
    return device.type != "cpu"


@contextlib.contextmanager
def _kept_free(device: torch.device) -> Iterator[None]:
    """Let torch take a part of the GPU's memory meanwhile."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_per_process_memory_fraction(_SHARE, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
