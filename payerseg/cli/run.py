"""`payerseg run`: scans in, one result folder per case out."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from payerseg.cli.export import Export, write_formats
from payerseg.cli.live import choose_listener
from payerseg.cli.run_options import (
    RunOptions,
    as_run_options,
    choice_options,
    config_options,
    weights_options,
)
from payerseg.driver.console import Console
from payerseg.driver.run import run_pipeline
from payerseg.driver.settings import RunSettings


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "--output_folder",
    "output",
    required=True,
    metavar="OUT",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where one folder per scan is written.",
)
@weights_options
@choice_options
@config_options
@as_run_options
def run(options: RunOptions) -> int:
    """Segment the spine in scans: files (.nii, .nii.gz, .mha, .mhd, .nrrd) or folders of them, and DICOM.

    DICOM may be a folder tree, a zip or a file; one series per study is taken, see --series and
    'payerseg dicom list'.

    The same command again continues where it was interrupted; what is fresh is not done twice.

    Exit codes: 0 all done, 1 a bug, 2 usage or configuration, 3 some scans failed, 130 interrupted.
    """
    return run_from_options(options)


def run_from_options(options: RunOptions) -> int:
    """Run the pipeline as asked for and return the exit code.

    Raises:
        PayersegError: nothing could be begun.
    """
    exit_code = run_settings(options.settings(), json=options.json)
    if options.other_exports and not options.dry_run:
        exported = write_formats(
            Export(options.output),
            options.other_exports,
            tell=lambda line: click.echo(line, err=True),
        )
        return exit_code or exported
    return exit_code


def run_settings(settings: RunSettings, *, json: bool) -> int:
    """Run the pipeline; lines for people go to standard error, with `json` the summary to stdout."""
    listener = choose_listener(Console(sys.stderr), sys.stderr)
    summary = run_pipeline(settings, listener)
    if json:
        click.echo(summary.to_json(), nl=False)
    return int(summary.exit_code)
