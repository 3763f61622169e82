"""Fit what the naming decoder knows of its networks, on scans that the level network has not seen.

    python benchmarks/variants.py DATA CASES --split train --every 6
    payerseg run CASES/images -o RESULTS --to-stage vertebrae_localization
    python benchmarks/calibrate.py RESULTS --truth CASES --folds TRAININGS

TRAININGS is the output folder of `payerseg train fit PACK -o TRAININGS --stage levels --fold K` for every K:
each scan's level evidence comes from the fold that left its patient out; the places are those of the run. It
prints the figures with the card's values and with the fitted ones, and the values to put onto the card
(`decoder` of model.json).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

from payerseg.config.graph import DecoderSpec
from payerseg.config.weights import default_bundle
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.volume import Volume
from payerseg.errors import SpineNotFound
from payerseg.evaluation.case_scores import (
    CaseScores,
    ScoringRules,
    first_right_labelling,
    score_case,
)
from payerseg.evaluation.evaluation_report import figure_rows, markdown_table, what_is_wrong
from payerseg.evaluation.predictions import Prediction, find_predictions, read_prediction
from payerseg.evaluation.tables import figures
from payerseg.evaluation.truth import Truth, TruthRules, find_truth, read_groups, read_truth
from payerseg.inference.level_reader import LevelReader
from payerseg.networks.bundle import ModelBundle
from payerseg.postprocess.decision import SpineDecision
from payerseg.postprocess.level_evidence import LevelEvidence
from payerseg.postprocess.naming import Found, found_from_record
from payerseg.postprocess.review import range_labels
from payerseg.postprocess.spine_decoder import Decoder, decode_places
from payerseg.results.artifacts import CANDIDATES, CT
from payerseg.results.formats import read_artifact
from payerseg.training.folds import Folds

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
"""Part of the patients' versions of which one of the stated labellings must be right."""
MASSES = (*np.round(np.arange(0.5, 1.0, 0.02), 2).tolist(), 0.99, 0.995, 0.999)
RULES = ScoringRules(masks=False)

