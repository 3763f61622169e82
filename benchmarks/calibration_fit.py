"""Which decoder settings suit a network: scores of cases, a search over settings, tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import click
import numpy as np
from calibration_cases import Case

from payerseg.config.graph import GraphConfig
from payerseg.errors import SpineNotFound
from payerseg.evaluation.landmark_scores import score_landmarks
from payerseg.postprocess.calibration import fit_temperature
from payerseg.postprocess.spine_decoder import decode_spine

GRID: dict[str, tuple[float, ...]] = {
    "common_error": (0.003, 0.01, 0.05),
    "neighbour_confusion": (0.04, 0.08, 0.16),
    "open_end_cost": (1.5, 3.0, 4.5),
    "presence_heat": (0.25, 0.35, 0.5),
    "presence_weight": (2.0, 3.0, 4.0),
    "min_evidence": (-1.5, -0.5, 0.5),
    "sure_heat": (1.0, 1.1, 1.3),
}
"""What is tried."""
TEMPERATURES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
WORTHWHILE = 0.003
"""A setting is moved only if the loss falls by more than this: less is chance."""
DOUBT_WEIGHT = 0.25
"""Of the log loss of "all names are right" against the part of vertebrae that are wrong."""
WRONG_FLAGGED = 0.92
"""Part of the wrong results that must ask for a review."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one setting makes of one case.

    Attributes:
        case: which.
        n_right, n_wrong: vertebrae named right; missed, mixed up or invented.
        all_right: nothing wrong.
        probability: that all names are right, as the decoder says; 0.5 without a spine.
        other_reasons: whether a review is asked for, the level's probability apart.
        named: whether a spine was found at all; without one nothing can ask for a review.
    """

    case: Case
    n_right: int
    n_wrong: int
    all_right: bool
    probability: float
    other_reasons: bool
    named: bool = True

    @property
    def loss(self) -> float:
        """Part of the vertebrae that are wrong, and how wrong the decoder was about that."""
        said = self.probability if self.all_right else 1 - self.probability
        doubt = -np.log(np.clip(said, 0.01, 1.0))
        wrong = min(1.0, self.n_wrong / max(1, len(self.case.example.truth)))
        return float(wrong + DOUBT_WEIGHT * doubt)

    def flagged(self, threshold: float) -> bool:
        """Whether a review is asked for."""
        return self.named and (self.other_reasons or self.probability < threshold)


def decode(case: Case, config: GraphConfig) -> Result:
    """Name one case's vertebrae and compare."""
    example = case.example
    try:
        decision = decode_spine(
            example.candidates, config=replace(config, review_probability=0.0), field=example.field
        )
    except SpineNotFound:
        n = len(example.truth)
        return Result(case, 0, n, n == 0, 0.5, other_reasons=False, named=False)
    scores = score_landmarks(
        decision.landmarks, example.truth, unmarked=case.unmarked, scan_grid=example.field
    )
    right = scores.count("identified")
    extra = sum(outcome.outcome == "extra" for outcome in scores.outcomes)
    wrong = scores.n_true - right + extra
    return Result(
        case, right, wrong, scores.all_right, decision.level_probability, decision.needs_review
    )


def decode_all(cases: Sequence[Case], config: GraphConfig) -> list[Result]:
    """Decode every case that stage 1 lets through."""
    return [decode(case, config) for case in cases if case.boxed]


def loss(cases: Sequence[Case], config: GraphConfig) -> float:
    """Return the mean loss, every scan weighing the same however many versions it has."""
    by_scan: dict[str, list[float]] = {}
    for result in decode_all(cases, config):
        by_scan.setdefault(result.case.scan, []).append(result.loss)
    return float(np.mean([np.mean(values) for values in by_scan.values()]))


def fit(cases: Sequence[Case], config: GraphConfig, *, tell: bool) -> GraphConfig:
    """Return better settings: the temperature, then one after the other, then the temperature again."""
    config = fit_evidence(cases, config)
    best = loss(cases, config)
    for name, values in GRID.items():
        was = getattr(config, name)
        trials = {v: loss(cases, replace(config, **{name: v})) for v in values if v != was}
        value = min(trials, key=lambda v: trials[v])
        if tell:
            tried = "  ".join(f"{v:g}: {found:.4f}" for v, found in trials.items())
            click.echo(f"{name}: now {was:g}: {best:.4f}  {tried}", err=True)
        if trials[value] < best - WORTHWHILE:
            config, best = replace(config, **{name: value}), trials[value]
    return fit_flags(cases, config)


