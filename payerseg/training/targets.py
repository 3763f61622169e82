"""What a network should answer: heatmaps of points and masks of one vertebra; numpy and scipy only.

Two families stand beside each other.
`gaussian`, `label_heatmaps` and `spine_heatmap` work in millimetres on any grid (also rotated or
sheared) and are what the default recipe trains on.
The `reference_*` functions repeat the reference's formulas in voxels (REFERENCE.md section 6).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import N_CHANNELS

REFERENCE_TRUNCATION = 2.5
"""Beyond this many sigmas the reference's drawn point heatmap is zero."""
REFERENCE_SCALE = 1000.0
"""Gamma of the learnable-sigma heatmap loss."""
NEGLIGIBLE = 1e-4
"""Own Gaussians below this are not drawn; 1e-4 is 4.3 sigmas from the point."""


def gaussian(grid: Grid, point_mm: Sequence[float], sigma_mm: float) -> np.ndarray:
    """Draw exp(-d^2 / (2 sigma^2)), d the distance in mm to a point, on any grid.

    Args:
        grid: where; its axes need not be orthogonal.
        point_mm: (x, y, z) LPS; may lie outside the grid.
        sigma_mm: standard deviation.

    Returns:
        float32 (z, y, x), peak 1 at the point, 0 where the value would be below `NEGLIGIBLE`.
    """
    out = np.zeros(grid.shape, np.float32)
    center = grid.map_world_to_indices([point_mm])[0]
    reach_mm = sigma_mm * np.sqrt(-2 * np.log(NEGLIGIBLE))
    # Row i of the inverse matrix tells how far index i can change within `reach_mm` of the point.
    inverse_zyx = np.linalg.inv(grid.matrix[:3, :3])[::-1]
    reach = reach_mm * np.linalg.norm(inverse_zyx, axis=1)
    low = np.clip(np.ceil(center - reach), 0, grid.shape).astype(int)
    high = np.clip(np.floor(center + reach) + 1, 0, grid.shape).astype(int)
    if np.any(high <= low):
        return out
    block = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    squared = _squared_distance(grid, center, low, high)
    value = np.exp(-squared / (2 * sigma_mm**2))
    out[block] = np.where(value < NEGLIGIBLE, 0, value)
    return out


def _squared_distance(
    grid: Grid, center_zyx: np.ndarray, low_zyx: np.ndarray, high_zyx: np.ndarray
) -> np.ndarray:
    """Return squared mm from the centre for the voxels of a block, (z, y, x)."""
    metric = grid.matrix[:3, :3].T @ grid.matrix[:3, :3]
    metric = metric[::-1, ::-1]
    steps = [np.arange(a, b) - c for a, b, c in zip(low_zyx, high_zyx, center_zyx, strict=True)]
    z, y, x = steps[0][:, None, None], steps[1][None, :, None], steps[2][None, None, :]
    squared = metric[0, 0] * z**2 + metric[1, 1] * y**2 + metric[2, 2] * x**2
    if not grid.is_orthonormal:
        squared = squared + 2 * (metric[0, 1] * z * y + metric[0, 2] * z * x + metric[1, 2] * y * x)
    return np.maximum(squared, 0)


def label_heatmaps(
    landmarks: Landmarks,
    grid: Grid,
    sigma_mm: float | Sequence[float],
    n_channels: int = N_CHANNELS,
) -> np.ndarray:
    """Draw one Gaussian per vertebra in the channel of its level.

    Args:
        landmarks: absent vertebrae leave their channel at zero.
        grid: of the network's input.
        sigma_mm: one for all, or one per channel (narrow for the small cervical vertebrae).
        n_channels: vertebrae whose channel is not below it are left out (25: no T13).

    Returns:
        float32 (z, y, x, channel).
    """
    sigmas = np.broadcast_to(np.asarray(sigma_mm, float), n_channels)
    out = np.zeros((*grid.shape, n_channels), np.float32)
    for vertebra, mark in landmarks.items():
        if vertebra.channel < n_channels:
            out[..., vertebra.channel] = gaussian(
                grid, mark.position_mm, float(sigmas[vertebra.channel])
            )
    return out


