"""Fit the naming decoder's settings to what stage 2's network really says about training scans.

    python benchmarks/calibrate.py DATA --cache FOLDER [--weights BUNDLES]

DATA is a data set `payerseg train` reads; only its `train` scans are used. The networks run once over each
scan, slabs of it and altered slabs (minutes; kept below FOLDER, per weights); then settings are searched
one after the other, the evidence temperature is fitted, and the review threshold is chosen. It prints a
table before and after, the same for settings fitted without the scans they are measured on, and the values
to put into payerseg/config/graph.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from calibration_cases import Case, versions
from calibration_fit import changes, cross_checked, decode_all, fit, fit_flags, show
from naming import Namer, marked_scans
from scan_variants import MarkedScan, spine_free_volumes

from payerseg.config.graph import GraphConfig
from payerseg.domain.spine_box import SpineBox
from payerseg.errors import SpineNotFound
from payerseg.postprocess.calibration import DecodedExample
from payerseg.postprocess.naming import find_candidates
from payerseg.preprocess.inputs import vertebrae_input

UNSEEN_BLOCK_MM = 120.0
"""What stage 2 is shown where stage 1 sees no spine."""


def run_networks(scan: MarkedScan, namer: Namer) -> Case:
    """Return what stages 1 and 2 say about one version."""
    try:
        box, boxed = namer.box(scan.ct), True
    except SpineNotFound:
        centre = scan.ct.grid.corners_mm().mean(axis=0)
        half = UNSEEN_BLOCK_MM / 2
        box, boxed = SpineBox(tuple(centre - half), tuple(centre + half)), False
    sampling = namer.labels.card.sampling
    heatmaps = namer.name.predict_both_ways(
        vertebrae_input(scan.ct, box, sampling), namer.naming_config.mirror_below_mm
    )
    candidates = find_candidates(heatmaps, sampling.sigma_mm, namer.naming_config)
    example = DecodedExample(candidates, scan.truth, scan.ct.grid)
    return Case(scan.name, example, scan.unmarked, boxed)


def cases_of(data: Path, namer: Namer, cache: Path, every: int) -> list[Case]:
    """Return the cases of the `train` scans, from the cache where they are already there."""
    folder = cache / f"{namer.labels.card.weights_sha256[:12]}-{every}"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "complete"
    if not done.exists():
        for scan in marked_scans(data, "train"):
            _keep(versions(scan, every), namer, folder)
            click.echo(f"{scan.name}: {len(list(folder.glob('*.npz')))} versions", err=True)
        _keep(iter(spine_free_volumes()), namer, folder)
        done.touch()
    return [Case.read(path) for path in sorted(folder.glob("*.npz"))]


def _keep(scans: Iterator[MarkedScan], namer: Namer, folder: Path) -> None:
    for scan in scans:
        path = folder / f"{scan.name.replace('/', '__')}.npz"
        if not path.exists():
            run_networks(scan, namer).write(path)


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--cache", type=click.Path(path_type=Path), required=True, help="Where heat is kept.")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Folder of bundles; the shipped ones if left out.",
)
@click.option("--every", default=4, help="Take every so-many-th slab.")
@click.option("--folds", default=2, help="Folds of the cross-check; 0 leaves it out.")
@click.option("--search/--no-search", default=True, help="Or fit only the flags.")
def main(
    data: Path,
    cache: Path,
    weights: Path | None,
    every: int,
    folds: int,
    *,
    search: bool,
) -> None:
    """Run the networks, fit, and print."""
    bundles = (
        [weights / f"{name}_localization" for name in ("spine", "vertebrae")] if weights else []
    )
    cases = cases_of(data, Namer.shipped(*bundles), cache, every)
    shipped = GraphConfig()
    results = decode_all(cases, shipped)
    show("as shipped", results, [shipped.review_probability] * len(results))
    refused = sum(not case.boxed and not case.example.truth for case in cases)
    unseen = [case.name for case in cases if not case.boxed and case.example.truth]
    click.echo(f"\nstage 1 refused {refused} volumes without a spine and: {unseen}")
    fitted = fit(cases, shipped, tell=True) if search else fit_flags(cases, shipped)
    results = decode_all(cases, fitted)
    show("fitted", results, [fitted.review_probability] * len(results))
    if folds and search:
        show("fitted without the scan at hand", *cross_checked(cases, shipped, folds))
    click.echo(f"\npayerseg/config/graph.py: {changes(shipped, fitted)}")


if __name__ == "__main__":
    main()
