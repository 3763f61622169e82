"""Two results on one truth: differences case by case, so that hard cases do not hide a change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from payerseg.evaluation.case_scores import CaseScores
from payerseg.evaluation.tables import DEFAULT_DRAWS, Interval, ratio_interval, vertebra_table


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
