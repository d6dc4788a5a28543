"""Check a network that an untrusted file describes: its words open nothing, and its size is bounded."""

import contextlib
import functools
import inspect
import math
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import timm
import torch
from timm.models import build_model_with_cfg
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from plainvision.models.cells import CellNetwork
from plainvision.models.registry import create_model
from plainvision.models.torchvision_classifiers import PREFIX, is_torchvision

# Published names, with or without timm's tag: no address, and nothing that leads to a file.
_NAME = re.compile(rf"\w+(\.\w+)?|{PREFIX}\w+", re.ASCII)
# What goes to timm rather than to the network: weights, their addresses, and how timm builds.
_TIMM = {*inspect.signature(timm.create_model).parameters, *inspect.signature(build_model_with_cfg).parameters}
_LARGEST = 10_000
_MOST_CLASSES = 10**6
_LONGEST = 100
_LONGEST_TEXT = 2**20

_MAKERS = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}
_LARGE = 2**16

# What the network that a thread builds may still grow by: numbers in tensors, and layers.
_left = threading.local()


def check_description(name: Any, options: Mapping[str, Any]) -> None:
    """Check that a name and its options describe a network, and nothing else.

    Raises:
        ValueError: no name of ours or timm's, an option that its class does not have, or a value that is no plain one
            within bounds.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"model={name!r} is no name of a network of ours or timm's")
    takes = _options(name)
    for option, value in options.items():
        if option not in takes:
            raise ValueError(
                f"model_options.{option} is nothing that a {name} takes from a file; it takes "
                f"{', '.join(sorted(takes))}"
            )
        # An option is of the kind of its default, unless that is a list or nothing.
        kind = next((kind for kind in (bool, int | float, str) if isinstance(takes[option], kind)), object)
        fits = kind is object or (isinstance(value, kind) and isinstance(value, bool) == (kind is bool))
        if value is not None and not isinstance(value, list | tuple) and not fits:
            raise ValueError(f"model_options.{option} is {repr(value)[:60]}, and is usually {takes[option]!r}")
        items = value if isinstance(value, list | tuple) else [value]
        if len(items) > _LONGEST or not all(_is_plain(option, item) for item in items):
            raise ValueError(f"model_options.{option} is {repr(value)[:60]}, and must be a plain value within bounds")


@contextlib.contextmanager
def bounded(elements: int, layers: int) -> Iterator[None]:
    """Let networks built here, in this thread, grow to so many numbers and layers; more raise a ValueError.

    Numbers are those in parameters and buffers.
    """
    _watch()
    before = getattr(_left, "numbers", None)
    _left.numbers = [elements, layers]
    try:
        yield
    finally:
        _left.numbers = before


def build_outline(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Return the network without memory for its weights, as a trial; it raises whatever building the network raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is built in earnest warns again
        try:
            with torch.device("meta"):
                return create_model(name, **options)
        except (NotImplementedError, RuntimeError) as error:
            if "meta" not in str(error).lower():
                raise
        # Some networks, of older versions of timm most, read small tensors while they are built.
        with _LargeOnMeta():
            return create_model(name, **options)


class _LargeOnMeta(TorchFunctionMode):
    """Make large tensors without memory for them, and leave small ones as they are."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _MAKERS and kwargs.get("device") is None:
            size = kwargs.get("size", args[0] if args and isinstance(args[0], list | tuple) else args)
            if math.prod(one for one in size if isinstance(one, int)) > _LARGE:
                kwargs = {**kwargs, "device": "meta"}
        return function(*args, **kwargs)


@functools.cache
def _watch() -> None:
    """Count what networks register from now on; torch's hooks serve all threads at once."""

    def count(place: int, size: Callable[[], int]) -> None:
        numbers = getattr(_left, "numbers", None)
        if numbers is not None:
            numbers[place] -= size()
            if numbers[place] < 0:
                raise ValueError("it describes a far larger network than the one whose weights it has")

    def tensor(_: nn.Module, __: str, value: Tensor | None) -> None:
        count(0, lambda: 0 if value is None or is_lazy(value) else value.numel())

    def layer(*_: object) -> None:
        count(1, lambda: 1)

    hooks.register_module_parameter_registration_hook(tensor)
    hooks.register_module_buffer_registration_hook(tensor)
    hooks.register_module_module_registration_hook(layer)


@functools.cache
def _options(name: str) -> dict[str, Any]:
    """Return the options of a network's class and of those that it extends, with their defaults."""
    base = name.partition(".")[0]
    if not timm.is_model(base) and not is_torchvision(name):
        raise ValueError(f"model={name!r} is no name of a network of ours or timm's")
    # Without a genotype there are no cells to build.
    kind = CellNetwork if base == "cell_network" else type(build_outline(name, {}))
    classes = [one for one in kind.__mro__ if issubclass(one, nn.Module) and one is not nn.Module]
    found = {key: one for kind in reversed(classes) for key, one in inspect.signature(kind.__init__).parameters.items()}
    return {key: one.default for key, one in found.items() if key not in _TIMM | {"self"}}


def _is_plain(option: str, value: Any) -> bool:
    if isinstance(value, str):
        text = option == "genotype"  # which is checked where it is read; its path would open a file
        return len(value) <= (_LONGEST_TEXT if text else _LONGEST) and (not text or value.lstrip().startswith("{"))
    if value is None or isinstance(value, bool):
        return True
    most = _MOST_CLASSES if option == "num_classes" else _LARGEST
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) <= most
