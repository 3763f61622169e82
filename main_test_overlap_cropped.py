"""Segment the spine in every CT of a folder.

The one-command entry of payerseg; `payerseg run` is the same door with more options.
"""

from pathlib import Path

import click

from payerseg.cli.app import start
from payerseg.cli.run import RunOptions, run_from_options, weights_options


@click.command(help=__doc__)
@click.option(
    "--input_folder",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of scans (.nii, .nii.gz, .mha, .mhd, .nrrd), or folder tree or zip of DICOM.",
)
@click.option(
    "--output_folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where one folder per scan is written.",
)
@weights_options
def main(
    *,
    input_folder: Path,
    output_folder: Path,
    model_step1: Path | None,
    model_step2: Path | None,
    model_step3: Path | None,
) -> int:
    """Run the pipeline over a folder and return the exit code."""
    return run_from_options(
        RunOptions(
            (input_folder,),
            output_folder,
            model_step1=model_step1,
            model_step2=model_step2,
            model_step3=model_step3,
        )
    )


if __name__ == "__main__":
    start(main)
