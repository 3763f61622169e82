"""`payerseg stage`: one stage again, on the results at hand."""

from __future__ import annotations

from pathlib import Path

import click

from payerseg.cli.run import run_settings
from payerseg.cli.run_options import (
    KEEP_LEVELS,
    STAGE_NAMES,
    DeviceType,
    RunOptions,
    config_options,
    weights_options,
)


@click.command()
@click.argument("name", type=click.Choice(STAGE_NAMES), metavar="NAME")
@click.argument(
    "output", metavar="OUT", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--only-case", multiple=True, metavar="ID", help="Only this case; repeatable.")
@click.option("--then-later", is_flag=True, help="Then run the later stages too, where stale.")
@click.option("--if-stale", is_flag=True, help="Leave alone what is fresh.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and why; run nothing.")
@click.option("--device", type=DeviceType(), help="Where networks run. [default: auto]")
@click.option("--keep", type=click.Choice(KEEP_LEVELS), help="Which intermediates stay.")
@click.option("--json", is_flag=True, help="Print a machine-readable summary on stdout.")
@weights_options
@config_options
@click.pass_context
def stage(ctx: click.Context, /, **options: object) -> int:
    """Run stage NAME again for the cases in OUT, on their stored intermediates.

    After you edit a case's landmarks.csv, run vertebrae_segmentation: the edit is respected, and the
    stages after it become stale. NAME is one of: preparation, spine_localization,
    vertebrae_localization, vertebrae_segmentation, quality_report.
    """
    del options
    return run_settings(_options(ctx.params).settings(), json=ctx.params["json"])


def _options(params: dict) -> RunOptions:
    taken = (
        "output",
        "only_case",
        "dry_run",
        "device",
        "keep",
        "json",
        "preset",
        "config",
        "overrides",
    )
    weights = {key: params[key] for key in ("model_step1", "model_step2", "model_step3")}
    name = params["name"]
    return RunOptions(
        inputs=(),
        from_stage=name,
        to_stage=None if params["then_later"] else name,
        force=not params["if_stale"],
        **{key: params[key] for key in taken},
        **weights,
    )
