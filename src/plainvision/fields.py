"""Fields of dataclasses: ranges of numbers, and values read from JSON."""

import dataclasses
import inspect
import math
import numbers
import sys
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

ABOVE_ZERO = math.ulp(0.0)
BELOW_ONE = math.nextafter(1.0, 0.0)
FINITE = sys.float_info.max

Ranges = Mapping[str, tuple[float, float]]
Made = TypeVar("Made")


def ranges_of(kind: type) -> Ranges:
    """Return the ranges that a dataclass has beside its fields' types: ``Annotated[float, least, largest]``."""
    hints = inspect.get_annotations(kind)
    return {name: hint.__metadata__ for name, hint in hints.items() if get_origin(hint) is Annotated}


def check_ranges(values: object, ranges: Ranges, prefix: str) -> None:
    """Check the numbers of ``values``, also those in its tuples and dicts; None is allowed.

    ``ranges`` has the least and the largest value of each field; bounds that are whole ask for whole numbers.

    Raises:
        ValueError: a value is no number, or outside its range; NaN is outside every range.
    """
    for name, (least, most) in ranges.items():
        kind: Any = numbers.Integral if isinstance(least, int) else numbers.Real
        value = getattr(values, name)
        for item in _flat(value):
            if isinstance(item, bool) or not isinstance(item, kind):
                what = "a whole number" if isinstance(least, int) else "a number"
                raise ValueError(f"{prefix}{name}={value!r} must be {what}.")
            if not least <= item <= most:
                raise ValueError(f"{prefix}{name}={value} must {_range(least, most)}.")


def _flat(value: Any) -> list[Any]:
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, tuple | list) else None
    if parts is None:
        return [] if value is None else [value]
    return [item for part in parts for item in _flat(part)]


def _range(least: float, most: float) -> str:
    if least == 0:
        return "not be negative" + (", nor 1 or more" if most == BELOW_ONE else f", nor above {most:.19g}")
    low = "be above zero" if least in (1, ABOVE_ZERO) else f"be at least {least:g}"
    return low + (" and finite" if most == FINITE else f" and at most {most:.19g}")


def from_plain(kind: type[Made], plain: Any, name: str, ready: Mapping[str, Any] | None = None) -> Made:
    """Build a dataclass from JSON, which errors call ``name``; lists become tuples.

    Fields that it lacks get their defaults, and those that are ``ready`` are not checked.

    Raises:
        ValueError: an unknown or a missing field, or one of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not isinstance(plain, dict):
        raise ValueError(f"{name} is {_short(plain)}, and must be an object with the fields of {kind.__name__}.")
    ready = ready or {}
    unknown = [key for key in plain if key not in fields or key in ready]
    missing = dataclasses.MISSING
    needed = [key for key, field in fields.items() if field.default is missing and field.default_factory is missing]
    lost = [key for key in needed if key not in plain and key not in ready]
    if unknown or lost:
        what = f"has the unknown field {_short(unknown[0])}" if unknown else f"lacks the field {lost[0]!r}"
        raise ValueError(f"{name} {what}. Load it with the version of plainvision that wrote it.")
    hints = get_type_hints(kind)
    return kind(**ready, **{key: typed(hints[key], value, f"{name}.{key}") for key, value in plain.items()})


def typed(hint: Any, value: Any, name: str) -> Any:
    """Return a value from JSON in the type ``hint``; lists become tuples.

    Raises:
        ValueError: it is of another type.
    """
    kind, arguments = get_origin(hint), get_args(hint)
    if kind in (Union, types.UnionType):
        for choice in arguments:
            try:
                return typed(choice, value, name)
            except ValueError:
                continue
    elif kind is Literal:
        if any(value == one and type(value) is type(one) for one in arguments):
            return value
    elif kind is tuple and isinstance(value, list | tuple):
        hints = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(hints) == len(value):
            return tuple(typed(hints[i], one, f"{name}[{i}]") for i, one in enumerate(value))
    elif isinstance(hint, type) and issubclass(hint, tuple):  # a NamedTuple, in JSON a list
        return hint(*typed(types.GenericAlias(tuple, (*get_type_hints(hint).values(),)), value, name))
    elif kind is dict and isinstance(value, dict):
        return {key: typed(arguments[1], one, f"{name}.{key}") for key, one in value.items()}
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, value, name)
    elif (
        hint is Any or type(value) is hint or (hint is float and type(value) is int) or (hint is None and value is None)
    ):
        return value
    raise ValueError(f"{name} is {_short(value)}, and must be {_words(hint)}.")


def _words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(repr(one) for one in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_words(one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        return "a list of " + " and ".join(_words(one) for one in get_args(hint) if one is not ...)
    plain = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    return plain.get(hint, "an object")


def _short(value: Any, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
