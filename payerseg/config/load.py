"""TOML → schema, strictly: an unknown key is an error that names the nearest known one.

Precedence: schema defaults < preset < user's file < overrides (`--set section.key=value`).
"""

from __future__ import annotations

import difflib
import json
import tomllib
from dataclasses import fields, is_dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, get_type_hints

from payerseg import records
from payerseg.config.schema import RunConfig
from payerseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Table = dict[str, Any]


def load_config(
    preset: str = "default", file: Path | None = None, overrides: Iterable[str] = ()
) -> RunConfig:
    """Resolve a run's configuration.

    Args:
        preset: name of a packaged preset, see `preset_names`.
        file: user's TOML.
        overrides: "section.key=value"; the value is TOML, or a bare word for text.

    Raises:
        ConfigError: unreadable, unknown key, wrong type, out of range.
    """
    merged = _read_preset(preset)
    if file is not None:
        merged = _merge(merged, _checked(read_toml(file), str(file)))
    for text in overrides:
        merged = _merge(merged, _checked(parse_override(text), f"--set {text}"))
    return section_from_dict(RunConfig, merged, f"preset {preset}" if file is None else str(file))


def with_overrides(config: RunConfig, overrides: Iterable[str]) -> RunConfig:
    """Return a resolved configuration with single values changed, "section.key=value" each.

    Raises:
        ConfigError: unknown key, wrong type, out of range.
    """
    merged = section_to_dict(config)
    for text in overrides:
        merged = _merge(merged, _checked(parse_override(text), f"--set {text}"))
    return section_from_dict(RunConfig, merged, "--set")


def section_from_dict(kind: type, table: Table, where: str = "request") -> Any:
    """Build a schema dataclass (nested ones included) from plain JSON or TOML values.

    Raises:
        ConfigError: unknown key, wrong type, out of range.
    """
    check_keys(kind, table, where)
    hints = get_type_hints(kind)
    values = {
        key: section_from_dict(hints[key], value, where) if is_dataclass(hints[key]) else value
        for key, value in table.items()
    }
    try:
        return kind(**values)
    except ConfigError as error:
        msg = f"{where}: [{_section_name(kind)}] {error}"
        raise ConfigError(msg) from error


def section_to_dict(section: Any) -> Table:
    """Return a schema dataclass as plain JSON values (tuples become lists)."""
    return json.loads(records.to_json(section))


def to_toml(config: Any) -> str:
    """Write a schema dataclass as TOML; values left out (None) become comments."""
    lines: list[str] = []
    _write_table(section_to_dict(config), "", lines)
    return "\n".join(lines).strip() + "\n"


def preset_names() -> list[str]:
    """Names of the packaged presets."""
    folder = resources.files("payerseg.config") / "presets"
    return sorted(
        item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml")
    )


def parse_override(text: str) -> Table:
    """Turn "a.b.c=value" into nested tables.

    Raises:
        ConfigError: no "=", or no section.
    """
    key, equals, raw = text.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        msg = f"--set {text!r}: expected section.key=value, e.g. spine_localization.threshold=0.3"
        raise ConfigError(msg)
    table: Any = _parse_value(raw.strip())
    for part in reversed(parts):
        table = {part: table}
    return table


def check_keys(kind: type, table: Any, where: str) -> None:
    """Check one table's keys against a schema class.

    Raises:
        ConfigError: names the unknown key and the nearest known one.
    """
    section = _section_name(kind)
    if not isinstance(table, dict):
        msg = f"{where}: [{section}] is {str(table)[:80]!r}; expected a table of keys"
        raise ConfigError(msg)
    known = [item.name for item in fields(kind)]
    for key in table:
        if key in known:
            continue
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        place = f"in [{section}] of {where}" if kind is not RunConfig else f"in {where}"
        msg = f"unknown key {key[:80]!r} {place}; {hint}"
        raise ConfigError(msg)


def _read_preset(name: str) -> Table:
    if name not in preset_names():
        near = difflib.get_close_matches(name, preset_names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(preset_names())}"
        msg = f"no preset {name!r}; {hint}"
        raise ConfigError(msg)
    text = (resources.files("payerseg.config") / "presets" / f"{name}.toml").read_text("utf-8")
    return _checked(tomllib.loads(text), f"preset {name}")


def read_toml(path: Path) -> Table:
    """Read a TOML file.

    Raises:
        ConfigError: it cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"cannot read the configuration {path}: {error.strerror}; expected a TOML file"
        raise ConfigError(msg) from error
    except RecursionError as error:
        msg = f"{path} is nested too deep; expected tables of keys, see docs/config.md"
        raise ConfigError(msg) from error
    except (
        ValueError
    ) as error:  # what tomllib finds, text that is not UTF-8, a number of 5000 digits
        msg = f"{path} is not TOML: {error}"
        raise ConfigError(msg) from error


def _parse_value(raw: str) -> Any:
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except (ValueError, RecursionError):
        return raw  # a bare word, as people type it in a shell: --set driver.device=cpu


def _checked(table: Table, where: str) -> Table:
    """Build once only to have errors name this source; return the table."""
    section_from_dict(RunConfig, table, where)
    return table


def _merge(below: Table, above: Table) -> Table:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _section_name(kind: type) -> str:
    """RunConfig → run, VertebraeLocalizationConfig → vertebrae_localization."""
    name = kind.__name__.removesuffix("Config")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip(
        "_"
    )


def _write_table(table: Table, prefix: str, lines: list[str]) -> None:
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if prefix and plain:
        lines.extend(["", f"[{prefix}]"])
    for key, value in plain.items():
        # JSON's spelling of numbers, texts, booleans and lists is TOML's as well, but for DEL
        spelled = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        lines.append(f"# {key} is left out" if value is None else f"{key} = {spelled}")
    for key, value in table.items():
        if isinstance(value, dict):
            _write_table(value, f"{prefix}.{key}" if prefix else key, lines)
