"""Where each network looks: axis-aligned LPS grids."""

from __future__ import annotations

import numpy as np

from payerseg.config.model_card import SamplingSpec
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Point
from payerseg.domain.spine_box import SpineBox


def spine_frame(scan: Grid, sampling: SamplingSpec) -> Grid:
    """Return the stage-1 grid: the whole scan, centred, sides rounded up to the network's multiple."""
    corners = scan.corners_mm()
    return _covering(corners.min(axis=0), corners.max(axis=0), sampling)


def vertebrae_frame(scan: Grid, box: SpineBox, sampling: SamplingSpec) -> Grid:
    """Return the stage-2 grid: the spine box grown by the card's margin, clipped to the scan."""
    region = box.expanded(sampling.margin_mm).clipped_to(scan)
    return _covering(np.asarray(region.low_mm), np.asarray(region.high_mm), sampling)


def vertebra_frame(point_mm: Point, sampling: SamplingSpec) -> Grid:
    """Return the stage-3 grid: a fixed block around a vertebra centre, shifted by the card's offset."""
    centre = np.add(point_mm, sampling.offset_mm)
    return _centred(centre, np.asarray(sampling.size_xyz), sampling.spacing_mm)


def _covering(low_mm: np.ndarray, high_mm: np.ndarray, sampling: SamplingSpec) -> Grid:
    size = np.ceil((high_mm - low_mm) / sampling.spacing_mm - 1e-6)
    size = np.maximum(1, np.ceil(size / sampling.multiple)) * sampling.multiple
    return _centred((low_mm + high_mm) / 2, size, sampling.spacing_mm)


def _centred(centre_mm: np.ndarray, size_xyz: np.ndarray, spacing_mm: float) -> Grid:
    size = np.asarray(size_xyz, int)
    origin = centre_mm - (size - 1) * spacing_mm / 2
    return Grid(tuple(size[::-1].tolist()), (spacing_mm,) * 3, tuple(origin))
