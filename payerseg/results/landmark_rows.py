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

    The columns may come in any order and case, be separated by commas, semicolons or tabs (with these two a
    comma is a decimal point), and score and flags may be missing (a person's mark has score 1). A label is
    a name (T12) or a VerSe number (19).

    Args:
        text: of the file.
        source: named in messages.

    Raises:
        ArtifactError: names the line and what is wrong with it.
    """
    numbered = enumerate(text.lstrip("\ufeff").splitlines(), start=1)
    lines = [(number, line) for number, line in numbered if line.strip()]
    if not lines:
        msg = f"{source} is empty; expected a first line {','.join(COLUMNS)}"
        raise ArtifactError(msg)
    damaged = next((number for number, line in lines if "\0" in line), None)
    if damaged is not None:
        msg = f"{source}, line {damaged}: holds NUL bytes; the file is damaged, or no table of text"
        raise ArtifactError(msg)
    separator = max(",;\t", key=lines[0][1].count)
    reader = csv.reader((line for _, line in lines), delimiter=separator, skipinitialspace=True)
    marks: dict[Vertebra, LandmarkRow] = {}
    names: list[str] = []
    try:
        for row in reader:
            where = f"{source}, line {lines[reader.line_num - 1][0]}"
            if not names:
                names = _columns(row, source)
                continue
            mark = _row(dict(zip(names, row, strict=False)), where, separator)
            if mark.vertebra in marks:
                msg = f"{where}: {mark.vertebra.name} more than once; keep one row per vertebra"
                raise ArtifactError(msg)
            marks[mark.vertebra] = mark
    except csv.Error as error:
        msg = f"{source}, line {lines[min(reader.line_num, len(lines)) - 1][0]}: {error}"
        raise ArtifactError(msg) from error
    return tuple(marks.values())


def _columns(row: list[str], source: str) -> list[str]:
    names = [name.strip().lower() for name in row]
    missing = [name for name in COLUMNS[:4] if name.lower() not in names]
    if missing:
        msg = f"{source} has columns {row}; column {missing[0]} is missing"
        raise ArtifactError(msg)
    return names


def _row(row: dict[str, str], where: str, separator: str) -> LandmarkRow:
    """Read a row; where columns are not separated by commas, a comma is a decimal point."""
    empty = [name for name in COLUMNS[:4] if not row.get(name.lower(), "").strip()]
    if empty:
        msg = f"{where}: no {empty[0]}; expected a vertebra such as T12 or 19 and X, Y, Z in mm"
        raise ArtifactError(msg)
    plain = {k: v if separator == "," else v.replace(",", ".") for k, v in row.items()}
    try:
        flags = tuple(flag for flag in row.get("flags", "").strip().split(FLAG_SEPARATOR) if flag)
        x, y, z = (_finite(plain[axis]) for axis in "xyz")
        score = _finite(plain.get("score", "").strip() or "1")
        return LandmarkRow(_vertebra(row["label"]), (x, y, z), score, flags)
    except (ValueError, KeyError) as error:
        msg = f"{where}: {str(error)[:80]}; expected a vertebra such as T12 or 19 and X, Y, Z in mm"
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
