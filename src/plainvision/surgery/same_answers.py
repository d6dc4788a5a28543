"""Compare the outputs of two forms of a network on images of several sizes, scales and shifts."""

import copy
import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from plainvision.inspection.counting import count_parameters
from plainvision.inspection.eval_mode import eval_mode
from plainvision.inspection.tracing import takes
from plainvision.layers.fusable import BatchNorm

# Largest difference that rounding explains, relative to the largest logit. Measured in float32: below 1e-5.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.bfloat16: 1e-1, torch.float16: 2e-2}
# The same between copies in float64, parts of which may compute in float32 all the same.
_EXACT = {torch.float64: 1e-6, torch.float32: 1e-4}

# What else than random images as they come both forms are given: (scale, shift).
_VARIANTS = ((0.1, 0.0), (10.0, 0.0), (1.0, 3.0), (1.0, -3.0))


@dataclasses.dataclass(frozen=True)
class FusionReport:
    """What fusing changed, and how far the outputs moved on random images."""

    layers_before: int
    """Layers with weights in the training form: convolutions, linear layers, norms."""
    layers_after: int
    parameters_before: int
    parameters_after: int
    images: int
    """Random images that both forms answered."""
    largest_absolute_error: float
    """Largest difference of a logit."""
    largest_relative_error: float
    """The same over the largest logit."""
    argmax_agreement: float
    """Share of the images for which both forms choose the same class."""
    exact_relative_error: float
    """The same between copies in ``exact_dtype``, also of each folded layer's output."""
    exact_dtype: str
    rounding: float
    """The same between the training form and its own copy in ``exact_dtype``: rounding alone."""
    informative: bool
    """Whether the outputs differ between images; otherwise they prove nothing."""
    stayed: Mapping[str, str]
    """Names of the batch norms, and of layers of this library, that are as they were, and why."""

    def __str__(self) -> str:
        text = (
            f"{self.layers_before} layers with weights -> {self.layers_after}, {self.parameters_before:,} parameters "
            f"-> {self.parameters_after:,}; on {self.images} random images the largest difference is "
            f"{self.largest_absolute_error:.2e} ({self.largest_relative_error:.2e} of the largest logit; in "
            f"{self.exact_dtype} {self.exact_relative_error:.0e}; rounding alone moves the first form by "
            f"{self.rounding:.0e}), same class for {self.argmax_agreement:.0%}"
        )
        if not self.informative:
            text += "; all images get the same answer, which proves nothing: only the folded layers were compared"
        return f"{text}; {in_words(self.stayed)}" if self.stayed else text


def in_words(stayed: Mapping[str, str]) -> str:
    """Return how many layers stay as they are, by reason."""
    reasons = [f"{count} because {reason}" for reason, count in Counter(stayed.values()).most_common()]
    return f"{len(stayed)} stay as they were: {', '.join(reasons)}"


def compare_forms(
    before: nn.Module,
    after: nn.Module,
    images: Tensor,
    tolerance: float | None = None,
    *,
    exact: tuple[nn.Module, nn.Module] | None = None,
    places: Sequence[tuple[str, str]] = (),
    stayed: Mapping[str, str] | None = None,
) -> FusionReport:
    """Return how far the outputs of two forms of a network are apart on ``images`` (B, C, H, W) and others like them.

    Neither form is changed, and no tensor is given to both.

    Args:
        before: one form, in eval mode.
        after: the other.
        images: given to both as they are; a few also scaled, shifted and in other sizes.
        tolerance: as `plainvision.fuse` has it.
        exact: both forms in float64, the second folded there; None converts ``before`` and ``after``.
        places: names of layers, in the one form and the other, with the same output.
        stayed: for the report.

    Raises:
        ValueError: further apart than ``tolerance``; answers that cannot be compared, that differ between two passes,
            or that a pass changes; or ``before`` does not take the images.
    """
    name = before._get_name()
    _check_steady(copy.deepcopy(before), images[:1])
    dtype, exact_error, answers = _compare_copies(before, after, images, exact, places)
    _check(name, exact_error, _EXACT[dtype] if tolerance is None else tolerance)
    expected, _ = _run(copy.deepcopy(before), images)
    found, _ = _run(copy.deepcopy(after), images, name)
    absolute, relative = _difference(expected, found)
    # Both forms round: where the first is far from exact, the second may be as well.
    own, _ = _run(copy.deepcopy(before), images[:2])
    _, rounding = _difference(answers[0], own)
    single = answers[1:] if len(images) > 1 else answers
    explained = max(_TOLERANCE.get(images.dtype, 1e-4), min(4 * rounding, 1.0))
    _check(name, relative, explained if tolerance is None else tolerance)
    return FusionReport(
        layers_before=_weighted_layers(before),
        layers_after=_weighted_layers(after),
        parameters_before=count_parameters(before),
        parameters_after=count_parameters(after),
        images=len(images),
        largest_absolute_error=absolute,
        largest_relative_error=relative,
        argmax_agreement=(_classes(expected[0]) == _classes(found[0])).double().mean().item(),
        exact_relative_error=exact_error,
        exact_dtype=str(dtype).removeprefix("torch."),
        rounding=rounding,
        informative=len(single) < 2 or any(_difference(single[0], answer)[0] != 0 for answer in single[1:]),
        stayed=stayed or {},
    )


