"""Where each network looks: axis-aligned LPS grids, whatever the scan's own axes are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from payerseg.config.model_card import SamplingSpec
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Point
from payerseg.domain.spine_box import SpineBox

REFERENCE_SIZES_XYZ = (
    (32, 64, 96, 128),
    (32, 64, 96, 128),
    tuple(range(32, 641, 32)),
)
"""The sizes the reference allows (REFERENCE §1, size rule)."""
_REFERENCE_BOX_SHORTFALL_MM = 1.0
_ROUNDING = 1e-6


def spine_frame(scan: Grid, sampling: SamplingSpec) -> Grid:
    """Return the stage-1 grid: the whole scan, centred, sides rounded up to the network's multiple."""
    low, high = _bounds_mm(scan)
    return centred_grid((low + high) / 2, _size_xyz(high - low, sampling), sampling.spacing_mm)


def vertebrae_frame(scan: Grid, box: SpineBox, sampling: SamplingSpec) -> Grid:
    """Return the stage-2 grid: the spine box grown by the card's margin, clipped to the scan."""
    if sampling.size_rule == "reference":
        region = reference_region(scan, box, sampling.margin_mm)
        extent = np.asarray(region.size_mm)
        # REFERENCE §1: the centre is start + (extent - 1) / 2, and that 1 is in millimetres.
        centre = np.asarray(region.low_mm) + (extent - _REFERENCE_BOX_SHORTFALL_MM) / 2
        return centred_grid(centre, _size_xyz(extent, sampling), sampling.spacing_mm)
    region = box.expanded(sampling.margin_mm).clipped_to(scan)
    size = _size_xyz(np.asarray(region.size_mm), sampling)
    return centred_grid(np.asarray(region.center_mm), size, sampling.spacing_mm)


def vertebra_frame(point_mm: Point, sampling: SamplingSpec) -> Grid:
    """Return the stage-3 grid: a fixed block around a vertebra centre, shifted by the card's offset."""
    centre = np.add(point_mm, sampling.offset_mm)
    return centred_grid(centre, np.asarray(sampling.size_xyz), sampling.spacing_mm)


def reference_region(scan: Grid, box: SpineBox, margin_mm: Point) -> SpineBox:
    """Return the grown box as the reference clips it: voxels times spacing, from the first centre on."""
    low, high = _bounds_mm(scan)
    first = scan.corners_mm(edges=False).min(axis=0)
    grown = box.expanded(margin_mm)
    start = np.clip(grown.low_mm, first, first + (high - low))
    return SpineBox(tuple(start), tuple(np.clip(grown.high_mm, start, first + (high - low))))


def _bounds_mm(scan: Grid) -> tuple[np.ndarray, np.ndarray]:
    corners = scan.corners_mm()
    return corners.min(axis=0), corners.max(axis=0)


def _size_xyz(extent_mm: np.ndarray, sampling: SamplingSpec) -> np.ndarray:
    """Return the network's size (x, y, z) in voxels for an extent."""
    needed = np.maximum(1, np.ceil(extent_mm / sampling.spacing_mm - _ROUNDING))
    if sampling.size_rule == "reference":
        # The first allowed size strictly above the need; beyond the largest the sides are cut off.
        rules = zip(needed, REFERENCE_SIZES_XYZ, strict=True)
        return np.array([next((v for v in sizes if n < v), sizes[-1]) for n, sizes in rules])
    return np.ceil(needed / sampling.multiple).astype(int) * sampling.multiple


def centred_grid(centre_mm: ArrayLike, size_xyz: ArrayLike, spacing_mm: float) -> Grid:
    """Return an axis-aligned isotropic grid around a point."""
    size = np.asarray(size_xyz, int)
    origin = np.asarray(centre_mm) - (size - 1) * spacing_mm / 2
    return Grid(tuple(size[::-1].tolist()), (spacing_mm,) * 3, tuple(origin))
