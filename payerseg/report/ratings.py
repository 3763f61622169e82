"""What people think of cases: pass, fail or unsure, with a comment; the file that carries it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from payerseg import records

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
