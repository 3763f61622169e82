"""The page of a whole results folder: one table to sort, filter and rate, and what stands out."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from typing import Any
from urllib.parse import quote

from payerseg.domain.colors import hex_color_of
from payerseg.domain.vertebra import Vertebra
from payerseg.report.cohort_cases import QUANTITIES, CohortCase, comparable, find_outliers
from payerseg.report.findings import TITLES
from payerseg.report.html_text import NO_NETWORK, asset, embedded_json, fill
from payerseg.report.ratings import RATINGS_FORMAT, Ratings
from payerseg.version import __version__


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
    return fill(
        "cohort.html",
        {
            "policy": NO_NETWORK,
            "title": escape(name),
            "style": asset("page.css") + asset("cohort.css"),
            "version": escape(__version__),
            "facts": embedded_json(facts),
            "script": asset("charts.js") + asset("cohort.js").replace('"use strict";\n', "", 1),
        },
    )


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
        "picture": _source(case),
        "seconds": round(case.seconds, 1),
    }


def _source(case: CohortCase) -> str | None:
    if case.picture is None:
        return None
    return f"data:image/png;base64,{base64.b64encode(case.picture.read_bytes()).decode('ascii')}"
