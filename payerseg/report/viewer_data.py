"""The scan inside the page: reduced, eight bits a voxel, compressed.

The browser unpacks it with its own gzip and looks values up in a table, so bones keep steps of 10 HU
where eyes need them and air costs nothing.
"""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass
from typing import Any

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.imaging.resample import resample, sample_smoothly

MAX_VOXELS = 16_000_000
"""Larger scans get coarser voxels: the page stays below about 12 MB and opens in seconds."""
AIR_HU = -1024.0
_STEPS_HU = ((-1000, -200, 20), (-200, 300, 8), (300, 900, 12), (900, 1500, 25), (1500, 3001, 50))
LEVELS_HU = np.concatenate([np.arange(*part) for part in _STEPS_HU]).astype(np.int16)
"""HU of every stored value, rising; neighbours differ least where spine and soft tissue lie."""


@dataclass(frozen=True, slots=True)
class ViewerData:
    """What the page's viewer needs.

    Attributes:
        grid: of both volumes, axis-aligned in LPS.
        scan: gzip of uint8 places in `LEVELS_HU`, (z, y, x), differences along x.
        labels: gzip of uint8 VerSe labels, (z, y, x).
    """

    grid: Grid
    scan: bytes
    labels: bytes

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, sizes in (x, y, z)."""
        return {
            "size": list(self.grid.shape[::-1]),
            "spacing": [round(v, 5) for v in self.grid.spacing_mm],
            "origin": [round(v, 4) for v in self.grid.origin_mm],
            "levels": LEVELS_HU.tolist(),
            "scan": base64.b64encode(self.scan).decode("ascii"),
            "labels": base64.b64encode(self.labels).decode("ascii"),
        }


def viewer_data(ct: Volume, labels: Volume, spacing_mm: float) -> ViewerData:
    """Reduce a scan and its labels for the page.

    Args:
        ct: (z, y, x) HU on any grid.
        labels: (z, y, x) VerSe labels.
        spacing_mm: wanted; an axis that is coarser in the scan stays as it is.
    """
    grid = reduced_grid(ct.grid, spacing_mm)
    places = to_levels(sample_smoothly(ct, grid, outside=AIR_HU).array)
    differences = np.diff(places, axis=2, prepend=np.uint8(0))
    small = resample(labels, grid, interpolation="nearest").array.astype(np.uint8)
    return ViewerData(grid, _packed(differences), _packed(small))


def reduced_grid(scan: Grid, spacing_mm: float) -> Grid:
    """Return an axis-aligned grid around a scan with at most `MAX_VOXELS` voxels."""
    corners = scan.corners_mm()
    low, high = corners.min(axis=0), corners.max(axis=0)
    turned = np.abs(np.asarray(scan.direction).reshape(3, 3))
    native = turned @ np.asarray(scan.spacing_mm) / turned.sum(axis=1)
    spacing = np.maximum(native, spacing_mm)
    size = np.maximum(np.round((high - low) / spacing), 1)
    if size.prod() > MAX_VOXELS:
        spacing = spacing * (size.prod() / MAX_VOXELS) ** (1 / 3)
        size = np.maximum(np.floor((high - low) / spacing), 1)
    origin = (low + high) / 2 - (size - 1) / 2 * spacing
    return Grid(tuple(size[::-1].astype(int).tolist()), tuple(spacing), tuple(origin))


def to_levels(hu: np.ndarray) -> np.ndarray:
    """Return for every HU the place of the nearest of `LEVELS_HU`, uint8."""
    bounds = (LEVELS_HU[1:].astype(np.float32) + LEVELS_HU[:-1]) / 2
    table = np.searchsorted(bounds, np.arange(-1024, 3072, dtype=np.float32)).astype(np.uint8)
    return table[np.clip(np.rint(hu), -1024, 3071).astype(np.int16) + 1024]


def _packed(values: np.ndarray) -> bytes:
    return gzip.compress(np.ascontiguousarray(values).tobytes(), compresslevel=5, mtime=0)
