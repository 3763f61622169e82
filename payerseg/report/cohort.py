"""The page of a whole results folder: its cases, what stands out among them, and what people think."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np

from payerseg import records
from payerseg.domain.colors import hex_color_of
from payerseg.domain.vertebra import Vertebra
from payerseg.report.case_facts import TITLES
from payerseg.report.page import png_source, render
from payerseg.results.artifacts import FINDINGS, PROJECTION, REPORT, THUMBNAIL
from payerseg.results.formats import read_artifact
from payerseg.stagekit.case_state import CurrentResult
from payerseg.stagekit.catalog import QUALITY_REPORT

RATINGS_FORMAT: Literal[1] = 1
RATINGS_FILE = "ratings.json"
Ratings = dict[str, "Rating"]


@dataclass(frozen=True, slots=True)
class Rating:
    """One person's word on one case.

    Attributes:
        rating: "" is a comment only, or a rating taken back.
        comment: free text.
        at: when, ISO 8601 in UTC; of two ratings the later one counts.
    """

    rating: Literal["", "pass", "fail", "unsure"]
    comment: str = ""
    at: str = ""


@dataclass(frozen=True, slots=True)
class RatingsFile:
    """The content of a ratings file, as the cohort page saves it."""

    format: Literal[1]
    ratings: Ratings


def read_ratings(path: Path) -> Ratings:
    """Read a ratings file.

    Raises:
        ArtifactError: it is something else.
    """
    found = records.read(RatingsFile, path, "save a ratings file from the cohort page")
    return dict(found.ratings) if found is not None else {}


def merge_ratings(sources: Iterable[Ratings]) -> Ratings:
    """Join ratings; of one case the latest counts, among equals the one that is given later."""
    merged: Ratings = {}
    for source in sources:
        for case, rating in source.items():
            if case not in merged or rating.at >= merged[case].at:
                merged[case] = rating
    return dict(sorted(merged.items()))


def ratings_json(ratings: Ratings) -> str:
    """Return the content of a ratings file, the same that the cohort page saves."""
    return records.to_json(RatingsFile(RATINGS_FORMAT, ratings), sort_keys=False)


QUANTITIES = {
    "next_mm": "Distance to the next vertebra, mm",
    "volume_ml": "Volume, ml",
    "core_hu": "Trabecular core, HU",
}
STALE = "stale"
OUTLIER_SCORE = 3.5
"""Of the modified z-score 0.6745 (x - median) / MAD (Iglewicz and Hoaglin 1993)."""
MIN_CASES = 8
"""Fewer values of one level tell nothing about what is usual."""
SMALLEST_SPREAD = 0.03
"""The MAD is taken as at least this part of the median, so that nearly equal values stay silent."""


@dataclass(frozen=True, slots=True)
class CohortCase:
    """One case.

    Attributes:
        case_id: its name.
        status: of the closed set; "" if the last run did not get to it; `STALE` where its results do not
            belong to what lies there now.
        message: the run's sentence about it, or why it is stale.
        vertebrae: rows of findings.json; () where stage 4 has no result.
        findings: of findings.json.
        page: of the case, relative to the results folder; None where there is none.
        picture: PNG file; None where there is none.
        seconds: of all stages.
    """

    case_id: str
    status: str
    message: str = ""
    vertebrae: tuple[dict[str, Any], ...] = ()
    findings: tuple[dict[str, Any], ...] = ()
    page: Path | None = None
    picture: Path | None = None
    seconds: float = 0.0

    @property
    def kind(self) -> str:
        """The status in one of six words: ok, review, no_spine, failed, stale, unfinished."""
        if self.status.startswith("failed"):
            return "failed"
        known = {"ok": "ok", "ok_needs_review": "review", "no_spine": "no_spine", STALE: STALE}
        return known.get(self.status, "unfinished")


@dataclass(frozen=True, slots=True)
class Outlier:
    """A value unlike those of the same level in other cases; `score` as `OUTLIER_SCORE`."""

    case_id: str
    level: str
    quantity: str
    value: float
    median: float
    score: float


@dataclass(slots=True)
class _Values:
    cases: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def read_case(current: CurrentResult) -> CohortCase:
    """Gather what is known of a case; what may not be relied on is left out, and the message says why."""
    folder, refusal = current.folder, current.refusal(QUALITY_REPORT)
    found = read_artifact(FINDINGS, folder.path(FINDINGS)) if current.has(FINDINGS) else {}
    pictures = [folder.path(item) for item in (THUMBNAIL, PROJECTION) if current.has(item)]
    status, message = current.summary.status, current.summary.message
    if refusal and not current.failed:
        status, message = STALE, refusal
    return CohortCase(
        folder.case_id,
        status,
        message,
        tuple(found.get("vertebrae", ())),
        tuple(found.get("findings", ())),
        folder.path(REPORT).relative_to(folder.root.parent) if current.has(REPORT) else None,
        pictures[0] if pictures else None,
        sum(outcome.seconds for outcome in current.summary.stages.values()),
    )


def find_outliers(cases: Iterable[CohortCase]) -> tuple[Outlier, ...]:
    """Return the values that stand out of their level, the strangest first; cut vertebrae are left out."""
    grouped: dict[tuple[str, str], _Values] = defaultdict(_Values)
    for case_id, level, quantity, value in _comparable_values(cases):
        grouped[level, quantity].cases.append(case_id)
        grouped[level, quantity].values.append(value)
    found = []
    for (level, quantity), group in grouped.items():
        median, scores = modified_scores(group.values)
        found += [
            Outlier(case_id, level, quantity, value, median, float(score))
            for case_id, value, score in zip(group.cases, group.values, scores, strict=True)
            if abs(score) > OUTLIER_SCORE
        ]
    return tuple(sorted(found, key=lambda outlier: -abs(outlier.score)))


def _comparable_values(cases: Iterable[CohortCase]) -> Iterator[tuple[str, str, str, float]]:
    """Yield (case, level, quantity, value) of everything that can be compared."""
    for case in cases:
        for row, quantity in product(case.vertebrae, QUANTITIES):
            if comparable(row, quantity):
                yield case.case_id, row["level"], quantity, row[quantity]


def comparable(row: dict[str, Any], quantity: str) -> bool:
    """Tell whether a vertebra has a value that can be held against others of its level."""
    if row.get(quantity) is None:
        return False
    return quantity != "volume_ml" or "border" not in row.get("findings", ())


def modified_scores(values: Sequence[float]) -> tuple[float, np.ndarray]:
    """Return the median and every value's modified z-score; zeros with fewer than `MIN_CASES`."""
    array = np.asarray(values, float)
    median = float(np.median(array))
    if len(array) < MIN_CASES:
        return median, np.zeros(len(array))
    spread = float(np.median(np.abs(array - median)))
    return median, 0.6745 * (array - median) / max(spread, SMALLEST_SPREAD * abs(median), 1e-6)


