"""Put the true points into a results folder, as a person's edit, so that the next run segments given these.

    python benchmarks/true_points.py RESULTS --truth DATA
    payerseg run SCANS -o RESULTS && payerseg evaluate RESULTS --truth DATA

Dice is then that of stage 3 alone: no vertebra is missed or misnamed.
"""

from __future__ import annotations

from pathlib import Path

import click

from payerseg.evaluation.predictions import find_predictions
from payerseg.evaluation.truth import TruthRules, find_truth, read_truth
from payerseg.results.artifacts import LANDMARKS_CSV
from payerseg.results.formats import write_artifact


@click.command(help=__doc__)
@click.argument("results", type=click.Path(path_type=Path, exists=True))
@click.option("--truth", type=click.Path(path_type=Path, exists=True), required=True)
def main(results: Path, truth: Path) -> None:
    """Write a table into every case that has one and whose truth is known."""
    known, rules = find_truth(truth, TruthRules()), TruthRules()
    for key, found in find_predictions(results).items():
        folder = found.folder
        if key in known and folder is not None and folder.path(LANDMARKS_CSV).is_file():
            landmarks = read_truth(known[key], rules).landmarks
            write_artifact(LANDMARKS_CSV, landmarks, folder.path(LANDMARKS_CSV), folder)
            click.echo(f"{found.case_id}: {len(landmarks)} points")


if __name__ == "__main__":
    main()