def spine_heatmap(landmarks: Landmarks, grid: Grid, sigma_mm: float) -> np.ndarray:
    """Draw all vertebra centres into one map: the largest Gaussian wins.

    A maximum, not a sum: the height of the map must not depend on how close the vertebrae are.

    Returns:
        float32 (z, y, x) in [0, 1].
    """
    out = np.zeros(grid.shape, np.float32)
    for mark in landmarks.values():
        np.maximum(out, gaussian(grid, mark.position_mm, sigma_mm), out=out)
    return out


def vertebra_mask(labels: np.ndarray, verse_label: int, sigma_voxels: float = 1.0) -> np.ndarray:
    """Return the mask of one vertebra, its nearest-neighbour staircase smoothed away.

    Mask of one label, Gaussian of sigma 1 voxel, above one half (REFERENCE.md section 6, stage 3).

    Args:
        labels: integers (z, y, x).
        verse_label: which value.
        sigma_voxels: 0 leaves the mask as it is.

    Returns:
        uint8 (z, y, x), 0 or 1.
    """
    mask = labels == verse_label
    if sigma_voxels <= 0:
        return mask.astype(np.uint8)
    soft = ndimage.gaussian_filter(mask.astype(np.float32), sigma_voxels, mode="nearest")
    return (soft > 0.5).astype(np.uint8)


def reference_point_heatmap(
    point_zyx: Sequence[float],
    shape_zyx: Sequence[int],
    sigma_voxels: float,
    *,
    truncation: float | None = REFERENCE_TRUNCATION,
) -> np.ndarray:
    """Draw the reference's Gaussian in voxels, peak 1, cut off at `truncation` sigmas.

    The block runs from floor(c - t sigma) up to, without, floor(c + t sigma): one voxel short at
    the upper end, as the reference draws it.

    Args:
        point_zyx: continuous index.
        shape_zyx: size of the map.
        sigma_voxels: standard deviation.
        truncation: None draws the full support (the target of stage 2).

    Returns:
        float32 (z, y, x).
    """
    axes = []
    for size, center in zip(shape_zyx, point_zyx, strict=True):
        index = np.arange(size)
        value = np.exp(-((index - center) ** 2) / (2 * sigma_voxels**2))
        if truncation is not None:
            low = np.floor(center - truncation * sigma_voxels)
            high = np.floor(center + truncation * sigma_voxels)
            value[(index < low) | (index >= high)] = 0
        axes.append(value)
    z, y, x = axes
    return (z[:, None, None] * y[None, :, None] * x[None, None, :]).astype(np.float32)


def reference_label_heatmaps(
    points_zyx: np.ndarray,
    valid: np.ndarray,
    shape_zyx: Sequence[int],
    sigmas_voxels: Sequence[float],
    *,
    scale: float | None = None,
) -> np.ndarray:
    """Draw the reference's stage-2 target: full-support Gaussians, a zero map where not valid.

    Args:
        points_zyx: (n, 3) continuous indices.
        valid: (n,) truth values.
        shape_zyx: size of the maps.
        sigmas_voxels: one per point.
        scale: None for peak 1; else gamma, and the map is gamma / ((2 pi)^1.5 sigma^3) high.

    Returns:
        float32 (z, y, x, n).
    """
    out = np.zeros((*shape_zyx, len(points_zyx)), np.float32)
    for channel, (point, sigma) in enumerate(zip(points_zyx, sigmas_voxels, strict=True)):
        if not valid[channel]:
            continue
        height = 1.0 if scale is None else scale / ((2 * np.pi) ** 1.5 * sigma**3)
        heatmap = reference_point_heatmap(point, shape_zyx, sigma, truncation=None)
        out[..., channel] = height * heatmap
    return out


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
