"""What a network sees in each channel, from HU on a grid; numpy only.

The pipeline samples a scan onto a frame (`inputs`), training warps a packed one, where no image library
need be installed. From there on both go through these functions, so they cannot drift apart.
"""

from __future__ import annotations

import numpy as np

from payerseg.config.model_card import SamplingSpec, WindowSpec
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Point
from payerseg.domain.volume import Volume

REACH_MM = 64.0
"""Beyond this a landmark is not felt; absent landmarks look like far ones."""
REFERENCE_REACH_SIGMAS = 2.5


def normalized(hu: np.ndarray, window: WindowSpec) -> np.ndarray:
    """Map HU to network input: `clip(hu * scale + shift, low, high)`, float32."""
    values = hu.astype(np.float32) * np.float32(window.scale) + np.float32(window.shift)
    return np.clip(values, window.low, window.high, dtype=np.float32)


def heat_reach_sigmas(sampling: SamplingSpec) -> float:
    """Return where stage 3's point heatmap ends: the reference cuts it off, we do not."""
    return REFERENCE_REACH_SIGMAS if sampling.size_rule == "reference" else np.inf


def with_point_heatmap(
    image: Volume, point_mm: Point, sigma_mm: float, reach_sigmas: float
) -> Volume:
    """Return stage 3's input (z, y, x, 2), float32: the image and the point heatmap, in that order.

    Args:
        image: (z, y, x) as `normalized`.
        point_mm: the vertebra's centre.
        sigma_mm, reach_sigmas: as of `point_heatmap`.
    """
    heat = point_heatmap(image.grid, point_mm, sigma_mm, reach_sigmas=reach_sigmas)
    return Volume(np.stack([image.array, heat], axis=-1), image.grid)


def with_closeness_maps(
    image: Volume, channels: np.ndarray, points_mm: np.ndarray, n_maps: int
) -> Volume:
    """Return the input of a network of all classes (z, y, x, 1 + n_maps), float32: image, then maps.

    Args:
        image: (z, y, x) or (z, y, x, 1) as `normalized`, on an axis-aligned isotropic grid.
        channels, points_mm, n_maps: as of `closeness_maps`.
    """
    maps = closeness_maps(image.grid, channels, points_mm, n_maps)
    array = image.array if image.array.ndim == 4 else image.array[..., None]
    return Volume(np.concatenate([array, maps], axis=-1), image.grid)


def point_heatmap(
    grid: Grid, point_mm: Point, sigma_mm: float, *, reach_sigmas: float = np.inf
) -> np.ndarray:
    """Return a Gaussian of peak 1 at a point, (z, y, x) float32, on an axis-aligned grid.

    Args:
        grid: where; its voxels need not hold the point.
        point_mm: LPS (x, y, z), not rounded to a voxel.
        sigma_mm: of the Gaussian.
        reach_sigmas: zero outside a box of so many sigmas to each side, bounds truncated to whole
            voxels (REFERENCE §3, stage 3).
    """
    centre = grid.map_world_to_indices(np.array([point_mm]))[0]
    sigma = sigma_mm / np.asarray(grid.spacing_mm[::-1])
    axes = []
    for n, c, s in zip(grid.shape, centre, sigma, strict=True):
        index = np.arange(n)
        seen = (index >= np.trunc(c - reach_sigmas * s)) & (index < np.trunc(c + reach_sigmas * s))
        axes.append(np.where(seen, np.exp(-0.5 * ((index - c) / s) ** 2), 0.0))
    return (axes[0][:, None, None] * axes[1][:, None] * axes[2]).astype(np.float32)


def closeness_maps(
    grid: Grid, channels: np.ndarray, points_mm: np.ndarray, n_maps: int
) -> np.ndarray:
    """Return one inverted distance transform per level: 1 at the landmark, 0 from `REACH_MM` on.

    max(0, 1 - d / 64 mm): linear in the distance d, and 0 everywhere for an absent vertebra.

    Args:
        grid: axis-aligned, isotropic.
        channels: (n,) network channels of the landmarks; those not below `n_maps` are left out.
        points_mm: (n, 3) LPS.
        n_maps: maps to return.

    Returns:
        float32 (z, y, x, n_maps).
    """
    z, y, x = grid_axes(grid)
    out = np.zeros((*grid.shape, n_maps), np.float32)
    for channel, (px, py, pz) in zip(np.asarray(channels, int), points_mm, strict=True):
        if channel >= n_maps:
            continue
        squared = (z - pz)[:, None, None] ** 2 + (y - py)[:, None] ** 2 + (x - px) ** 2
        out[..., channel] = np.maximum(0, 1 - np.sqrt(squared) / REACH_MM)
    return out


def grid_axes(grid: Grid) -> list[np.ndarray]:
    """Return the positions of the voxels along z, y and x, mm, of an axis-aligned isotropic grid."""
    return [
        float(start) + np.arange(n) * grid.spacing_mm[0]
        for start, n in zip(reversed(grid.origin_mm), grid.shape, strict=True)
    ]