def fit_flags(cases: Sequence[Case], config: GraphConfig) -> GraphConfig:
    """Return the settings with a temperature and a review threshold that fit; names hardly change."""
    config = fit_evidence(cases, config)
    return replace(config, review_probability=review_threshold(decode_all(cases, config)))


def fit_evidence(cases: Sequence[Case], config: GraphConfig) -> GraphConfig:
    """Return the settings with the temperature under which the true levels are most probable."""
    examples = [case.example for case in cases if case.boxed]
    fitted = fit_temperature(examples, config=config, temperatures=TEMPERATURES)
    return replace(config, evidence_temperature=fitted.temperature)


def review_threshold(results: Sequence[Result]) -> float:
    """Return the smallest probability below which a review catches nearly all wrong results."""
    wrong = [r for r in results if r.named and not r.all_right]
    open_ones = sorted(r.probability for r in wrong if not r.other_reasons)
    may_slip = int((1 - WRONG_FLAGGED) * len(wrong))
    caught = open_ones[: max(0, len(open_ones) - may_slip)]
    return float(np.clip(np.ceil(100 * caught[-1] + 1) / 100 if caught else 0.5, 0.5, 0.99))


HEADER = (
    "| version | cases | vertebrae | id rate % | all right | wrong | of these flagged "
    "| right but flagged | mean loss |\n|---|---|---|---|---|---|---|---|---|"
)


def table(results: Sequence[Result], thresholds: Sequence[float]) -> list[str]:
    """Return Markdown rows by kind of version.

    Args:
        results: of all cases.
        thresholds: the review threshold of each.
    """
    groups: dict[str, list[tuple[Result, float]]] = {}
    for result, threshold in zip(results, thresholds, strict=True):
        for kind in (result.case.kind, "all"):
            groups.setdefault(kind, []).append((result, threshold))
    return [_row(kind, groups[kind]) for kind in sorted(groups)]


def _row(kind: str, rated: list[tuple[Result, float]]) -> str:
    results = [result for result, _ in rated]
    n_true = sum(len(r.case.example.truth) for r in results)
    hits = sum(r.n_right for r in results)
    wrong = [(r, t) for r, t in rated if not r.all_right]
    caught = sum(r.flagged(t) for r, t in wrong)
    needless = sum(r.flagged(t) for r, t in rated if r.all_right)
    return (
        f"| {kind} | {len(results)} | {n_true} | {100 * hits / max(n_true, 1):.1f} "
        f"| {len(results) - len(wrong)} | {len(wrong)} | {caught} | {needless} "
        f"| {np.mean([r.loss for r in results]):.3f} |"
    )


def cross_checked(
    cases: Sequence[Case], config: GraphConfig, folds: int
) -> tuple[list[Result], list[float]]:
    """Return results, and thresholds, of settings that were fitted without the scan at hand."""
    scans = sorted({case.scan for case in cases})
    results, thresholds = [], []
    for fold in range(folds):
        left_out = set(scans[fold::folds])
        fitted = fit([case for case in cases if case.scan not in left_out], config, tell=False)
        click.echo(f"fold {fold}: {changes(config, fitted)}", err=True)
        found = decode_all([case for case in cases if case.scan in left_out], fitted)
        results += found
        thresholds += [fitted.review_probability] * len(found)
    return results, thresholds


def changes(before: GraphConfig, after: GraphConfig) -> str:
    """Say which settings differ."""
    names = (*GRID, "evidence_temperature", "review_probability")
    moved = [
        f"{n} = {getattr(after, n):g}" for n in names if getattr(after, n) != getattr(before, n)
    ]
    return ", ".join(moved) or "no change"


def show(title: str, results: Sequence[Result], thresholds: Sequence[float]) -> None:
    """Print one table."""
    click.echo("\n".join(["", f"**{title}**", "", HEADER, *table(results, thresholds)]))
