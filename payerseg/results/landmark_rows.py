"""Landmarks and spine box as plain values, without numpy: the driver reads them too.

landmarks.csv has columns `label,X,Y,Z,score,flags`; millimetres, LPS, physical space of the input file.
A missing vertebra has no row. Flags are joined by "|".
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass

from payerseg.domain.vertebra import Vertebra
from payerseg.errors import ArtifactError

COLUMNS = ("label", "X", "Y", "Z", "score", "flags")
FLAG_SEPARATOR = "|"


@dataclass(frozen=True, slots=True)
class BoxRecord:
    """The contents of spine_box.json: corners (x, y, z), `low_mm <= high_mm` on every axis."""

    low_mm: tuple[float, float, float]
    high_mm: tuple[float, float, float]
    space: str = "LPS mm"

    def __post_init__(self) -> None:
        if any(low > high for low, high in zip(self.low_mm, self.high_mm, strict=True)):
            msg = f"the box from {self.low_mm} to {self.high_mm} mm is empty"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class LandmarkRow:
    """One line: vertebra, LPS (x, y, z) in mm, score 0..1, flags."""

    vertebra: Vertebra
    position_mm: tuple[float, float, float]
    score: float = 1.0
    flags: tuple[str, ...] = ()


def parse_rows(text: str, source: str) -> tuple[LandmarkRow, ...]:
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
    try:
        rows = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    except csv.Error as error:  # a field longer than any table has
        msg = f"{source} is no table ({error}); expected a first line {','.join(COLUMNS)}"
        raise ArtifactError(msg) from error
    names = [name.strip().lower() for name in rows[0]]
    missing = [name for name in COLUMNS[:4] if name.lower() not in names]
    if missing:
        msg = f"{source} has columns {rows[0]}; column {missing[0]} is missing"
        raise ArtifactError(msg)
    marks = tuple(
        _row(dict(zip(names, row, strict=False)), f"{source}, line {number}")
        for number, row in enumerate(rows[1:], start=2)
    )
    vertebrae = [mark.vertebra for mark in marks]
    twice = {vertebra.name for vertebra in vertebrae if vertebrae.count(vertebra) > 1}
    if twice:
        msg = f"{source} has {', '.join(sorted(twice))} more than once; keep one row per vertebra"
        raise ArtifactError(msg)
    return marks


def _row(row: dict[str, str], where: str) -> LandmarkRow:
    try:
        flags = tuple(flag for flag in row.get("flags", "").strip().split(FLAG_SEPARATOR) if flag)
        x, y, z = (_finite(row[axis]) for axis in "xyz")
        score = _finite(row.get("score", "").strip() or "1")
        return LandmarkRow(_vertebra(row["label"]), (x, y, z), score, flags)
    except (ValueError, KeyError) as error:
        msg = (
            f"{where}: {str(error)[:100]}; expected a vertebra such as T12 or 19 and X, Y, Z in mm"
        )
        raise ArtifactError(msg) from error


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        msg = f"{text[:40]!r} is not finite"
        raise ValueError(msg)
    return value


def _vertebra(label: str) -> Vertebra:
    label = label.strip().upper()
    return Vertebra(int(label)) if label.isdecimal() else Vertebra[label]
