"""The straightened spine: curved planar reformations with mask outlines, and a small picture of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.interpolate import CubicSpline

from payerseg.domain.colors import (
    COLORS,
    LABELS_HEAD_TO_FOOT,
    RIM_COLOR,
    RIMMED_LABELS,
    Rgb,
    color_of,
)
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.volume import Volume
from payerseg.imaging.pictures import beside, write_name
from payerseg.imaging.resample import sample_smoothly

LEFT, BACK, UP = np.eye(3)
MIN_GAP_MM = 2.0
"""Centres closer than this to the one above do not bend the curve (a hand-made double)."""
FINE_STEPS_PER_GAP = 40


@dataclass(frozen=True, slots=True)
class SpineCurve:
    """Places along the spine from head to foot, evenly spaced.

    Attributes:
        points_mm: (n, 3) LPS.
        lefts: (n, 3) unit vectors to the patient's left, at right angles to the curve.
        backs: (n, 3) unit vectors to the back, at right angles to curve and left.
        step_mm: between neighbouring places.
    """

    points_mm: np.ndarray
    lefts: np.ndarray
    backs: np.ndarray
    step_mm: float

    def place_of(self, point_mm: tuple[float, float, float]) -> tuple[float, float, float]:
        """Return (place along the curve, mm to the left, mm to the back) of a world point."""
        offsets = np.asarray(point_mm) - self.points_mm
        k = int(np.argmin(np.linalg.norm(offsets, axis=1)))
        return float(k), float(offsets[k] @ self.lefts[k]), float(offsets[k] @ self.backs[k])


def spine_curve(landmarks: Landmarks, step_mm: float, beyond_mm: float) -> SpineCurve:
    """Lay a cubic spline through the centres, straight on beyond the first and the last.

    Args:
        landmarks: at least one; a single one gives a vertical line.
        step_mm: between places.
        beyond_mm: how far it goes on at either end.
    """
    knots = _knots(landmarks.positions_mm)
    fine = _through(knots)
    up_first, up_last = fine[0] - fine[1], fine[-1] - fine[-2]
    first = fine[0] + beyond_mm * up_first / np.linalg.norm(up_first)
    last = fine[-1] + beyond_mm * up_last / np.linalg.norm(up_last)
    line = np.concatenate([first[None], fine, last[None]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    places = np.arange(0.0, along[-1], step_mm)
    points = np.stack([np.interp(places, along, line[:, axis]) for axis in range(3)], axis=1)
    lefts, backs = _directions(points)
    return SpineCurve(points, lefts, backs, step_mm)


def _knots(positions_mm: np.ndarray) -> np.ndarray:
    kept = [positions_mm[0]]
    for position in positions_mm[1:]:
        if np.linalg.norm(position - kept[-1]) >= MIN_GAP_MM:
            kept.append(position)
    return np.array(kept)


def _through(knots: np.ndarray) -> np.ndarray:
    """(n, 3) densely along the spline; for one knot a short vertical line through it."""
    if len(knots) == 1:
        return np.array([knots[0] + UP, knots[0] - UP])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    places = np.linspace(0.0, along[-1], FINE_STEPS_PER_GAP * (len(knots) - 1) + 1)
    if len(knots) == 2:
        return knots[0] + places[:, None] / along[-1] * (knots[1] - knots[0])
    return CubicSpline(along, knots, bc_type="natural")(places)


def _directions(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left and back along the curve, as near to the world's as right angles allow."""
    downs = _unit(np.gradient(points, axis=0))
    lefts = LEFT - (downs @ LEFT)[:, None] * downs
    # A curve that runs sideways (centres gone astray) has no left of its own: any right angle will do.
    sideways = np.linalg.norm(lefts, axis=1) < 0.1
    lefts[sideways] = np.cross(downs[sideways], BACK)
    lefts = _unit(lefts)
    return lefts, np.cross(lefts, downs)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


