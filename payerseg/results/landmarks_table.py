"""landmarks.csv: vertebra centres as a table that a person may edit.

Columns `label,X,Y,Z,score,flags`; millimetres, LPS, physical space of the input file. A missing vertebra
has no row. Flags are joined by "|".
"""

from __future__ import annotations

import csv
import io

from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.errors import ArtifactError

COLUMNS = ("label", "X", "Y", "Z", "score", "flags")
_FLAG_SEPARATOR = "|"


def format_landmarks(landmarks: Landmarks) -> str:
    """Return the table as text: micrometres, four digits of score, head to foot."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for mark in landmarks.values():
        x, y, z = (f"{value + 0.0:.3f}" for value in mark.position_mm)
        flags = _FLAG_SEPARATOR.join(mark.flags)
        writer.writerow([mark.vertebra.name, x, y, z, f"{mark.score:.4f}", flags])
    return out.getvalue()


def parse_landmarks(text: str, source: str) -> Landmarks:
    """Read a table, as written or as a person's editor left it.

    The columns may come in any order and case, be separated by commas, semicolons or tabs, and score and
    flags may be missing (a person's mark has score 1). A label is a name (T12) or a VerSe number (19).

    Args:
        text: of the file.
        source: named in messages.

    Raises:
        ArtifactError: names the line and what is wrong with it.
    """
    lines = [line for line in text.lstrip("\ufeff").splitlines() if line.strip()]
    if not lines:
        msg = f"{source} is empty; expected a first line {','.join(COLUMNS)}"
        raise ArtifactError(msg)
    separator = max(",;\t", key=lines[0].count)
    rows = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    names = [name.strip().lower() for name in rows[0]]
    missing = [name for name in COLUMNS[:4] if name.lower() not in names]
    if missing:
        msg = f"{source} has columns {rows[0]}; column {missing[0]} is missing"
        raise ArtifactError(msg)
    marks = [
        _mark(dict(zip(names, row, strict=False)), f"{source}, line {number}")
        for number, row in enumerate(rows[1:], start=2)
    ]
    try:
        return Landmarks(marks)
    except ValueError as error:
        msg = f"{source}: {error}; keep one row per vertebra"
        raise ArtifactError(msg) from error


def _mark(row: dict[str, str], where: str) -> Landmark:
    try:
        flags = tuple(flag for flag in row.get("flags", "").strip().split(_FLAG_SEPARATOR) if flag)
        position = tuple(float(row[axis]) for axis in "xyz")
        score = float(row.get("score", "").strip() or 1.0)
        return Landmark(_vertebra(row["label"]), position, score, flags)
    except (ValueError, KeyError) as error:
        msg = f"{where}: {error}; expected a vertebra such as T12 or 19 and X, Y, Z in mm"
        raise ArtifactError(msg) from error


def _vertebra(label: str) -> Vertebra:
    label = label.strip().upper()
    return Vertebra(int(label)) if label.isdigit() else Vertebra[label]
