"""Scores as tables: per vertebra, scan, level, region and group; two results compared.

They are compared case by case, so that hard cases do not hide a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from payerseg.domain.vertebra import Vertebra
from payerseg.evaluation.case_scores import CaseScores
from payerseg.evaluation.mask_scores import MaskScores

DEFAULT_DRAWS = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its percentile interval.

    Attributes:
        value: of the data as they are.
        low: lower end; the value itself where one scan or none carries it.
        high: upper end.
    """

    value: float
    low: float
    high: float


def ratio_interval(
    numerators: np.ndarray, denominators: np.ndarray, draws: int = DEFAULT_DRAWS, seed: int = 0
) -> Interval | None:
    """Return sum(numerators) / sum(denominators) over scans, with its 95 % interval.

    Args:
        numerators: (n scans,) e.g. identified vertebrae, or the sum of distances.
        denominators: (n scans,) e.g. true vertebrae, or the number of distances.
        draws: bootstrap samples.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        None where nothing is counted.
    """
    kept = np.asarray(denominators, float) > 0
    top, bottom = np.asarray(numerators, float)[kept], np.asarray(denominators, float)[kept]
    if bottom.size == 0:
        return None
    value = float(top.sum() / bottom.sum())
    if bottom.size == 1:
        return Interval(value, value, value)
    chosen = np.random.default_rng(seed).integers(0, bottom.size, (draws, bottom.size))
    means = top[chosen].sum(axis=1) / bottom[chosen].sum(axis=1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(value, float(low), float(high))


THICK_MM = 4.0
"""Scans with slices this thick are listed apart: their marks are no better than 2 to 3 mm."""
ALL = "all"
SURFACE_COLUMNS = ("hausdorff_mm", "hd95_mm", "assd_mm")


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one group of scans; None where nothing carries a figure.

    Attributes:
        group: its name; "all" for everything.
        scans: scored scans with at least one true vertebra.
        vertebrae: true vertebrae.
        id_rate: identified / true, VerSe's definition.
        strict_id_rate: the same by the challenge's text: no true centre of any name is nearer.
        missed: true, not predicted.
        extra: predicted, not true (tolerated ones not counted).
        distance_mm: mean over identified ones of scans with thin slices.
        distance_thick_mm: the same where slices are 4 mm and more.
        all_right: scans with every vertebra identified and none invented.
        strictly_all_right: those where no true centre of any name is nearer, and nothing is named that is not
            in the truth, tolerated or not.
        shifted: scans with a run of at least two names off by the same number of levels.
        silently_wrong: scans that are not all right and do not ask for review.
        wrong_flagged: scans that are not all right and ask for review.
        right_flagged: scans that are all right and ask for review all the same.
        stated: scans of which a set of labellings is stated.
        in_set: those of which one of the stated labellings is right.
        probability_auc: how well the stated probability tells scans that are all right from others: part
            of the pairs of one each in which the right one has the higher (a tie counts half).
        outside_box: true centres outside stage 1's box; None where no box is known.
        dice: mean over true labels, a missed one counts 0.
        dice_worst_level: level with the lowest mean.
        dice_of_worst_level: that mean.
        hd95_mm: mean over labels found.
        assd_mm: mean over labels found.
        no_spine_scans: scans without true vertebrae.
        no_spine_right: those where none was predicted.
    """

    group: str
    scans: int
    vertebrae: int
    id_rate: Interval | None
    strict_id_rate: Interval | None
    missed: int
    extra: int
    distance_mm: Interval | None
    distance_thick_mm: Interval | None
    all_right: int
    strictly_all_right: int
    shifted: int
    silently_wrong: int
    wrong_flagged: int
    right_flagged: int
    stated: int
    in_set: int
    probability_auc: float | None
    outside_box: int | None
    dice: Interval | None
    dice_worst_level: str | None
    dice_of_worst_level: float | None
    hd95_mm: Interval | None
    assd_mm: Interval | None
    no_spine_scans: int
    no_spine_right: int


def vertebra_table(cases: Sequence[CaseScores]) -> pd.DataFrame:
    """One row per case and vertebra: outcome, distance, and the scores of its mask."""
    rows = []
    for case in cases:
        masks = {score.label: score for score in case.masks}
        for one in case.landmarks.outcomes:
            row: dict[str, float | str | None] = {
                "case": case.case_id,
                "group": case.group,
                "vertebra": one.vertebra.name,
                "region": str(one.vertebra.region),
                "outcome": one.outcome,
                "distance_mm": one.distance_mm,
                "lies_at": one.nearest.name if one.nearest else None,
            }
            rows.append({**row, **_mask_columns(masks.get(one.vertebra.verse_label))})
    columns = ["case", "group", "vertebra", "region", "outcome", "distance_mm", "lies_at"]
    return pd.DataFrame(rows, columns=[*columns, *_mask_columns(None)])


def scan_table(cases: Sequence[CaseScores]) -> pd.DataFrame:
    """One row per case."""
    rows = []
    for case in cases:
        marks = case.landmarks
        dices = [score.dice for score in case.masks]
        rows.append(
            {
                "case": case.case_id,
                "group": case.group,
                "status": case.status,
                "needs_review": case.needs_review,
                "vertebrae": marks.n_true,
                "identified": marks.count("identified"),
                "strictly_identified": marks.n_strictly_identified,
                "far": marks.count("far"),
                "mixed_up": marks.count("mixed_up"),
                "missed": marks.count("missed"),
                "extra": marks.count("extra"),
                "tolerated_extra": marks.count("tolerated_extra"),
                "distance_mm": _mean(marks.distances_mm),
                "all_right": marks.all_right,
                "strictly_all_right": marks.strictly_all_right,
                "silently_wrong": case.silently_wrong,
                "in_set": case.in_set,
                "probability": case.probability,
                "shift_levels": marks.shift.levels,
                "shifted_vertebrae": marks.shift.n_vertebrae,
                "outside_box": None if case.n_in_box is None else marks.n_true - case.n_in_box,
                "slice_mm": case.slice_mm,
                "dice": _mean(np.array(dices)),
                "dice_min": min(dices, default=None),
            }
        )
    return pd.DataFrame(rows)


def summed_by(vertebrae: pd.DataFrame, key: str) -> pd.DataFrame:
    """Sum the vertebra table up by "vertebra" or "region", head to foot."""
    rows = []
    for name, part in vertebrae.groupby(key, sort=False):
        true = part[~part["outcome"].isin(["extra", "tolerated_extra"]) & part["outcome"].notna()]
        hits = true[true["outcome"] == "identified"]
        row = {
            key: name,
            "true": len(true),
            "identified": len(hits),
            "id_rate": len(hits) / len(true) if len(true) else None,
            "missed": int((true["outcome"] == "missed").sum()),
            "extra": int((part["outcome"] == "extra").sum()),
            "distance_mm": _mean(hits["distance_mm"].to_numpy(float)),
        }
        scored = [c for c in part.columns if c == "dice" or c in SURFACE_COLUMNS or "surface" in c]
        rows.append(row | {c: _mean(part[c].to_numpy(float)) for c in [*scored, "volume_error"]})
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    ranks = {v.name: v.rank for v in Vertebra} | {"cervical": 0, "thoracic": 1, "lumbar": 2}
    return table.sort_values(key, key=lambda names: names.map(ranks)).reset_index(drop=True)


def figures(
    cases: Sequence[CaseScores], draws: int = DEFAULT_DRAWS, seed: int = 0
) -> list[Figures]:
    """Return the figures of each group in order of appearance, and of all where there are several."""
    groups = list(dict.fromkeys(case.group for case in cases))
    parts = [(name or ALL, [c for c in cases if c.group == name]) for name in groups]
    if len(groups) > 1:
        parts.append((ALL, list(cases)))
    return [_figures_of(name, part, draws, seed) for name, part in parts]


def figures_table(found: Sequence[Figures]) -> pd.DataFrame:
    """One row per group, an interval as three columns."""
    rows = []
    for one in found:
        row: dict[str, object] = {}
        for name, value in asdict(one).items():
            if isinstance(value, dict):
                row |= {name: value["value"], f"{name}_low": value["low"]}
                row |= {f"{name}_high": value["high"]}
            else:
                row[name] = value
        rows.append(row)
    return pd.DataFrame(rows)


def _figures_of(name: str, cases: list[CaseScores], draws: int, seed: int) -> Figures:
    spines = [case for case in cases if case.landmarks.n_true]
    empty = [case for case in cases if not case.landmarks.n_true]
    marks = [case.landmarks for case in spines]
    wrong = [case for case in spines if not case.landmarks.all_right]
    thick = [case for case in spines if (case.slice_mm or 0) >= THICK_MM]
    thin = [case for case in spines if (case.slice_mm or 0) < THICK_MM]
    boxes = [case for case in spines if case.n_in_box is not None]
    worst = _worst_level(spines)

    n_true = np.array([m.n_true for m in marks])

    def mean(values: list[list[float]]) -> Interval | None:
        sums = np.array([np.sum(v) for v in values])
        return ratio_interval(sums, np.array([len(v) for v in values]), draws, seed)

    return Figures(
        group=name,
        scans=len(spines),
        vertebrae=sum(m.n_true for m in marks),
        id_rate=ratio_interval(
            np.array([m.count("identified") for m in marks]), n_true, draws, seed
        ),
        strict_id_rate=ratio_interval(
            np.array([m.n_strictly_identified for m in marks]), n_true, draws, seed
        ),
        missed=sum(m.count("missed") for m in marks),
        extra=sum(case.landmarks.count("extra") for case in cases),
        distance_mm=mean([list(case.landmarks.distances_mm) for case in thin]),
        distance_thick_mm=mean([list(case.landmarks.distances_mm) for case in thick]),
        all_right=len(spines) - len(wrong),
        strictly_all_right=sum(m.strictly_all_right for m in marks),
        shifted=sum(m.shift.levels != 0 for m in marks),
        silently_wrong=sum(case.silently_wrong for case in spines),
        wrong_flagged=sum(bool(case.needs_review) for case in wrong),
        right_flagged=sum(bool(c.needs_review) for c in spines if c.landmarks.all_right),
        stated=sum(case.in_set is not None for case in spines),
        in_set=sum(bool(case.in_set) for case in spines),
        probability_auc=_probability_auc(spines),
        outside_box=sum(c.landmarks.n_true - (c.n_in_box or 0) for c in boxes) if boxes else None,
        dice=mean([[score.dice for score in case.masks] for case in spines]),
        dice_worst_level=worst[0] if worst else None,
        dice_of_worst_level=worst[1] if worst else None,
        hd95_mm=mean([[s.surfaces.hd95_mm for s in c.masks if s.surfaces] for c in spines]),
        assd_mm=mean([[s.surfaces.assd_mm for s in c.masks if s.surfaces] for c in spines]),
        no_spine_scans=len(empty),
        no_spine_right=sum(case.landmarks.all_right for case in empty),
    )


def _probability_auc(cases: list[CaseScores]) -> float | None:
    """Return the AUC of the stated probability; None without a right and a wrong scan that state one."""
    said = [c for c in cases if c.probability is not None]
    right, wrong = (
        np.array([c.probability for c in said if c.landmarks.all_right is wanted], float)
        for wanted in (True, False)
    )
    if not len(right) or not len(wrong):
        return None
    gaps = right[:, None] - wrong[None]
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def _worst_level(cases: list[CaseScores]) -> tuple[str, float] | None:
    by_label: dict[int, list[float]] = {}
    for case in cases:
        for score in case.masks:
            by_label.setdefault(score.label, []).append(score.dice)
    if not by_label:
        return None
    label = min(by_label, key=lambda one: np.mean(by_label[one]))
    return Vertebra(label).name, float(np.mean(by_label[label]))


def _mask_columns(score: MaskScores | None) -> dict[str, float | None]:
    surfaces = score.surfaces if score else None
    row = {
        "dice": score.dice if score else None,
        "volume_ml": score.volume_ml if score else None,
        "true_volume_ml": score.true_volume_ml if score else None,
        "volume_error": score.volume_error if score else None,
    }
    row |= {name: getattr(surfaces, name) if surfaces else None for name in SURFACE_COLUMNS}
    shares = surfaces.surface_dice if surfaces else {1.0: None, 2.0: None, 3.0: None}
    return row | {f"surface_dice_{mm:g}mm": share for mm, share in shares.items()}


def _mean(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else None


@dataclass(frozen=True, slots=True)
class Difference:
    """One score, second results minus first, over what both have.

    Attributes:
        score: its name.
        n: vertebrae compared.
        first: mean of the first results.
        second: mean of the second results.
        difference: mean difference with its 95 % interval over scans.
        better: vertebrae for which the second is better (smaller distance, larger share).
        worse: … worse.
    """

    score: str
    n: int
    first: float
    second: float
    difference: Interval
    better: int
    worse: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.difference.low > 0 or self.difference.high < 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results on the same truth.

    Attributes:
        first: name of the first results.
        second: name of the second.
        cases: scans both were scored on.
        differences: by score.
        changed: table of the vertebrae whose outcome differs.
    """

    first: str
    second: str
    cases: int
    differences: tuple[Difference, ...]
    changed: pd.DataFrame


SMALLER_IS_BETTER = ("distance_mm", "hd95_mm", "assd_mm", "hausdorff_mm")
COMPARED = (
    "identified", "distance_mm", "dice", "hd95_mm", "assd_mm",
    "surface_dice_1mm", "surface_dice_2mm", "surface_dice_3mm",
)  # fmt: skip


def compare(
    first: tuple[str, Sequence[CaseScores]],
    second: tuple[str, Sequence[CaseScores]],
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compare two results that were scored against the same truth.

    Args:
        first: name and scores.
        second: name and scores; only cases that both hold are compared.
        draws: bootstrap samples.
        seed: of the draws.
    """
    common = {c.case_id for c in first[1]} & {c.case_id for c in second[1]}
    tables = []
    for _, cases in (first, second):
        table = vertebra_table([case for case in cases if case.case_id in common])
        table["identified"] = (table["outcome"] == "identified").astype(float)
        table.loc[table["outcome"].isna(), "identified"] = np.nan
        tables.append(table)
    both = tables[0].merge(tables[1], on=["case", "vertebra"], suffixes=("_1", "_2"), how="outer")
    differences = [_difference(both, score, draws, seed) for score in COMPARED]
    outcome = both[["outcome_1", "outcome_2"]].fillna("-")
    changed = both.loc[outcome["outcome_1"] != outcome["outcome_2"]]
    return Comparison(
        first=first[0],
        second=second[0],
        cases=len(common),
        differences=tuple(d for d in differences if d is not None),
        changed=changed[["case", "vertebra", "outcome_1", "outcome_2"]].reset_index(drop=True),
    )


def _difference(both: pd.DataFrame, score: str, draws: int, seed: int) -> Difference | None:
    """Compare one score over the true vertebrae for which both have it."""
    kept = both[both[f"{score}_1"].notna() & both[f"{score}_2"].notna()]
    extras = ["extra", "tolerated_extra"]
    kept = kept[~kept["outcome_1"].isin(extras) & ~kept["outcome_2"].isin(extras)]
    if score == "distance_mm":
        kept = kept[(kept["identified_1"] == 1) & (kept["identified_2"] == 1)]
    if kept.empty:
        return None
    gap = (kept[f"{score}_2"] - kept[f"{score}_1"]).astype(float)
    by_case = gap.groupby(kept["case"])
    interval = ratio_interval(by_case.sum().to_numpy(), by_case.count().to_numpy(), draws, seed)
    if interval is None:
        return None
    gain = -gap if score in SMALLER_IS_BETTER else gap
    return Difference(
        score=score,
        n=len(kept),
        first=float(kept[f"{score}_1"].mean()),
        second=float(kept[f"{score}_2"].mean()),
        difference=interval,
        better=int((gain > 1e-9).sum()),
        worse=int((gain < -1e-9).sum()),
    )