def _check(name: str, error: float, tolerance: float) -> None:
    if not error <= tolerance:  # also when it is not a number
        raise ValueError(
            f"fusing {name} changes its answers by {error:.2e} of the largest logit, more than the tolerance of "
            f"{tolerance:.0e}. A batch norm with a tiny running variance or a weight that is not finite does that: "
            "look for them, or fuse a copy in float64 (`model.double()`). So does a forward pass that reads a layer's "
            "weights or calls parts of it itself."
        )


def _compare_copies(
    before: nn.Module,
    after: nn.Module,
    images: Tensor,
    exact: tuple[nn.Module, nn.Module] | None,
    places: Sequence[tuple[str, str]],
) -> tuple[torch.dtype, float, list[list[Tensor]]]:
    """Compare the forms in float64, or where ``before`` cannot in float32.

    Returns that dtype, the largest relative difference, and the first form's answers: to two of the images as they
    are, then to single ones.
    """
    name, dtype = before._get_name(), torch.float64
    try:
        before, after = exact or (copy.deepcopy(before).to(dtype), copy.deepcopy(after).to(dtype))
        possible = takes(before, images[:1].to(dtype))
    except (TypeError, RuntimeError):  # a device without float64
        possible = False
    if not possible:  # a pass that makes float32 of its own
        dtype = torch.float32
        before, after = copy.deepcopy(before).to(dtype), copy.deepcopy(after).to(dtype)
    error = 0.0
    answers: list[list[Tensor]] = []
    for batch in _batches(before, images.to(dtype)):
        expected, features = _run(before, batch, places=[one for one, _ in places])
        if answers and not all(value.isfinite().all() for value in expected):
            continue  # an image too bright for the network
        answers.append(expected)
        found, others = _run(after, batch, name, [other for _, other in places])
        apart = _difference(expected + features, found + others)[1]
        error = max(error, apart, key=lambda value: math.inf if math.isnan(value) else value)
    return dtype, error, answers


