"""landmarks.csv ↔ landmarks; the format is described in `landmark_rows.py`."""

from __future__ import annotations

import csv
import io

from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.results.landmark_rows import COLUMNS, FLAG_SEPARATOR, parse_rows


def format_landmarks(landmarks: Landmarks) -> str:
    """Return the table as text: micrometres, four digits of score, head to foot."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for mark in landmarks.values():
        x, y, z = (f"{value + 0.0:.3f}" for value in mark.position_mm)
        flags = FLAG_SEPARATOR.join(mark.flags)
        writer.writerow([mark.vertebra.name, x, y, z, f"{mark.score:.4f}", flags])
    return out.getvalue()


def parse_landmarks(text: str, source: str) -> Landmarks:
    """Read a table, as written or as a person's editor left it; see `parse_rows`.

    Raises:
        ArtifactError: names the line and what is wrong with it.
    """
    rows = parse_rows(text, source)
    return Landmarks(Landmark(row.vertebra, row.position_mm, row.score, row.flags) for row in rows)