PIXEL_MM = 0.8
BEYOND_MM = 40.0
SAGITTAL_MM = (-55.0, 85.0)
"""From the curve to the front and to the back: body, canal and spinous processes."""
CORONAL_MM = (-65.0, 65.0)
"""To the patient's right and left: bodies, transverse processes, heads of the ribs."""
SLAB_MM = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Depths that are averaged: less noise, and thin slices look like thick ones."""
OUTSIDE_HU = -1024.0
WINDOW_HU = (-200.0, 700.0)
OVERLAY_FACTOR = 2
"""Outlines are drawn on pixels this many times finer."""
SMOOTHING_PIXELS = 1.6
"""Of labels on the overlay, below the size of a voxel: stairs of thick slices vanish, shapes stay."""
FILL_ALPHA, RIM_ALPHA, LINE_ALPHA = 46, 200, 255
"""The alpha tells what a pixel of an overlay is: inside, the light rim of a dark colour, the outline."""
RIM_STRENGTH = 0.5
"""Of rims on the small picture: with more of it the dark line itself looks white."""
THUMBNAIL_ROWS = 340
THUMBNAIL_STEP = 12
"""Brightness steps of the small picture: it is embedded in the cohort page once per case."""


@dataclass(frozen=True, slots=True)
class CurvedView:
    """One straightened view.

    Attributes:
        name: "sagittal" (front on the left) or "coronal" (patient's right on the left).
        grey: (rows, columns) uint8, head on top.
        overlay: (rows * factor, columns * factor, 4) uint8 outlines and fill, transparent elsewhere.
        marks: vertebra name → (row, column) of its centre.
        middle: column of the curve.
        axes: (rows, 3) LPS unit vector along the columns.
        curve: the places of the rows.
    """

    name: str
    grey: np.ndarray
    overlay: np.ndarray
    marks: dict[str, tuple[float, float]]
    middle: float
    axes: np.ndarray
    curve: SpineCurve


def curved_views(ct: Volume, labels: Volume, landmarks: Landmarks) -> tuple[CurvedView, CurvedView]:
    """Draw the sagittal and the coronal view along the spine.

    Args:
        ct: (z, y, x) HU.
        labels: (z, y, x) VerSe labels.
        landmarks: at least one.
    """
    curve = spine_curve(landmarks, PIXEL_MM, BEYOND_MM)
    places = {v.name: curve.place_of(mark.position_mm) for v, mark in landmarks.items()}
    views = []
    for name, (low, high), across, depth, coordinate in (
        ("sagittal", SAGITTAL_MM, curve.backs, curve.lefts, 2),
        ("coronal", CORONAL_MM, curve.lefts, curve.backs, 1),
    ):
        offsets = np.arange(low, high + PIXEL_MM / 2, PIXEL_MM)
        slabs = [
            _sample(ct, _sheet(curve.points_mm + d * depth, across, offsets), 1) for d in SLAB_MM
        ]
        middle = -low / PIXEL_MM
        marks = {n: (p[0], middle + p[coordinate] / PIXEL_MM) for n, p in places.items()}
        fine = _fine_labels(labels, curve, across, offsets)
        grey = _windowed(np.mean(slabs, axis=0))
        views.append(
            CurvedView(name, grey, _outlined(_smoothed(fine)), marks, middle, across, curve)
        )
    return views[0], views[1]


def thumbnail(views: tuple[CurvedView, ...]) -> np.ndarray:
    """Return both views side by side with outlines and names, (rows, columns, 3) uint8."""
    pictures = []
    for view in views:
        rows = view.grey.shape[0]
        scale = min(1.0, THUMBNAIL_ROWS / rows)
        take = np.ix_(*(_picked(n, max(1, round(scale * n))) for n in view.grey.shape))
        smooth = ndimage.gaussian_filter(view.grey.astype(np.float32), 0.35 / scale)[take]
        picture = np.repeat(smooth[..., None] // THUMBNAIL_STEP * THUMBNAIL_STEP, 3, axis=2)
        lines = view.overlay * (view.overlay[..., 3:] == LINE_ALPHA)
        reach = int(np.ceil(OVERLAY_FACTOR / scale))
        rims = ndimage.maximum_filter(view.overlay[..., 3] == RIM_ALPHA, 3 * reach)
        rims &= np.isin(view.overlay[..., 3], (0, RIM_ALPHA))  # outside of the masks
        rims = rims[::OVERLAY_FACTOR, ::OVERLAY_FACTOR][take]
        picture[rims] += (np.asarray(RIM_COLOR) - picture[rims]) * RIM_STRENGTH
        lines = ndimage.maximum_filter(lines, (reach, reach, 1))
        lines = lines[::OVERLAY_FACTOR, ::OVERLAY_FACTOR][take]
        drawn = lines[..., 3] > 0
        picture[drawn] = lines[..., :3][drawn]
        image = Image.fromarray(picture.astype(np.uint8))
        for name, (row, column) in view.marks.items() if view.name == "sagittal" else ():
            at = (column * scale - 34, row * scale)
            write_name(ImageDraw.Draw(image), at, name, (255, 255, 255))
        pictures.append(np.asarray(image))
    return beside(pictures)


def _picked(n: int, wanted: int) -> np.ndarray:
    return np.linspace(0, n - 1, wanted).round().astype(int)


def _sheet(points_mm: np.ndarray, across: np.ndarray, offsets_mm: np.ndarray) -> np.ndarray:
    """(rows, columns, 3) LPS places of a view's pixels."""
    return points_mm[:, None] + offsets_mm[None, :, None] * across[:, None]


def _sample(volume: Volume, sheet_mm: np.ndarray, order: int) -> np.ndarray:
    """Values of a (z, y, x) volume at (rows, columns, 3) LPS places; outside is air or no label."""
    zyx = volume.grid.map_world_to_indices(sheet_mm.reshape(-1, 3))
    outside = OUTSIDE_HU if order else 0
    kind = np.float32 if order else volume.array.dtype
    values = ndimage.map_coordinates(
        volume.array, zyx.T, kind, order=order, mode="constant", cval=outside
    )
    return values.reshape(sheet_mm.shape[:2])


def _fine_labels(
    labels: Volume, curve: SpineCurve, across: np.ndarray, offsets_mm: np.ndarray
) -> np.ndarray:
    """(rows * factor, columns * factor) labels on the finer pixels of the overlay."""
    size = np.array([len(curve.points_mm), len(offsets_mm)])
    rows, columns = ((np.arange(n * OVERLAY_FACTOR) + 0.5) / OVERLAY_FACTOR - 0.5 for n in size)
    index = np.arange(size[0])
    points, axes = (
        np.stack([np.interp(rows, index, values[:, k]) for k in range(3)], axis=1)
        for values in (curve.points_mm, across)
    )
    fine_offsets = offsets_mm[0] + columns * PIXEL_MM
    return _sample(labels, _sheet(points, axes, fine_offsets), 0)


def _smoothed(labels: np.ndarray) -> np.ndarray:
    """Round off the stairs of a (rows, columns) label picture; every label competes for a pixel."""
    best = np.full(labels.shape, 0.5, np.float32)
    smooth = np.zeros_like(labels)
    for label in np.unique(labels[labels > 0]):
        share = ndimage.gaussian_filter((labels == label).astype(np.float32), SMOOTHING_PIXELS)
        wins = share > best
        smooth[wins], best[wins] = label, share[wins]
    return smooth


def _outlined(labels: np.ndarray) -> np.ndarray:
    """Return RGBA: a line inside every label's border, a rim around dark ones, a faint fill within."""
    palette = np.zeros((256, 3), np.uint8)
    for label in LABELS_HEAD_TO_FOOT:
        palette[label] = color_of(label)
    border = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for step in (-1, 1):
            border |= np.roll(labels, step, axis) != labels
    overlay = np.zeros((*labels.shape, 4), np.uint8)
    overlay[..., :3] = palette[labels.astype(np.uint8)]
    overlay[..., 3] = np.where(border, LINE_ALPHA, FILL_ALPHA) * (labels > 0)
    rim = ndimage.binary_dilation(np.isin(labels, RIMMED_LABELS)) & (labels == 0)
    overlay[rim] = (*RIM_COLOR, RIM_ALPHA)
    return overlay


def _windowed(hu: np.ndarray) -> np.ndarray:
    low, high = WINDOW_HU
    return np.clip((hu - low) / (high - low) * 255, 0, 255).astype(np.uint8)


PROJECTION_SPACING_MM = 1.5
BONE_LOW_HU, BONE_HIGH_HU = -50.0, 700.0
BOX_COLOR: Rgb = (255, 220, 60)
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
