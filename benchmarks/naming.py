"""How well vertebrae are found and named, on scans and on harder versions of them.

    python benchmarks/naming.py DATA [--preset verse_pytorch] [--only whole] [--json OUT.json]

DATA is a data set `payerseg train` reads; its `val` scans are measured. Each scan and each version of it
(`scan_variants.py`) goes through the functions of stages 1 and 2 with the preset's shipped weights, without
files in between. Per version it prints: vertebrae, identification rate (VerSe: own truth nearest, within
20 mm), mean distance, centres inside the stage-1 box, scans with every vertebra right, wrong scans, and
how many of these carry `needs_review`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
from scan_variants import VARIANTS, MarkedScan, Variant, spine_free_volumes

from payerseg.config.installation import default_bundle
from payerseg.config.load import load_config
from payerseg.config.schema import RunConfig
from payerseg.datasets.centers import with_centers
from payerseg.datasets.discover import discover, read_case
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.volume import Volume
from payerseg.errors import SpineNotFound
from payerseg.evaluation.landmark_scores import score_landmarks
from payerseg.imaging.files import read_volume
from payerseg.inference.level_reader import LevelReader
from payerseg.inference.predictor import Predictor
from payerseg.networks.bundle import ModelBundle
from payerseg.postprocess.decision import SpineDecision
from payerseg.postprocess.naming import find_places, name_vertebrae
from payerseg.postprocess.spine_box import find_spine_box
from payerseg.postprocess.spine_prior import SpinePrior
from payerseg.preprocess.inputs import spine_input, vertebrae_input


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scan's result.

    Attributes:
        name: of the scan and its version.
        n_true, n_identified: vertebrae.
        n_in_box: true centres inside the stage-1 box.
        distances_mm: of the identified ones.
        extras: names that are neither true nor unmarked.
        all_right: nothing missed, mixed up or invented.
        needs_review: flagged.
        found: names given, or why there are none.
    """

    name: str
    n_true: int
    n_identified: int
    n_in_box: int
    distances_mm: tuple[float, ...]
    extras: tuple[str, ...]
    all_right: bool
    needs_review: bool
    found: str


class Namer:
    """Stages 1 and 2 without files."""

    def __init__(self, config: RunConfig, weights: dict[str, Path]) -> None:
        self.box_config = config.spine_localization
        self.naming_config = config.vertebrae_localization
        self.spine = ModelBundle.open(weights["spine_localization"], "spine_localization")
        self.labels = ModelBundle.open(weights["vertebrae_localization"], "vertebrae_localization")
        self.find = Predictor(self.spine, self.box_config.precision)
        self.name = Predictor(self.labels, self.naming_config.precision)
        self.levels = LevelReader.beside(self.labels, self.naming_config.precision)
        self.prior = SpinePrior.of_bundle(self.labels.path)

    @classmethod
    def shipped(
        cls, spine: Path | None = None, labels: Path | None = None, preset: str = "default"
    ) -> Namer:
        """Return a namer with a preset's settings and, where none are given, its shipped weights."""
        config = load_config(preset)
        family = config.driver.family
        weights = {
            "spine_localization": spine or default_bundle("spine_localization", family),
            "vertebrae_localization": labels or default_bundle("vertebrae_localization", family),
        }
        return cls(config, weights)

    def outcome(self, scan: MarkedScan) -> Outcome:
        """Name one scan's vertebrae and compare."""
        return self.named(scan)[0]

    def named(self, scan: MarkedScan) -> tuple[Outcome, Landmarks]:
        """Name one scan's vertebrae; return the comparison and the names (none where no spine was found)."""
        box, found, landmarks, review = None, "", Landmarks(), False
        try:
            box = self.box(scan.ct)
            decision = self.decide(scan.ct, box)
            landmarks, review = decision.landmarks, decision.needs_review
            found = " ".join(vertebra.name for vertebra in landmarks)
        except SpineNotFound as reason:
            found = f"no_spine: {reason}"
        scores = score_landmarks(
            landmarks, scan.truth, unmarked=scan.unmarked, scan_grid=scan.ct.grid
        )
        inside = box.contains(scan.truth.positions_mm).sum() if box and scan.truth else 0
        extras = [o.vertebra.name for o in scores.outcomes if o.outcome == "extra"]
        outcome = Outcome(
            name=scan.name,
            n_true=scores.n_true,
            n_identified=scores.count("identified"),
            n_in_box=int(inside),
            distances_mm=tuple(np.round(scores.distances_mm, 2).tolist()),
            extras=tuple(extras),
            all_right=scores.all_right,
            needs_review=review,
            found=found,
        )
        return outcome, landmarks

    def box(self, ct: Volume) -> SpineBox:
        """Return the box of stage 1."""
        heat = self.find.predict(spine_input(ct, self.spine.card.sampling))
        return find_spine_box(heat, self.box_config.threshold, self.box_config.min_peak)

    def decide(self, ct: Volume, box: SpineBox | None = None) -> SpineDecision:
        """Return the names of stage 2, in a given box or stage 1's."""
        box = box or self.box(ct)
        sampling = self.labels.card.sampling
        seen = vertebrae_input(ct, box, sampling)
        heatmaps = self.name.predict_both_ways(seen, self.naming_config.mirror_below_mm)
        ask = partial(self.levels.read, ct) if self.levels else None
        found = find_places(heatmaps, self.labels.card, self.naming_config, ct.grid, ask)
        spec = self.labels.card.decoder
        return name_vertebrae(found, ct.grid, self.naming_config, spec, self.prior)