Ask = Callable[[Volume, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class NamingCase:
    """One version of a scan as the decoder gets it.

    Attributes:
        scan: what it is a version of.
        group: the group it is counted in.
        found: places, and what the networks say of them.
        truth: what must be, and what may be found.
        field: the version's grid.
    """

    scan: str
    group: str
    found: Found
    truth: Truth
    field: Grid


@dataclass(frozen=True, slots=True)
class Result:
    """What a decoder makes of one case.

    Attributes:
        case: which.
        prediction: what the decision says.
        scores: of it.
        decision: None where no spine was found.
    """

    case: NamingCase
    prediction: Prediction
    scores: CaseScores
    decision: SpineDecision | None

    @property
    def loss(self) -> float:
        """Part of the vertebrae that are wrong, and how wrong the decoder was about that."""
        marks = self.scores.landmarks
        probability = self.decision.level_probability if self.decision else 0.5
        said = probability if marks.all_right else 1 - probability
        n_wrong = marks.n_true - marks.count("identified") + marks.count("extra")
        wrong = min(1.0, n_wrong / max(1, marks.n_true))
        return float(wrong - DOUBT_WEIGHT * np.log(np.clip(said, 0.01, 1.0)))

    @property
    def mass_needed(self) -> float:
        """The mass from which on a right labelling is stated: what is stated before it."""
        if self.scores.landmarks.all_right or self.decision is None:
            return 0.0
        first = first_right_labelling(self.prediction, self.case.truth, self.case.field)
        return 1.0 if first is None else sum(list(self.decision.level_set.values())[:first])


def decode(case: NamingCase, spec: DecoderSpec) -> Result:
    """Name one case's vertebrae and compare."""
    places, answers = case.found.places, case.found.answers
    evidence = (
        None
        if answers is None
        else LevelEvidence.of_logits(answers, places.positions_mm, case.field)
    )
    said = Prediction(case.truth.case_id, Landmarks(), needs_review=True, scan_grid=case.field)
    decision = None
    try:
        decision = decode_places(places, Decoder(spec), case.field, evidence=evidence)
        said = replace(
            said,
            landmarks=decision.landmarks,
            needs_review=decision.needs_review,
            level_set=tuple(range_labels(text) for text in decision.level_set),
            level_probability=decision.level_probability,
        )
    except SpineNotFound:
        pass
    return Result(case, said, score_case(said, case.truth, RULES, case.group), decision)


def decode_all(cases: Sequence[NamingCase], spec: DecoderSpec) -> list[Result]:
    """Decode every case."""
    return [decode(case, spec) for case in cases]


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
        if result.case.truth.landmarks and result.decision is not None:
            needed.setdefault(result.case.scan, []).append(result.mass_needed)
    n = len(needed)
    for mass in MASSES:
        risk = np.mean([np.mean([m > mass for m in values]) for values in needed.values()])
        if (n * risk + 1) / (n + 1) <= 1 - COVERED:
            return float(mass)
    return float(MASSES[-1])


def read_cases(
    results: Path, truth: Path, asks: Callable[[str], Ask], cache: Path
) -> list[NamingCase]:
    """Return what the run found in each version, with the answers of the fold that left its patient out.

    Args:
        results: of the run; scans in which stage 1 saw no spine are left out.
        truth: the versions, as `variants.py` wrote them.
        asks: scan to the level network to ask.
        cache: keeps its answers, by case and places.
    """
    cache.mkdir(parents=True, exist_ok=True)
    rules, groups, predictions = (
        TruthRules(),
        read_groups(truth / "groups.csv"),
        find_predictions(results),
    )
    cases = []
    for key, files in find_truth(truth, rules).items():
        folder = predictions[key].folder if key in predictions else None
        if folder is None or not folder.path(CANDIDATES).is_file():
            continue
        found = found_from_record(read_artifact(CANDIDATES, folder.path(CANDIDATES)))
        points, scan = found.places.positions_mm, key.partition("--")[0]
        path = cache / f"{key}-{hashlib.sha256(points.tobytes()).hexdigest()[:12]}.npy"
        if not path.exists():
            np.save(path, asks(scan)(read_artifact(CT, folder.path(CT)), points))
        field = read_prediction(predictions[key]).scan_grid
        true = read_truth(files, rules, with_labels=False)
        found = replace(found, answers=np.load(path, allow_pickle=False))
        cases.append(NamingCase(scan, groups.get(key, ""), found, true, field))
    return cases


def fold_asks(trainings: Path) -> Callable[[str], Ask]:
    """Return scan → the level network of the fold that left it out."""
    parts = Folds.read(trainings / "folds.json").parts
    fold_of = {case: fold for fold, part in enumerate(parts) for case in part}
    readers: dict[int, LevelReader] = {}

    def ask(scan: str) -> Ask:
        fold = fold_of[scan]
        if fold not in readers:
            folder = trainings / "bundles" / f"vertebra_levels_fold{fold}"
            readers[fold] = LevelReader(ModelBundle.open(folder))
        return readers[fold].read

    return ask


def report(title: str, results: Sequence[Result]) -> str:
    """Return the figures by group, and what is wrong with which case."""
    scores = [result.scores for result in results]
    wrong = [f"- {s.case_id}: {what_is_wrong(s)}" for s in scores if not s.landmarks.all_right]
    return "\n".join([f"\n**{title}**\n", markdown_table(figure_rows(figures(scores))), *wrong])


@click.command(help=__doc__)
@click.argument("results", type=click.Path(path_type=Path, exists=True))
@click.option("--truth", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--folds", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Of answers. [default: in FOLDS]")
@click.option("--model_step2", "bundle", type=click.Path(path_type=Path), help="As for the run.")
@click.option("--search/--no-search", default=True, help="Or only show the card's values.")
def main(
    results: Path,
    truth: Path,
    folds: Path,
    cache: Path | None,
    bundle: Path | None,
    *,
    search: bool,
) -> None:
    """Ask the level networks, fit, and print."""
    cases = read_cases(results, truth, fold_asks(folds), cache or folds / "answers")
    spec = ModelBundle.open(bundle or default_bundle("vertebrae_localization")).card.decoder
    for title in ("of the card", "fitted") if search else ("of the card",):
        if title == "fitted":
            spec = fit(cases, spec)
        click.echo(report(title, decode_all(cases, spec)))
    fitted = {name: getattr(spec, name) for name in (*GRID, "set_mass")}
    click.echo(json.dumps(fitted, indent=1))


if __name__ == "__main__":
    main()
