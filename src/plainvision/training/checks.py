"""Checks before the first step: recipe, data, network and machine fit together."""

import copy

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm

from plainvision.training.recipe import Recipe


def check_data(recipe: Recipe, classes: tuple[str, ...], processes: int) -> None:
    """Raise a `ValueError` where the data have another number of classes, or an odd number of images to mix."""
    if recipe.num_classes not in (None, len(classes)):
        raise ValueError(
            f"num_classes={recipe.num_classes}, but the data has {len(classes)} classes ({', '.join(classes[:5])}, "
            "...). Drop num_classes, or give the right data.root."
        )
    share = recipe.batch_size // processes
    if (recipe.augment.mixup or recipe.augment.cutmix) and share % 2:
        raise ValueError(
            f"batch_size={recipe.batch_size} gives each of {processes} processes {share} images, and Mixup mixes "
            "pairs. Give an even number for each process, or set augment.mixup and augment.cutmix to 0."
        )


def check_network(model: nn.Module, recipe: Recipe, classes: int, images: int) -> None:
    """Pass one image through the network, before the run's folder exists.

    Raises:
        ValueError: the network cannot take such images, returns no (B, ``classes``) logits, or cannot train with
            ``images`` in a pass.
    """
    data = recipe.data
    image = torch.zeros(1, data.channels, data.image_size, data.image_size, device=next(model.parameters()).device)
    try:
        with torch.no_grad():
            logits = model.eval()(image)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"{recipe.model} cannot take images of {data.channels}x{data.image_size}x{data.image_size}: {error}. Give "
            "another data.image_size, or leave the network's option in_chans to data.channels."
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != (1, classes):
        shape = tuple(logits.shape[1:]) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ValueError(
            f"{recipe.model} returns {shape} for an image, and the data has {classes} classes. Drop the model options "
            "that change its classifier."
        )
    if images == 1 and has_batch_norm(model):
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                copy.deepcopy(model).train()(image)
        except ValueError as error:  # torch's words name neither layer nor setting
            raise ValueError(
                f"batch_size={recipe.batch_size} with machine.accumulate={recipe.machine.accumulate} passes one image "
                f"at a time, and {recipe.model} has batch norms that see one value of it per channel: nothing to "
                "normalise by. Raise batch_size, or lower machine.accumulate."
            ) from error


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether the output for an image depends on the others of the batch, in training."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def all_finite(model: nn.Module) -> Tensor:
    """Return 1 if no weight is infinite or NaN and no buffer NaN in this process's share of ``model``, else 0."""
    shares = (one.to_local() if isinstance(one, DTensor) else one for one in model.parameters())
    fine = [share.isfinite().all() for share in shares]
    # A mask may hold infinities.
    fine += [~buffer.isnan().any() for buffer in model.buffers() if buffer.is_floating_point()]
    return torch.stack(fine).all().float()
