"""Targets of stage 1: the reference's by its formulas in voxels, ours along the line through the marks.

The other targets are drawn where they are compared, on the device: `losses`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import ndimage

from payerseg.domain.grid import Grid
from payerseg.preprocess.channels import REFERENCE_REACH_SIGMAS, point_heatmap


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
    voxels = Grid(tuple(int(n) for n in shape_zyx), (1.0, 1.0, 1.0))
    total = np.zeros(voxels.shape, np.float32)
    for z, y, x in points_zyx:
        total += point_heatmap(voxels, (x, y, z), sigma_voxels, reach_sigmas=REFERENCE_REACH_SIGMAS)
    smooth = ndimage.gaussian_filter(total, sigma_voxels, mode="nearest", truncate=4.0)
    span = float(smooth.max() - smooth.min())
    if span <= 0:
        return np.zeros(voxels.shape, np.float32)
    return (smooth - smooth.min()) / span


Array = np.ndarray
T13_CHANNEL = 25


def _rank(channel: Array) -> Array:
    """Order channels from head to foot: T13 (25) comes after T12 (18)."""
    return np.where(channel == T13_CHANNEL, 18.5, channel)


def head_to_foot(marks: Array) -> Array:
    """Return the order of (n, 4) marks from head to foot."""
    return np.argsort(_rank(marks[:, 0]))


def densified(points_mm: Array, step_mm: float = 6.0) -> Array:
    """Fill the line through the points."""
    if len(points_mm) < 2:
        return points_mm
    parts = [points_mm[:1]]
    for a, b in pairwise(points_mm):
        n = max(1, int(np.ceil(np.linalg.norm(b - a) / step_mm)))
        parts.append(a + (b - a) * np.linspace(0, 1, n + 1)[1:, None])
    return np.concatenate(parts)


def line_heatmap(axes_mm: list[Array], points_mm: Array, sigma_mm: float) -> Array:
    """Return the maximum over points of Gaussians of peak 1, (z, y, x) float32."""
    z, y, x = axes_mm
    heat = np.zeros((len(z), len(y), len(x)), np.float32)
    for px, py, pz in points_mm:
        gz, gy, gx = (
            np.exp(-0.5 * ((a - p) / sigma_mm) ** 2).astype(np.float32)
            for a, p in ((z, pz), (y, py), (x, px))
        )
        np.maximum(heat, gz[:, None, None] * gy[:, None] * gx, out=heat)
    return heat


def unmarked_places(partial_channels: tuple[int, ...], marks: Array) -> dict[int, Array]:
    """Return where the vertebrae just beyond either end of the marks lie: one step further.

    Args:
        partial_channels: of visible vertebrae without a mark.
        marks: (n, 4) channel, x, y, z mm.

    Returns:
        Channel to (3,) mm; channels between marks, or with fewer than two marks, have no known place.
    """
    if len(marks) < 2:
        return {}
    order = head_to_foot(marks)
    ranks, points = _rank(marks[order, 0]), marks[order, 1:]
    places = {}
    for channel in partial_channels:
        rank = float(_rank(np.asarray(float(channel))))
        if rank < ranks[0]:
            places[channel] = points[0] + (ranks[0] - rank) * (points[0] - points[1])
        elif rank > ranks[-1]:
            # T13 (half a step in rank) lies where L1 would
            steps = np.ceil(rank - ranks[-1])
            places[channel] = points[-1] + steps * (points[-1] - points[-2])
    return places


def unknown_ends(partial_channels: tuple[int, ...], marks: Array) -> list[Array]:
    """Return points where visible but unmarked vertebrae may lie, beyond either end of the marks."""
    if not partial_channels or len(marks) < 2:
        return []
    order = head_to_foot(marks)
    ranks, points = _rank(marks[order, 0]), marks[order, 1:]
    partial = _rank(np.asarray(partial_channels, float))
    steps = np.linspace(0.3, 2.0, 6)[:, None]
    ends = []
    if partial.min() < ranks[0]:
        ends.append(points[0] + steps * (points[0] - points[1]))
    if partial.max() > ranks[-1]:
        ends.append(points[-1] + steps * (points[-1] - points[-2]))
    return ends
