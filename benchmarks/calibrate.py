"""Fit what the naming decoder knows of its networks, on scans that the level network has not seen.

    python benchmarks/calibrate.py DATA --cache FOLDER --folds TRAININGS [--weights BUNDLES]

DATA is a data set `payerseg train` reads; only its `train` scans are used. TRAININGS is the output folder of
`payerseg train fit PACK -o TRAININGS --stage levels --fold K` for every K: each scan's level evidence comes
from the fold that left its patient out. The heatmaps run once over each scan and its versions (kept below
FOLDER, per weights). It prints a table for the card's values and for the fitted ones, and the values to put
onto the card (`decoder` of model.json).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from naming import Namer
from naming_cases import Ask, NamingCase, cases_of, with_levels

from payerseg.config.graph import DecoderSpec
from payerseg.errors import SpineNotFound
from payerseg.evaluation.landmark_scores import score_landmarks
from payerseg.inference.level_reader import LevelReader
from payerseg.networks.bundle import ModelBundle
from payerseg.postprocess.decision import SpineDecision
from payerseg.postprocess.level_evidence import LevelEvidence
from payerseg.postprocess.review import named_range
from payerseg.postprocess.spine_decoder import Decoder, decode_places

GRID: dict[str, tuple[float, ...]] = {
    "level_observations": (0.5, 1.0, 2.0, 4.0),
    "rib_weight": (0.5, 1.0, 1.5, 2.0),
    "anchor_weight": (0.5, 1.0, 2.0),
    "sacrum_weight": (0.5, 1.0, 2.0),
    "vertebra_weight": (0.0, 0.5, 1.0),
    "evidence_temperature": (0.35, 0.5, 0.7, 1.0, 1.4, 2.0),
    "common_error": (0.003, 0.01, 0.03, 0.1),
    "open_end_cost": (2.0, 3.0, 4.5),
    "min_evidence": (-1.5, 0.0, 1.5),
}
"""What is tried."""
WORTHWHILE = 0.003
"""A value is moved only if the loss falls by more than this: less is chance."""
DOUBT_WEIGHT = 0.25
"""Of the log loss of "all names are right" against the part of vertebrae that are wrong."""
COVERED = 0.95
"""Part of the patients' versions whose true labelling must be in the stated set."""
MASSES = (*np.round(np.arange(0.5, 1.0, 0.02), 2).tolist(), 0.99, 0.995, 0.999)


@dataclass(frozen=True, slots=True)
class Result:
    """What a decoder makes of one case.

    Attributes:
        case: which.
        n_right, n_wrong: vertebrae named right; missed, mixed up or invented.
        all_right: nothing wrong.
        decision: None where no spine was found.
    """

    case: NamingCase
    n_right: int
    n_wrong: int
    all_right: bool
    decision: SpineDecision | None

    @property
    def loss(self) -> float:
        """Part of the vertebrae that are wrong, and how wrong the decoder was about that."""
        probability = self.decision.level_probability if self.decision else 0.5
        said = probability if self.all_right else 1 - probability
        wrong = min(1.0, self.n_wrong / max(1, len(self.case.truth)))
        return float(wrong - DOUBT_WEIGHT * np.log(np.clip(said, 0.01, 1.0)))

    @property
    def flagged(self) -> bool:
        """Whether a review is asked for."""
        return self.decision is not None and self.decision.needs_review

    def covered(self) -> bool:
        """Tell whether the true names of the found places are among the stated labellings."""
        if self.decision is None or self.all_right:
            return self.all_right
        truth = named_range(tuple(v.name for v in self.case.truth))
        return truth in self.decision.level_set


def decode(case: NamingCase, spec: DecoderSpec) -> Result:
    """Name one case's vertebrae and compare."""
    places, answers = case.found.places, case.found.answers
    evidence = (
        None
        if answers is None
        else LevelEvidence.of_logits(answers, places.positions_mm, case.field)
    )
    try:
        decision = decode_places(places, Decoder(spec), case.field, evidence=evidence)
    except SpineNotFound:
        n = len(case.truth)
        return Result(case, 0, n, n == 0, None)
    scores = score_landmarks(
        decision.landmarks, case.truth, unmarked=case.unmarked, scan_grid=case.field
    )
    right = scores.count("identified")
    extra = sum(outcome.outcome == "extra" for outcome in scores.outcomes)
    return Result(case, right, scores.n_true - right + extra, scores.all_right, decision)


def decode_all(cases: Sequence[NamingCase], spec: DecoderSpec) -> list[Result]:
    """Decode every case that stage 1 lets through."""
    return [decode(case, spec) for case in cases if case.boxed]


def loss(results: Sequence[Result]) -> float:
    """Return the mean loss, every scan weighing the same however many versions it has."""
    by_scan: dict[str, list[float]] = {}
    for result in results:
        by_scan.setdefault(result.case.scan, []).append(result.loss)
    return float(np.mean([np.mean(values) for values in by_scan.values()]))


