"""Places of slices: along their normal, and as a grid.

DICOM PS3.3 C.7.6.2: ImagePositionPatient is the LPS centre of the first pixel, ImageOrientationPatient
the direction of growing column index (x), then of growing row index (y); PixelSpacing is (y, x). That
is our world and our grid; nothing is turned. A gantry tilt moves each slice sideways against the one
before: the third axis of the grid is then not the normal, and no voxel is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from payerseg.dicom.headers import Frame
from payerseg.domain.grid import Grid

DRIFT_MM = 0.1
"""Sideways drift over a whole volume that is rounding, not a tilt."""


@dataclass(frozen=True, slots=True)
class SliceLine:
    """The straight line on which slices should lie at equal steps.

    Attributes:
        start_mm: LPS place of the first slice.
        step_mm: LPS vector from slice to slice.
        along_error_mm: (n,) distance along the normal of each slice from its place on the line.
        aside_error_mm: (n,) distance across it.
        tilt_degrees: angle between line and normal.
    """

    start_mm: np.ndarray
    step_mm: np.ndarray
    along_error_mm: np.ndarray
    aside_error_mm: np.ndarray
    tilt_degrees: float


def axes_of(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit vectors of growing column and row index."""
    cosines = np.asarray(frame.orientation, float)
    x_axis, y_axis = cosines[:3], cosines[3:]
    return x_axis / np.linalg.norm(x_axis), y_axis / np.linalg.norm(y_axis)


def normal_of(frame: Frame) -> np.ndarray:
    """Return the unit normal of a slice."""
    normal = np.cross(*axes_of(frame))
    return normal / np.linalg.norm(normal)


def positions_mm(frames: Sequence[Frame]) -> np.ndarray:
    """Return the (n, 3) LPS places of slices."""
    return np.array([frame.position_mm for frame in frames], float)


def positions_along(frames: Sequence[Frame]) -> np.ndarray:
    """Return the (n,) places of slices along the normal of the first, mm."""
    return positions_mm(frames) @ normal_of(frames[0])


def fit_line(frames: Sequence[Frame]) -> SliceLine:
    """Lay a line of equal steps through sorted slices, by their first and last."""
    places, normal = positions_mm(frames), normal_of(frames[0])
    span = places[-1] - places[0]
    aside = span - normal * (span @ normal)
    if np.linalg.norm(aside) <= DRIFT_MM:
        span = normal * (span @ normal)
    step = span / (len(frames) - 1)
    line = places[0] + np.arange(len(frames))[:, None] * step
    away = places - line
    along = away @ normal
    # Across: compared at the slice's own height, so that an uneven step is not also a sideways error.
    height = (places - places[0]) @ normal
    on_line = places[0] + height[:, None] * (span / (span @ normal))
    sideways = np.linalg.norm(places - on_line, axis=1)
    cosine = abs(span @ normal) / np.linalg.norm(span)
    return SliceLine(
        places[0], step, along, sideways, float(np.degrees(np.arccos(min(1.0, cosine))))
    )


def grid_of(frames: Sequence[Frame], line: SliceLine) -> Grid:
    """Return the grid of slices that lie on a line at equal steps."""
    first = frames[0]
    x_axis, y_axis = axes_of(first)
    row_mm, column_mm = first.spacing_mm or (0.0, 0.0)
    matrix = np.eye(4)
    matrix[:3, 0] = x_axis * column_mm
    matrix[:3, 1] = y_axis * row_mm
    matrix[:3, 2] = line.step_mm
    matrix[:3, 3] = line.start_mm
    return Grid.from_matrix((len(frames), first.rows, first.columns), matrix)
