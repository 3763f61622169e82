"""Whole-scan projections with boxes and points drawn: the quickest look at a case."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from payerseg.domain.colors import COLORS, Rgb
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.volume import Volume
from payerseg.imaging.pictures import beside, write_name
from payerseg.imaging.resample import sample_smoothly

PROJECTION_SPACING_MM = 1.5
BONE_LOW_HU, BONE_HIGH_HU = -50.0, 700.0
BOX_COLOR: Rgb = (255, 220, 60)
OUTSIDE_HU = -1024.0
MAX_PIXELS = 1200
"""Tallest picture; whole-body scans get coarser pixels instead of larger files."""


def spine_projection(ct: Volume, box: SpineBox, landmarks: Landmarks | None = None) -> np.ndarray:
    """Draw a coronal and a sagittal projection of the bones in and around the spine box.

    Args:
        ct: HU (z, y, x).
        box: drawn as a rectangle; the projections look through its depth only.
        landmarks: drawn as named discs in the vertebrae's colours.

    Returns:
        (rows, columns, 3) uint8: coronal (patient's right on the left) beside sagittal (front on the
        left), head on top.
    """
    frame = _frame(ct.grid, box)
    hu = sample_smoothly(ct, frame, outside=OUTSIDE_HU).array
    views = []
    for axis, columns in ((1, 0), (2, 1)):
        image = Image.fromarray(_bone_picture(hu.max(axis=axis), hu.mean(axis=axis))).convert("RGB")
        drawing = ImageDraw.Draw(image)
        place = _Place(frame, columns)
        (left, bottom), (right, top) = place.pixel(box.low_mm), place.pixel(box.high_mm)
        drawing.rectangle((left, top, right, bottom), outline=BOX_COLOR)
        for vertebra, mark in (landmarks or {}).items():
            column, row = place.pixel(mark.position_mm)
            color = COLORS[vertebra.verse_label]
            drawing.circle((column, row), 4, (0, 0, 0))  # a dark rim shows on bone and on air
            drawing.circle((column, row), 3, color)
            write_name(drawing, (column + 7, row), vertebra.name, color)
        views.append(np.asarray(image))
    return beside(views)


class _Place:
    """From LPS mm to (column, row) of a view whose columns run along world axis `column_axis`."""

    def __init__(self, frame: Grid, column_axis: int) -> None:
        self._frame, self._axis = frame, column_axis

    def pixel(self, xyz_mm: tuple[float, float, float]) -> tuple[float, float]:
        z, y, x = self._frame.map_world_to_indices(np.array([xyz_mm]))[0]
        return float((x, y)[self._axis]), float(self._frame.shape[0] - 1 - z)


def _frame(scan: Grid, box: SpineBox) -> Grid:
    """Return the box with some surroundings at the picture's spacing, axis-aligned."""
    region = box.expanded((40.0, 40.0, 20.0)).clipped_to(scan)
    low, size_mm = np.asarray(region.low_mm), np.asarray(region.size_mm)
    spacing = max(PROJECTION_SPACING_MM, size_mm[2] / MAX_PIXELS)
    size = np.maximum(np.ceil(size_mm / spacing), 1).astype(int)
    return Grid(tuple(size[::-1].tolist()), (spacing,) * 3, tuple(low + spacing / 2))


def _bone_picture(brightest: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Mix maximum and mean projection, (row, column) uint8, head on top."""
    window = BONE_HIGH_HU - BONE_LOW_HU
    bone = np.clip((brightest - BONE_LOW_HU) / window, 0, 1)
    depth = np.clip((mean + 300) / 600, 0, 1)
    return (255 * (0.65 * bone + 0.35 * depth))[::-1].astype(np.uint8)
