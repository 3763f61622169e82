"""One configurable value: its default, its range and the sentence that explains it.

`option` keeps the three beside each other, so the schema, its checks and docs/config.md cannot drift apart.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, Field, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Iterator

from payerseg import records
from payerseg.errors import ConfigError


def option(
    default: Any, text: str, *, at_least: float | None = None, at_most: float | None = None
) -> Any:
    """Declare a dataclass field of the schema.

    Args:
        default: a value, or a class to call for one (nested sections).
        text: what it does, with its unit; shown in docs/config.md.
        at_least: smallest allowed value (of every element of a tuple).
        at_most: largest allowed value.
    """
    metadata = {"text": text, "at_least": at_least, "at_most": at_most}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def check_options(section: object) -> None:
    """Check every field of a schema dataclass against its type and range.

    Call it from `__post_init__`. Integers given for floats are converted.

    Raises:
        ConfigError: names the key, the value found and the values allowed.
    """
    hints = get_type_hints(type(section))
    for item in fields(section):  # type: ignore[arg-type]
        value, hint = getattr(section, item.name), hints[item.name]
        if is_dataclass(hint) and type(value) is hint:
            continue
        found, wanted = f"{item.name} = {_shown(value)}", f"expected {describe_type(hint)}"
        value = records.convert(hint, value, found, wanted, ConfigError)
        object.__setattr__(section, item.name, value)
        _check_range(item, value)


def describe_type(hint: Any) -> str:
    """Say in words which values a type hint of the schema allows."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(repr(arg) for arg in args)
    if origin is tuple:
        count = "a list of" if args[-1] is Ellipsis else f"a list of {len(args)}"
        return f"{count} {describe_type(args[0])}"
    if args:  # a union with None
        inner = " or ".join(describe_type(arg) for arg in args if arg is not type(None))
        return f"{inner} (or left out)"
    names = {float: "number", int: "whole number", str: "text", bool: "true or false"}
    return names.get(hint, "a table")


def default_of(item: Field[Any]) -> Any:
    """Return the default of a schema field."""
    return item.default_factory() if item.default_factory is not MISSING else item.default


def walk_options(kind: type, prefix: str) -> Iterator[tuple[str, Field[Any], Any]]:
    """Yield (dotted key, field, type hint) of a schema class, nested sections included."""
    hints = get_type_hints(kind)
    for item in fields(kind):
        if is_dataclass(hints[item.name]):
            yield from walk_options(hints[item.name], f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", item, hints[item.name]


def _check_range(item: Field[Any], value: Any) -> None:
    low, high = item.metadata.get("at_least"), item.metadata.get("at_most")
    numbers = value if isinstance(value, tuple) else (value,)
    for number in numbers:
        if not isinstance(number, int | float) or isinstance(number, bool):
            continue
        below, above = low is not None and number < low, high is not None and number > high
        if below or above or not math.isfinite(number):
            msg = f"{item.name} = {_shown(value)}; expected {describe_range(item)}, finite"
            raise ConfigError(msg)


def describe_range(item: Field[Any]) -> str:
    """Say in words which range a field allows."""
    low, high = item.metadata.get("at_least"), item.metadata.get("at_most")
    if low is not None and high is not None:
        return f"{low} to {high}"
    if low is not None:
        return f"at least {low}"
    return f"at most {high}" if high is not None else "any number"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