def cohort_page(name: str, key: str, cases: Sequence[CohortCase], ratings: Ratings) -> str:
    """Return the page.

    Args:
        name: of the results, for the title.
        key: tells this folder of results from others in the browser's memory of ratings.
        cases: all of them.
        ratings: known so far.
    """
    outliers = find_outliers(cases)
    facts = {
        "key": key,
        "format": RATINGS_FORMAT,
        "cases": [_case(case) for case in cases],
        "outliers": [asdict(outlier) for outlier in outliers],
        "ratings": {case: asdict(rating) for case, rating in ratings.items()},
        "quantities": QUANTITIES,
        "titles": TITLES,
        "levels": {v.name: hex_color_of(v.verse_label) for v in Vertebra},
    }
    return render("cohort.html", {"title": name, "data": facts})


def _case(case: CohortCase) -> dict[str, Any]:
    levels = [row["level"] for row in case.vertebrae]
    return {
        "id": case.case_id,
        "status": case.status or "not finished",
        "kind": case.kind,
        "message": case.message,
        "n": len(levels),
        "range": f"{levels[0]}–{levels[-1]}" if levels else "",
        "findings": [
            {key: finding[key] for key in ("code", "severity", "message")}
            for finding in case.findings
        ],
        "values": [
            {"level": row["level"]}
            | {quantity: row[quantity] for quantity in QUANTITIES if comparable(row, quantity)}
            for row in case.vertebrae
        ],
        "page": quote(case.page.as_posix()) if case.page else None,
        "picture": png_source(case.picture.read_bytes()) if case.picture else None,
        "seconds": round(case.seconds, 1),
    }
