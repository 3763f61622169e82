"""`payerseg config`: the resolved configuration, and the page that explains every key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field
from pathlib import Path
from typing import Any

import click

from payerseg.config.load import load_config, preset_names, to_toml
from payerseg.config.option import default_of, describe_type, walk_options
from payerseg.config.schema import RunConfig
from payerseg.config.training import TrainingConfig


@click.group()
def config() -> None:
    """Show or explain the configuration."""


@config.command()
@click.option("--preset", default="default", show_default=True, help="Packaged starting point.")
@click.option(
    "--config", "file", type=click.Path(dir_okay=False, path_type=Path), help="Your TOML file."
)
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="One value.")
def show(*, preset: str, file: Path | None, overrides: tuple[str, ...]) -> None:
    """Print the configuration as a run would use it, as TOML."""
    click.echo(to_toml(load_config(preset, file, overrides)), nl=False)


@config.command()
def presets() -> None:
    """List the packaged presets."""
    click.echo("\n".join(preset_names()))


@config.command()
def explain() -> None:
    """Print every key with its meaning, default and range, as Markdown (docs/config.md)."""
    click.echo(config_page(), nl=False)


def config_page() -> str:
    """Return docs/config.md."""
    lines = [
        "# Configuration",
        "",
        "<!-- written by `payerseg config explain`; do not edit by hand -->",
        "",
        (
            "Values come from, later ones winning: the defaults below, a preset (`--preset`), "
            "your file (`--config my.toml`), `--set section.key=value`."
        ),
        f"Presets: {', '.join(f'`{name}`' for name in preset_names())}.",
        (
            "The resolved configuration of a run is kept in its run folder as `config.toml`; "
            "`payerseg config show` prints it."
        ),
        "The section `[training]` belongs to `payerseg train`, all others to runs.",
        "What training fixed (spacing, window, network) is not chosen here: it travels with the weights.",
    ]
    section = ""
    for key, item, hint in every_option():
        table, _, name = key.rpartition(".")
        if table != section:
            section = table
            lines += [
                "",
                f"## [{table}]",
                "",
                "| key | default | values | meaning |",
                "|---|---|---|---|",
            ]
        default = default_of(item)
        shown = "left out" if default is None else f"`{_spelled(default)}`"
        lines.append(f"| `{name}` | {shown} | {_values(item, hint)} | {item.metadata['text']} |")
    return "\n".join(lines) + "\n"


def every_option() -> Iterator[tuple[str, Field[Any], Any]]:
    """Yield (dotted key, field, type hint) of everything that can be set, `payerseg train` included."""
    yield from walk_options(RunConfig, "")
    yield from walk_options(TrainingConfig, "training.")


def _spelled(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _values(item: Field[Any], hint: Any) -> str:
    low, high = item.metadata["at_least"], item.metadata["at_most"]
    bounds = [f"≥ {low}" if low is not None else "", f"≤ {high}" if high is not None else ""]
    return ", ".join([describe_type(hint).replace("'", "`"), *filter(None, bounds)])
