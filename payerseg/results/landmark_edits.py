"""Can a landmark table that a person edited be used? Without numpy: asked before anything is loaded."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from payerseg import records
from payerseg.errors import ArtifactError
from payerseg.results.artifacts import LANDMARKS_CSV, LANDMARKS_JSON, SCAN
from payerseg.results.case_folder import CaseFolder
from payerseg.results.landmark_rows import LandmarkRow, parse_rows

Point = Sequence[float]
MIRRORED = (-1.0, -1.0, 1.0)
"""From RAS to LPS millimetres and back."""
NEARER = 0.2
"""Points are in RAS if, with x and y turned over, they lie this much nearer to where they were found."""


def refused_edit(folder: CaseFolder) -> str:
    """Say why an edited landmarks.csv cannot be used; "" where it can.

    It is read as stage 3 would read it, and every point has to lie in the scan.
    """
    path = folder.path(LANDMARKS_CSV)
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = parse_rows(text, str(path))
        return next(_misplaced(folder, path, rows), "")
    except (OSError, UnicodeDecodeError) as error:
        return f"{path} cannot be read as UTF-8 text ({error})"
    except ArtifactError as error:
        return str(error)


def _misplaced(folder: CaseFolder, path: Path, rows: Sequence[LandmarkRow]) -> Iterator[str]:
    hint = "expected LPS millimetres in the physical space of the scan"
    if _signs_are_ras(folder, rows):
        yield f"{path}: X and Y have the signs of RAS; {hint}: turn both signs over"
    scan = records.read(dict[str, Any], folder.path(SCAN), "run the preparation again")
    grid = (scan or {}).get("ct_grid")
    if not isinstance(grid, dict):
        return
    for row in rows:
        if not _contains(grid, row.position_mm):
            place = ", ".join(f"{value:g}" for value in row.position_mm)
            turned = [sign * v for sign, v in zip(MIRRORED, row.position_mm, strict=True)]
            ras = (
                "; with the signs of RAS turned over it would not"
                if _contains(grid, turned)
                else ""
            )
            yield f"{path}: {row.vertebra.name} at {place} mm lies outside the scan{ras}; {hint}"


def _signs_are_ras(folder: CaseFolder, rows: Sequence[LandmarkRow]) -> bool:
    """Tell by the places where stage 2 found the same vertebrae, if it found any."""
    decided = records.read(dict[str, Any], folder.path(LANDMARKS_JSON), "run its stage again") or {}
    found = decided.get("landmarks")
    if not isinstance(found, dict):
        return False
    gaps, turned = [], []
    for row in rows:
        place = found.get(row.vertebra.name, {}).get("position_mm")
        if place is not None:
            gaps.append(_distance(row.position_mm, place))
            mirrored = [sign * v for sign, v in zip(MIRRORED, row.position_mm, strict=True)]
            turned.append(_distance(mirrored, place))
    if not gaps:
        return False
    return statistics.median(turned) < NEARER * statistics.median(gaps)


def _contains(grid: dict[str, Any], point_mm: Point) -> bool:
    """Tell whether a point lies inside the voxels of a grid, as `Grid.contains` does with numpy.

    Args:
        grid: `shape` (z, y, x), `spacing_mm` (x, y, z), `origin_mm`, `direction` (row-major).
        point_mm: (x, y, z) LPS.
    """
    direction, spacing = grid["direction"], grid["spacing_mm"]
    columns = [[direction[3 * row + k] * spacing[k] for row in range(3)] for k in range(3)]
    gap = [p - o for p, o in zip(point_mm, grid["origin_mm"], strict=True)]
    whole = _determinant(*columns)
    for axis in range(3):  # Cramer's rule
        replaced = [gap if k == axis else column for k, column in enumerate(columns)]
        index = _determinant(*replaced) / whole
        if not -0.5 <= index <= grid["shape"][2 - axis] - 0.5:
            return False
    return True


def _determinant(a: Point, b: Point, c: Point) -> float:
    cross = (b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0])
    return sum(x * y for x, y in zip(a, cross, strict=True))


def _distance(a: Point, b: Point) -> float:
    return math.dist(a, b)  # without overflow