def fit(cases: Sequence[NamingCase], spec: DecoderSpec) -> DecoderSpec:
    """Return better values, one after the other, then the mass of the stated set."""
    best = loss(decode_all(cases, spec))
    for name, values in GRID.items():
        was = getattr(spec, name)
        trials = {
            v: loss(decode_all(cases, replace(spec, **{name: v}))) for v in values if v != was
        }
        tried = "  ".join(f"{v:g}: {found:.4f}" for v, found in trials.items())
        click.echo(f"{name}: now {was:g}: {best:.4f}  {tried}", err=True)
        value = min(trials, key=lambda v: trials[v])
        if trials[value] < best - WORTHWHILE:
            spec, best = replace(spec, **{name: value}), trials[value]
    return replace(spec, set_mass=fitted_mass(decode_all(cases, replace(spec, set_mass=0.9999))))


def fitted_mass(results: Sequence[Result]) -> float:
    """Return the least mass at which the stated sets hold the truth often enough.

    Conformal risk control (Angelopoulos et al., 2024) with patients as units: the mean over n patients of
    the part of versions not covered, times n / (n + 1), plus 1 / (n + 1), must not exceed 1 - `COVERED`.
    """
    needed: dict[str, list[float]] = {}
    for result in results:
        if result.case.truth and result.decision is not None:
            needed.setdefault(result.case.scan, []).append(_mass_needed(result))
    n = len(needed)
    for mass in MASSES:
        risk = np.mean([np.mean([m > mass for m in values]) for values in needed.values()])
        if (n * risk + 1) / (n + 1) <= 1 - COVERED:
            return float(mass)
    return float(MASSES[-1])


def _mass_needed(result: Result) -> float:
    """Return the mass from which on the true labelling is listed: what is listed before it."""
    if result.all_right or result.decision is None:
        return 0.0
    truth = named_range(tuple(v.name for v in result.case.truth))
    listed = list(result.decision.level_set)
    if truth not in listed:
        return 1.0
    return sum(list(result.decision.level_set.values())[: listed.index(truth)])


HEADER = (
    "| version | cases | vertebrae right % | all right | wrong | of these flagged | right but flagged "
    "| truth in the set |\n|---|---|---|---|---|---|---|---|"
)


def table(results: Sequence[Result]) -> list[str]:
    """Return Markdown rows by kind of version."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        for kind in (result.case.kind, "all"):
            groups.setdefault(kind, []).append(result)
    return [HEADER, *(_row(kind, groups[kind]) for kind in sorted(groups))]


def _row(kind: str, results: Sequence[Result]) -> str:
    n_true = sum(len(r.case.truth) for r in results)
    hits = sum(r.n_right for r in results)
    wrong = [r for r in results if not r.all_right]
    return (
        f"| {kind} | {len(results)} | {100 * hits / max(n_true, 1):.1f} | {len(results) - len(wrong)} "
        f"| {len(wrong)} | {sum(r.flagged for r in wrong)} "
        f"| {sum(r.flagged for r in results if r.all_right)} "
        f"| {100 * np.mean([r.covered() for r in results]):.1f} % |"
    )


def failures(results: Sequence[Result]) -> list[str]:
    """Return a line for every case that is not all right."""
    lines = []
    for r in results:
        if not r.all_right:
            said = "no spine" if r.decision is None else " or ".join(r.decision.level_set)
            flag = "flagged" if r.flagged else "SILENT"
            lines.append(
                f"    {r.case.name}: {r.n_right}/{len(r.case.truth)} right, {flag}: {said}"
            )
    return lines


def fold_asks(trainings: Path) -> Callable[[str], Ask]:
    """Return scan → the level network of the fold that left it out."""
    parts = json.loads((trainings / "folds.json").read_text())["parts"]
    fold_of = {case: fold for fold, part in enumerate(parts) for case in part}
    readers: dict[int, LevelReader] = {}

    def ask(scan: str) -> Ask:
        fold = fold_of[scan]
        if fold not in readers:
            folder = trainings / "bundles" / f"vertebra_levels_fold{fold}"
            readers[fold] = LevelReader(ModelBundle.open(folder))
        return readers[fold].read

    return ask


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--cache", type=click.Path(path_type=Path), required=True, help="Where heat is kept.")
@click.option("--folds", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--weights", type=click.Path(path_type=Path), help="Folder of bundles; or shipped.")
@click.option("--every", default=6, help="Take every so-many-th slab.")
@click.option("--search/--no-search", default=True, help="Or only show the card's values.")
def main(
    data: Path, cache: Path, folds: Path, weights: Path | None, every: int, *, search: bool
) -> None:
    """Run the networks, fit, and print."""
    bundles = (
        [weights / f"{name}_localization" for name in ("spine", "vertebrae")] if weights else []
    )
    namer = Namer.shipped(*bundles)
    card = namer.labels.card
    folder = cache / f"train-{card.weights_sha256[:12]}-{every}"
    cases = cases_of(data, "train", namer, folder, every)
    cases = with_levels(cases, folder, fold_asks(folds), "folds")
    spec = card.decoder
    for title in ("of the card", "fitted") if search else ("of the card",):
        if title == "fitted":
            spec = fit(cases, spec)
        results = decode_all(cases, spec)
        click.echo("\n".join(["", f"**{title}**", "", *table(results), *failures(results)]))
    fitted = {name: getattr(spec, name) for name in (*GRID, "set_mass")}
    click.echo(json.dumps(fitted, indent=1))


if __name__ == "__main__":
    main()
