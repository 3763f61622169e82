"""The body of one vertebra in its own frame: where its walls and endplates are.

The mask is sampled on a small upright grid around the body whose axes are the vertebra's own
(to the left, to the back, up). Column by column the surface is found to a fraction of a voxel
where the sampled mask crosses one half. Planes through the endplates give the vertebra's own "up";
the grid is then turned to it and everything is measured again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from payerseg.domain.volume import Volume

STEP_MM = 1.0
REACH_LEFT_MM, REACH_BACK_MM, REACH_UP_MM = 34.0, 30.0, 26.0
ENDPLATE_DEPTH = (0.1, 0.9)
"""Part of the depth (0 front, 1 back) whose endplate points carry the plane."""
ENDPLATE_WIDTH = 0.35
"""Part of the width to each side of the middle whose endplate points carry the plane."""
WIDTH_BELOW_MM = (6.0, 2.0)
"""The width is taken between these depths below mid-height."""
TRIM_MM = 2.0
"""Endplate points further than this from the first plane (Schmorl nodes, spurs) are left out."""
MIN_COLUMNS = 30
TURNS = 3
"""The frame settles to below 0.2° after two turns."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A place and the three own axes of a vertebra.

    Attributes:
        center_mm: (3,) LPS.
        axes: (3, 3) rows: unit vectors to the left, to the back, up, in LPS.
    """

    center_mm: np.ndarray
    axes: np.ndarray

    def map_to_world(self, left_back_up_mm: np.ndarray) -> np.ndarray:
        """Map (..., 3) own mm to LPS mm."""
        return np.asarray(left_back_up_mm) @ self.axes + self.center_mm


@dataclass(frozen=True, slots=True)
class VertebralBody:
    """A body found in a mask; all places are mm on the axes of `frame`.

    Attributes:
        frame: where it was sampled; "up" is very nearly the mean normal of both endplates.
        center_mm: (3,) LPS, half-way between the walls and between the endplates.
        front_mm: place of the front wall on the back axis, below 0.
        back_mm: place of the back wall (the canal's front), above 0.
        width_mm: from side to side half-way between the walls, below mid-height: the pedicles and
            transverse processes leave the body above it.
        top_mm: (n left, n back) place of the upper endplate on the up axis, nan outside the body.
        bottom_mm: the same for the lower endplate.
        lefts_mm: (n left,) places of the columns.
        backs_mm: (n back,) places of the columns.
        upper_normal: (3,) LPS unit normal of the upper endplate, pointing up.
        lower_normal: the same of the lower endplate, pointing up.
        occupancy: (n left, n back, n up) sampled mask 0..1, everything of the vertebra.
    """

    frame: Frame
    center_mm: np.ndarray
    front_mm: float
    back_mm: float
    width_mm: float
    top_mm: np.ndarray
    bottom_mm: np.ndarray
    lefts_mm: np.ndarray
    backs_mm: np.ndarray
    upper_normal: np.ndarray
    lower_normal: np.ndarray
    occupancy: np.ndarray

    @property
    def depth_mm(self) -> float:
        """From the front to the back wall."""
        return self.back_mm - self.front_mm

    @property
    def corners_mm(self) -> np.ndarray:
        """(8, 3) LPS corners of the box around the body."""
        low, high = float(np.nanmedian(self.bottom_mm)), float(np.nanmedian(self.top_mm))
        ends = (-self.width_mm / 2, self.width_mm / 2), (self.front_mm, self.back_mm), (low, high)
        return self.frame.map_to_world(np.array(np.meshgrid(*ends)).reshape(3, -1).T)

    def height_mm(self, depth_from: float, depth_to: float) -> float | None:
        """Return the mean height near the midline between two parts of the depth (0 front, 1 back).

        None where fewer than three columns have both endplates.
        """
        part = (self.backs_mm - self.front_mm) / self.depth_mm
        near = np.abs(self.lefts_mm) <= max(3.0, 0.15 * self.width_mm)
        chosen = np.ix_(near, (part >= depth_from) & (part <= depth_to))
        heights = (self.top_mm - self.bottom_mm)[chosen]
        heights = heights[np.isfinite(heights)]
        return float(np.mean(heights)) if heights.size >= 3 else None


def find_body(mask: Volume, start_mm: np.ndarray, up: np.ndarray) -> VertebralBody | None:
    """Find the body of one vertebra.

    Args:
        mask: (z, y, x) bool, the vertebra with its arch; may be a block of the scan.
        start_mm: (3,) LPS, a place well inside the body, roughly its centre.
        up: (3,) LPS direction towards the head, roughly.

    Returns:
        None where no body with two endplates and two walls is found (C1, a fragment).
    """
    soft = mask.array.astype(np.float32)
    frame = Frame(np.asarray(start_mm, float), _axes(mask, start_mm, up))
    body = None
    for _ in range(TURNS):
        body = _measured(Volume(soft, mask.grid), frame)
        if body is None:
            return None
        up = body.upper_normal + body.lower_normal
        frame = Frame(body.center_mm, _orthogonal(frame.axes[1], up))
    return body


def sample(volume: Volume, frame: Frame) -> np.ndarray:
    """Sample (z, y, x) values on a frame's grid, linearly; 0 outside.

    Returns:
        float32 (n left, n back, n up).
    """
    ticks = _ticks()
    first = np.array([tick[0] for tick in ticks])
    # Frame and grid are both regular, so four places tell where all the others are.
    four = frame.map_to_world(first + STEP_MM * np.concatenate([np.zeros((1, 3)), np.eye(3)]))
    zyx = volume.grid.map_world_to_indices(four)
    return ndimage.affine_transform(
        volume.array, (zyx[1:] - zyx[0]).T, zyx[0], tuple(len(tick) for tick in ticks), np.float32,
        order=1, mode="grid-constant",
    )  # fmt: skip


def _ticks() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the places (mm) along left, back and up of the sampling grid."""
    return (
        np.arange(-REACH_LEFT_MM, REACH_LEFT_MM + STEP_MM / 2, STEP_MM),
        np.arange(-REACH_BACK_MM, REACH_BACK_MM + STEP_MM / 2, STEP_MM),
        np.arange(-REACH_UP_MM, REACH_UP_MM + STEP_MM / 2, STEP_MM),
    )


def _axes(mask: Volume, center_mm: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return first axes: back is where the arch lies, if that is anywhere near the world's back."""
    centroid = mask.grid.map_indices_to_world(np.argwhere(mask.array).mean(axis=0))[0]
    back = centroid - center_mm
    back = back - (back @ up) * up / (up @ up)
    length = float(np.linalg.norm(back))
    if length < 3.0 or back[1] / length < 0.5:
        back = np.array([0.0, 1.0, 0.0])
    return _orthogonal(back, up)


def _orthogonal(back: np.ndarray, up: np.ndarray) -> np.ndarray:
    up = up / np.linalg.norm(up)
    back = back - (back @ up) * up
    back = back / np.linalg.norm(back)
    return np.stack([np.cross(back, up), back, up])


def _measured(soft: Volume, frame: Frame) -> VertebralBody | None:
    """Find walls and endplates on the sampling grid of one frame."""
    occupancy = sample(soft, frame)
    lefts, backs, ups = _ticks()
    mid_left, mid_back, mid_up = (int(np.argmin(np.abs(t))) for t in (lefts, backs, ups))
    core = occupancy[mid_left - 3 : mid_left + 4, :, mid_up - 2 : mid_up + 3]
    front = -_nan_median(_first_exit(core[:, mid_back::-1], axis=1))
    back = _nan_median(_first_exit(core[:, mid_back:], axis=1))
    if not np.isfinite(front + back) or back - front < 5:
        return None
    half = int(np.argmin(np.abs(backs - (front + back) / 2)))
    low, high = (mid_up - round(mm / STEP_MM) for mm in WIDTH_BELOW_MM)
    slab = occupancy[:, max(half - 1, 0) : half + 2, low:high]
    width = _nan_median(_first_exit(slab[mid_left:], axis=0)) + _nan_median(
        _first_exit(slab[mid_left::-1], axis=0)
    )
    if not np.isfinite(width):
        return None
    top = _first_exit(occupancy[:, :, mid_up:], axis=2)
    bottom = -_first_exit(occupancy[:, :, mid_up::-1], axis=2)
    outside = (backs < front) | (backs > back)
    top[:, outside], bottom[:, outside] = np.nan, np.nan
    part = (backs - front) / (back - front)
    chosen = np.ix_(
        np.abs(lefts) <= ENDPLATE_WIDTH * width,
        (part >= ENDPLATE_DEPTH[0]) & (part <= ENDPLATE_DEPTH[1]),
    )
    place = np.stack(np.meshgrid(lefts, backs, indexing="ij"), axis=-1)[chosen]
    planes = [
        plane for surface in (top, bottom) if (plane := _plane(place, surface[chosen])) is not None
    ]
    if len(planes) < 2:
        return None
    middle = np.array([0.0, (front + back) / 2, 0.0])
    middle[2] = sum(b * middle[1] + c for _, b, c in planes) / 2
    return VertebralBody(
        frame=frame,
        center_mm=frame.map_to_world(middle),
        front_mm=front,
        back_mm=back,
        width_mm=width,
        top_mm=top,
        bottom_mm=bottom,
        lefts_mm=lefts,
        backs_mm=backs,
        upper_normal=_normal(planes[0], frame),
        lower_normal=_normal(planes[1], frame),
        occupancy=occupancy,
    )


def _normal(plane: np.ndarray, frame: Frame) -> np.ndarray:
    """Return the upward LPS unit normal of height = a * left + b * back + c."""
    normal = np.array([-plane[0], -plane[1], 1.0]) @ frame.axes
    return normal / np.linalg.norm(normal)


def _first_exit(occupancy: np.ndarray, axis: int) -> np.ndarray:
    """Return how far (mm) from the first sample along an axis the mask ends, nan where it does not.

    Also nan where the first sample is outside. Linear between the samples around one half.
    """
    values = np.moveaxis(occupancy, axis, -1)
    outside = values < 0.5
    k = np.argmax(outside, axis=-1)
    ends = outside.any(axis=-1) & (k > 0)
    k = np.where(ends, k, 1)
    after = np.take_along_axis(values, k[..., None], -1)[..., 0]
    before = np.take_along_axis(values, k[..., None] - 1, -1)[..., 0]
    drop = np.where(ends, before - after, 1.0)
    return np.where(ends, (k - 1 + (before - 0.5) / drop) * STEP_MM, np.nan)


def _nan_median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")


def _plane(place: np.ndarray, height: np.ndarray) -> np.ndarray | None:
    """Fit height = a * left + b * back + c; points off by more than `TRIM_MM` are left out once.

    Returns:
        (3,) a, b, c; None with fewer than `MIN_COLUMNS` points.
    """
    known = np.isfinite(height)
    if known.sum() < MIN_COLUMNS:
        return None
    left_back, up = place[known], height[known]
    terms = np.column_stack([left_back, np.ones(len(up))])
    fit = np.linalg.lstsq(terms, up, rcond=None)[0]
    kept = np.abs(up - terms @ fit) <= TRIM_MM
    if kept.sum() >= MIN_COLUMNS:
        fit = np.linalg.lstsq(terms[kept], up[kept], rcond=None)[0]
    return fit
