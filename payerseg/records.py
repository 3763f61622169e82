"""Records: a dataclass, declared once, is how its JSON is read, checked and written.

Reading refuses what is no JSON, a value of another type, a missing field and an unknown one (of a newer
version, or misspelled), and says where: "Expected `int`, got `str` - at `$.cases[0].pid`".
Whoever reads a file of this house reads it here, so a damaged one is a `PayersegError` that names it,
never a TypeError further on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from payerseg.errors import ArtifactError, PayersegError

T = TypeVar("T")
# Of the decoder, and of what a dataclass' own checks raise outside of it.
_UNREADABLE = (msgspec.MsgspecError, RecursionError, ValueError)


def read(
    kind: type[T], path: Path, remedy: str, error: type[PayersegError] = ArtifactError
) -> T | None:
    """Read a record's file; None where there is none.

    Args:
        kind: the record's dataclass, or any type that msgspec knows.
        path: its file, UTF-8 JSON.
        remedy: what to do about a damaged one; ends the message.
        error: what to raise.

    Raises:
        PayersegError: of the kind asked for; it cannot be read, or holds something else.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as reason:  # ValueError: a NUL in the name
        msg = f"{path} cannot be read ({getattr(reason, 'strerror', None) or reason}); {remedy}"
        raise error(msg) from reason
    return decode(kind, content, str(path), remedy, error)


def decode(
    kind: type[T],
    content: bytes | str,
    source: str,
    remedy: str,
    error: type[PayersegError] = ArtifactError,
) -> T:
    """Read a record's JSON.

    Raises:
        PayersegError: as `read`; `source` names what was read.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        # not msgspec's own decoder: it knows no names of files that are no valid Unicode
        value = json.loads(text, parse_constant=_refuse_constant)
    except _UNREADABLE as reason:
        msg = f"{source} is not JSON ({_said(reason)}); {remedy}"
        raise error(msg) from reason
    return convert(kind, value, source, remedy, error)


def convert(
    kind: type[T],
    value: Any,
    source: str,
    remedy: str,
    error: type[PayersegError] = ArtifactError,
) -> T:
    """Make a record of plain values.

    Raises:
        PayersegError: as `read`; `source` names where they are from.
    """
    try:
        record = msgspec.convert(value, kind, dec_hook=_decode_path)
        unknown = _unknown_key(value, to_plain(record))
    except _UNREADABLE as reason:
        msg = f"{source} is not as expected ({_said(reason)}); {remedy}"
        raise error(msg) from reason
    if unknown:
        msg = f"{source} has an unknown field `${unknown}`, perhaps of a newer payerseg; {remedy}"
        raise error(msg)
    return record


def to_plain(record: Any) -> Any:
    """Return a record as plain JSON values."""
    return msgspec.to_builtins(record, enc_hook=_encode)


def to_json(record: Any, *, sort_keys: bool = True) -> str:
    """Return a record as indented JSON; the same record always gives the same text.

    Raises:
        ValueError: a number is not finite.
        TypeError: it holds something else than plain values.
    """
    plain = to_plain(record)
    text = json.dumps(plain, indent=1, sort_keys=sort_keys, allow_nan=False, ensure_ascii=False)
    return text + "\n"


def _refuse_constant(name: str) -> None:
    msg = f"{name} is no number of JSON"
    raise ValueError(msg)


def _decode_path(kind: type, value: Any) -> Any:
    """Decode the one type of ours that JSON does not know."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    msg = f"Expected `{kind.__name__}`, got `{type(value).__name__}`"
    raise ValueError(msg)


def _encode(value: Any) -> Any:
    """Encode what JSON does not know: paths, and numpy's floats and texts, which are of those kinds."""
    if isinstance(value, Path | str):
        return str(value)
    if isinstance(value, float):
        return float(value)
    msg = f"{value!r} is no plain JSON"
    raise TypeError(msg)


def _unknown_key(found: Any, known: Any) -> str:
    """Return where plain `found` has a key that the record did not take, as ".a[0].b"; "" if nowhere.

    Thousands of records are read when a run begins, so nothing is built before it is needed.
    """
    if isinstance(found, dict) and isinstance(known, dict):
        for key, value in found.items():
            if key not in known:
                return f".{key}"
            if isinstance(value, dict | list) and (below := _unknown_key(value, known[key])):
                return f".{key}{below}"
    elif isinstance(found, list) and isinstance(known, list | tuple):
        for i, (value, ours) in enumerate(zip(found, known, strict=False)):
            if isinstance(value, dict | list) and (below := _unknown_key(value, ours)):
                return f"[{i}]{below}"
    return ""


def _said(reason: Exception) -> str:
    return "nested too deep" if isinstance(reason, RecursionError) else str(reason)