def marked_scans(data: Path, split: str = "val") -> Iterator[MarkedScan]:
    """Yield the scans of a split that have marks, from files or from masks."""
    for files in discover(data).cases:
        if files.split == split:
            case = read_case(files)
            if not case.landmarks and case.labels:
                case = with_centers(case, read_volume(case.labels))
            if case.landmarks:
                ct = read_volume(case.image)
                yield MarkedScan(case.case_id, ct, case.landmarks, case.partial)


def summary_line(title: str, outcomes: list[Outcome]) -> str:
    """Return one Markdown row."""
    n_true = sum(o.n_true for o in outcomes)
    hits = sum(o.n_identified for o in outcomes)
    in_box = sum(o.n_in_box for o in outcomes)
    distances = np.concatenate([o.distances_mm for o in outcomes] or [[]])
    wrong = [o for o in outcomes if not o.all_right]
    mean = f"{distances.mean():.2f}" if len(distances) else "-"
    return (
        f"| {title} | {len(outcomes)} | {n_true} | {100 * hits / max(n_true, 1):.1f} | {mean} "
        f"| {in_box}/{n_true} | {len(outcomes) - len(wrong)} "
        f"| {len(wrong)} | {sum(o.needs_review for o in wrong)} "
        f"| {sum(o.needs_review for o in outcomes if o.all_right)} |"
    )


def scans_of(make: Variant, scans: list[MarkedScan]) -> Callable[[], Iterator[MarkedScan]]:
    """Return what makes one version of every scan, one at a time."""
    return lambda: (version for scan in scans for version in make(scan))


HEADER = (
    "| version | scans | vertebrae | id rate % | mean mm | in box | all right | wrong "
    "| of these flagged | right but flagged |\n|---|---|---|---|---|---|---|---|---|---|"
)


def naming_outcomes(
    data: Path, namer: Namer, only: tuple[str, ...] = ()
) -> Iterator[tuple[str, list[Outcome]]]:
    """Yield (version, outcomes); all versions, or those whose title holds one of `only`."""
    scans = list(marked_scans(data))
    groups = {title: scans_of(make, scans) for title, make in VARIANTS.items()}
    groups["volumes without spine"] = spine_free_volumes
    for title, versions in groups.items():
        if not only or any(word in title for word in only):
            yield title, [namer.outcome(version) for version in versions()]


def failure_line(outcome: Outcome) -> str:
    """Say what became of a scan that is not all right."""
    flag = "flagged" if outcome.needs_review else "SILENT"
    extras = f", invented {' '.join(outcome.extras)}" if outcome.extras else ""
    right = f"{outcome.n_identified}/{outcome.n_true}"
    return f"{outcome.name}: {right} right, {flag}{extras}; said {outcome.found}"


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--only", multiple=True, help="Versions to measure; all when left out.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every outcome.")
@click.option("--spine", type=click.Path(path_type=Path), help="Bundle of stage 1.")
@click.option("--labels", type=click.Path(path_type=Path), help="Bundle of stage 2.")
@click.option("--preset", default="default", help="Settings and family; see payerseg run --help.")
def main(
    data: Path,
    only: tuple[str, ...],
    json_path: Path | None,
    spine: Path | None,
    labels: Path | None,
    preset: str,
) -> None:
    """Measure and print."""
    namer = Namer.shipped(spine, labels, preset)
    record: dict[str, list[dict]] = {}
    click.echo(HEADER)
    for title, outcomes in naming_outcomes(data, namer, only):
        click.echo(summary_line(title, outcomes))
        for outcome in outcomes:
            if not outcome.all_right:
                click.echo(f"    {failure_line(outcome)}", file=sys.stderr)
        record[title] = [asdict(outcome) for outcome in outcomes]
        if json_path:
            json_path.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
