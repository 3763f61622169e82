"""Landmarks as image channels: the second input of a network that segments all classes at once.

numpy only, so that training can use it where no image library is installed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

REACH_MM = 64.0
"""Beyond this a landmark is not felt; absent landmarks look like far ones."""


def closeness_maps(
    channels: np.ndarray, points_mm: np.ndarray, axes_mm: list[np.ndarray], n_channels: int
) -> np.ndarray:
    """Return one inverted distance transform per level: 1 at the landmark, 0 from `REACH_MM` on.

    max(0, 1 - d / 64 mm): linear in the distance d, and 0 everywhere for an absent vertebra.

    Args:
        channels: (n,) network channels of the landmarks; those not below `n_channels` are left out.
        points_mm: (n, 3) x, y, z in the frame of `axes_mm`.
        axes_mm: positions of the voxels along z, y and x.
        n_channels: maps to return.

    Returns:
        float32 (z, y, x, n_channels).
    """
    z, y, x = axes_mm
    out = np.zeros((len(z), len(y), len(x), n_channels), np.float32)
    for channel, (px, py, pz) in zip(np.asarray(channels, int), points_mm, strict=True):
        if channel >= n_channels:
            continue
        squared = (z - pz)[:, None, None] ** 2 + (y - py)[:, None] ** 2 + (x - px) ** 2
        out[..., channel] = np.maximum(0, 1 - np.sqrt(squared) / REACH_MM)
    return out


def grid_axes(
    origin_mm: Sequence[float], shape_zyx: Sequence[int], spacing_mm: float
) -> list[np.ndarray]:
    """Return the positions of voxels along z, y and x, mm, of an axis-aligned isotropic grid."""
    return [
        float(start) + np.arange(n) * spacing_mm
        for start, n in zip(reversed(tuple(origin_mm)), shape_zyx, strict=True)
    ]
