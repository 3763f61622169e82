"""The reference's stage-1 target, by its formulas in voxels (REFERENCE.md section 6).

The other targets are drawn where they are compared, on the device: `losses` and `heatmap_losses`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

TRUNCATION = 2.5
"""Beyond this many sigmas a drawn point is zero."""


def reference_point_heatmap(
    point_zyx: Sequence[float], shape_zyx: Sequence[int], sigma_voxels: float
) -> np.ndarray:
    """Draw a Gaussian of peak 1 around a continuous index, cut off at `TRUNCATION` sigmas.

    The block runs from floor(c - t sigma) up to, without, floor(c + t sigma): one voxel short at
    the upper end, as the reference draws it.

    Returns:
        float32 (z, y, x).
    """
    axes = []
    for size, center in zip(shape_zyx, point_zyx, strict=True):
        index = np.arange(size)
        value = np.exp(-((index - center) ** 2) / (2 * sigma_voxels**2))
        low = np.floor(center - TRUNCATION * sigma_voxels)
        high = np.floor(center + TRUNCATION * sigma_voxels)
        value[(index < low) | (index >= high)] = 0
        axes.append(value)
    z, y, x = axes
    return (z[:, None, None] * y[None, :, None] * x[None, None, :]).astype(np.float32)


def reference_spine_heatmap(
    points_zyx: np.ndarray, shape_zyx: Sequence[int], sigma_voxels: float = 3.0
) -> np.ndarray:
    """Draw the reference's stage-1 target.

    Sum of truncated Gaussians, smoothed by a Gaussian of the same sigma (edges replicated), then
    stretched to [0, 1].

    Args:
        points_zyx: (n, 3) continuous indices.
        shape_zyx: size of the map.
        sigma_voxels: 3 in the reference.

    Returns:
        float32 (z, y, x); all zero where no point comes near.
    """
    total = np.zeros(shape_zyx, np.float32)
    for point in points_zyx:
        total += reference_point_heatmap(point, shape_zyx, sigma_voxels)
    smooth = ndimage.gaussian_filter(total, sigma_voxels, mode="nearest", truncate=4.0)
    span = float(smooth.max() - smooth.min())
    if span <= 0:
        return np.zeros(shape_zyx, np.float32)
    return (smooth - smooth.min()) / span
