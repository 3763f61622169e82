"""The page of a whole results folder: one table to sort, filter and rate, and what stands out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from payerseg.domain.colors import hex_color_of
from payerseg.domain.vertebra import Vertebra
from payerseg.report.cohort_cases import QUANTITIES, CohortCase, comparable, find_outliers
from payerseg.report.findings import TITLES
from payerseg.report.pages import png_source, render
from payerseg.report.ratings import RATINGS_FORMAT, Ratings


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
