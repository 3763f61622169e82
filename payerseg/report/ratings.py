"""What people think of cases: pass, fail or unsure, with a comment; the file that carries it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from payerseg.errors import ArtifactError

RATINGS_FORMAT = 1
RATINGS_FILE = "ratings.json"
CHOICES = ("", "pass", "fail", "unsure")
Ratings = dict[str, "Rating"]


@dataclass(frozen=True, slots=True)
class Rating:
    """One person's word on one case.

    Attributes:
        rating: one of `CHOICES`; "" is a comment only, or a rating taken back.
        comment: free text.
        at: when, ISO 8601 in UTC; of two ratings the later one counts.
    """

    rating: str
    comment: str = ""
    at: str = ""


def read_ratings(path: Path) -> Ratings:
    """Read a ratings file as the cohort page saves it.

    Raises:
        ArtifactError: it is something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        if data["format"] != RATINGS_FORMAT:
            msg = f"{path} has format {data['format']}; expected {RATINGS_FORMAT}"
            raise ArtifactError(msg)
        return {str(case): _rating(entry) for case, entry in data["ratings"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} is no ratings file ({error!r}); save one from the cohort page"
        raise ArtifactError(msg) from error


def _rating(entry: dict[str, str]) -> Rating:
    found = Rating(entry["rating"], str(entry.get("comment", "")), str(entry.get("at", "")))
    if found.rating not in CHOICES:
        msg = f"rating {found.rating!r} is none of pass, fail, unsure"
        raise ValueError(msg)
    return found


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
    data = {
        "format": RATINGS_FORMAT,
        "ratings": {case: asdict(rating) for case, rating in ratings.items()},
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"
