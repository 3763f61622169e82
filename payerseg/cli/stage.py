"""`payerseg stage`: one stage again, on the results at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from payerseg.cli.run import (
    STAGE_NAMES,
    DeviceType,
    config_options,
    earlier_settings,
    run_settings,
    weights_options,
)
from payerseg.config.schema import KEEP_LEVELS
from payerseg.driver.settings import RunSettings


@click.command()
@click.argument("name", type=click.Choice(STAGE_NAMES), metavar="NAME")
@click.argument(
    "output", metavar="OUT", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--only-case", multiple=True, metavar="ID", help="Only this case; repeatable.")
@click.option(
    "--then-later",
    is_flag=True,
    help="Go on with the later stages; of them only what is stale runs.",
)
@click.option("--if-stale", is_flag=True, help="Leave alone what is fresh.")
@click.option("--force", is_flag=True, help="Replace also masks that a person corrected.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and why; run nothing.")
@click.option("--device", type=DeviceType(), help="Where networks run. [default: as last time]")
@click.option("--keep", type=click.Choice(KEEP_LEVELS), help="Which intermediates stay.")
@click.option("--json", is_flag=True, help="Print a machine-readable summary on stdout.")
@weights_options
@config_options
def stage(**options: Any) -> int:
    """Run stage NAME again for the cases in OUT, on their stored intermediates.

    Settings and weights are those of the last run in OUT, unless given here. After you edit a case's
    landmarks.csv, run vertebrae_segmentation: the edit is respected, and the stages after it become
    stale. NAME is one of: preparation, spine_localization, vertebrae_localization,
    vertebrae_segmentation, quality_report.
    """
    return run_settings(stage_settings(options), json=options["json"])


def stage_settings(options: dict[str, Any]) -> RunSettings:
    """Return a run of one stage (and, if wanted, the later ones) over the cases in the folder.

    Raises:
        UsageError: the folder holds no earlier run.
        ConfigError: a setting cannot be used.
    """
    name = options["name"]
    return replace(
        earlier_settings(options["output"], options),
        from_stage=name,
        to_stage=None if options["then_later"] else name,
        rerun=None if options["if_stale"] else name,
        force=options["force"],
        only_cases=options["only_case"],
        dry_run=options["dry_run"],
    )