def _batches(model: nn.Module, images: Tensor) -> Iterator[Tensor]:
    """Yield two of the images as they are, then single ones of other sizes, scales and shifts that ``model`` takes."""
    yield images[:2]
    image, (height, width) = images[:1], images.shape[2:]
    small = image[..., : max(1, height // 2), : max(1, width // 2)]
    small = small if takes(model, small) else image
    large = torch.cat([image, image[..., : min(32, height), :]], 2)
    yield from (small * scale + shift for scale, shift in _VARIANTS)
    if takes(model, large):
        yield large


def _run(
    model: nn.Module, images: Tensor, original: str | None = None, places: Sequence[str] = ()
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the outputs of ``model``, the other form of ``original`` if given, and of its layers called ``places``.

    All are tensors in float64. A pass that fails is a ValueError.
    """
    caught: dict[str, list[Tensor]] = {place: [] for place in places}

    def catch(place: str) -> Any:
        return lambda _, __, output: caught[place].extend(tensor.double() for tensor in tensors_of(output))

    try:
        with ExitStack() as hooks, eval_mode(model), torch.no_grad():
            for place in places:
                hooks.enter_context(model.get_submodule(place).register_forward_hook(catch(place)))
            output = tensors_of(model(images.clone()))
    except (RuntimeError, TypeError, AttributeError, LookupError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"{model._get_name()} does not take images {tuple(images.shape)}: {error}. Give the image_size and the "
            "channels that it was trained with."
            if original is None
            else f"{original} cannot be fused: its forward pass asks a layer for something that folding takes away "
            f"({error}). Let it call its layers, each with the output of the one before, and ask them for nothing else."
        ) from error
    if not output:
        raise ValueError("the network returns no tensor, so that nothing shows whether both forms compute the same.")
    return [tensor.double() for tensor in output], [tensor for found in caught.values() for tensor in found]


def tensors_of(output: object) -> list[Tensor]:
    """Return the tensors in an output: a tensor, a number, or lists, tuples, dicts and dataclasses of them.

    Anything else in it is a ValueError.
    """
    if isinstance(output, Tensor):
        return [output.detach().clone()]  # what follows may write into it
    if isinstance(output, bool | int | float):
        return [torch.tensor(float(output))]
    if isinstance(output, Mapping):
        output = list(output.values())
    elif dataclasses.is_dataclass(output):
        output = [getattr(output, field.name) for field in dataclasses.fields(output)]
    if isinstance(output, list | tuple):
        return [tensor for item in output for tensor in tensors_of(item)]
    if output is None or isinstance(output, str):
        return []
    raise ValueError(
        f"the network returns a {type(output).__name__}, and only tensors, or lists, tuples, dicts and dataclasses of "
        "them, can be compared. Fuse the part of it that returns such, for instance its backbone."
    )


def _difference(expected: Sequence[Tensor], found: Sequence[Tensor]) -> tuple[float, float]:
    """Return the largest difference, and the largest relative to its tensor's largest value."""
    if [value.shape for value in expected] != [value.shape for value in found]:
        return math.inf, math.inf
    absolute = relative = 0.0
    for one, other in zip(expected, found, strict=True):
        if not one.numel():
            continue
        error, largest = (other - one).abs().max().item(), one.abs().max().item()
        if math.isnan(error):
            return error, error
        absolute, relative = max(absolute, error), max(relative, error / largest if largest else error)
    return absolute, relative


def _check_steady(model: nn.Module, images: Tensor) -> None:
    """Check that a pass, except the first, changes neither the network nor the next answer."""
    _run(model, images)
    state, (expected, _) = _state(model), _run(model, images)
    changed = [key for key, value in _state(model).items() if state.get(key) != value]
    found, _ = _run(model, images)
    apart, _ = _difference(*([value.nan_to_num() for value in answers] for answers in (expected, found)))
    if changed or apart != 0:
        what = f"its forward pass changes {changed[0]!r}" if changed else "it answers the same image in two ways"
        raise ValueError(
            f"cannot prove that {model._get_name()} answers the same when it is fused: {what}. Fuse a network whose "
            "answer depends on the image alone."
        )


def _state(model: nn.Module) -> dict[str, str]:
    """Return what a pass may have changed in words: parameters, buffers and plain attributes."""
    own = vars(nn.Module())
    found: dict[str, object] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, module in model.named_modules():
        found |= {f"{name}.{key}" if name else key: value for key, value in vars(module).items() if key not in own}
    return {name: _in_words(value) for name, value in found.items()}


def _in_words(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {value.double().sum().item()} {value.double().abs().sum().item()}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_in_words(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple | set):
        return f"[{', '.join(_in_words(item) for item in value)}]"
    return repr(value) if value is None or isinstance(value, str | int | float) else type(value).__name__


def _classes(logits: Tensor) -> Tensor:
    return logits.reshape(len(logits), -1).argmax(1) if logits.ndim and logits.numel() else torch.zeros(1)


def _weighted_layers(model: nn.Module) -> int:
    return sum(isinstance(m, nn.Conv2d | nn.Linear | nn.LayerNorm | BatchNorm) for m in model.modules())
