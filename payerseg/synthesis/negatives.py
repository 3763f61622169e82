"""Volumes without a spine: what a pipeline must answer with "no spine"."""

from __future__ import annotations

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.synthesis.scanner import Scanner, rounded, scan, smooth_field
from payerseg.synthesis.skeleton import capsules

Array = np.ndarray
NEGATIVES = ("noise", "air", "water", "thigh", "lung", "head")


def synthesize_negative(
    kind: str, seed: int, shape: tuple[int, int, int] = (96, 96, 96), spacing_mm: float = 2.5
) -> Volume:
    """Return an int16 CT-like volume that shows no vertebra.

    Args:
        kind: one of `NEGATIVES`: pure noise, an empty scan, a water cylinder, a thigh, a slab of lung,
            a head above C1.
        seed: decides everything.
        shape: voxels (z, y, x).
        spacing_mm: voxel size.

    Raises:
        ValueError: no such kind.
    """
    painters = {
        "noise": _noise,
        "air": _air,
        "water": _water,
        "thigh": _thigh,
        "lung": _lung,
        "head": _head,
    }
    if kind not in painters:
        msg = f"negative {kind!r} is unknown; expected one of {', '.join(NEGATIVES)}"
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    size = np.array(shape[::-1]) * spacing_mm
    grid = Grid(shape, (spacing_mm,) * 3, tuple(-size / 2 + rng.uniform(-100, 100, 3)))
    hu = painters[kind](grid, rng).astype(np.float32)
    scanner = Scanner(noise_hu=float(rng.uniform(5, 30)), blur_mm=float(rng.uniform(0.2, 0.8)))
    return Volume(rounded(scan(hu, grid, scanner, rng)), grid)


def _centered(grid: Grid) -> tuple[Array, Array, Array]:
    """Return z, y, x mm from the middle, broadcastable."""
    z, y, x = (
        s * (np.arange(n) - (n - 1) / 2)
        for n, s in zip(grid.shape, grid.spacing_mm[::-1], strict=True)
    )
    return z[:, None, None], y[None, :, None], x[None, None, :]


def _noise(grid: Grid, rng: np.random.Generator) -> Array:
    return rng.normal(rng.uniform(-500, 300), rng.uniform(100, 400), grid.shape)


def _air(grid: Grid, rng: np.random.Generator) -> Array:
    del rng
    return np.full(grid.shape, -1000.0)


def _water(grid: Grid, rng: np.random.Generator) -> Array:
    z, y, x = _centered(grid)
    radius = 0.4 * min(grid.extent_mm[:2]) * rng.uniform(0.7, 1)
    hu = np.where(x**2 + y**2 + 0 * z < radius**2, 0.0, -1000.0)
    for value in (-1000, -100, 120, 340, 990):
        angle = rng.uniform(0, 6.28)
        far = (x - 0.6 * radius * np.cos(angle)) ** 2 + (y - 0.6 * radius * np.sin(angle)) ** 2
        hu[np.broadcast_to(far < (0.09 * radius) ** 2, hu.shape)] = value
    return hu


def _thigh(grid: Grid, rng: np.random.Generator) -> Array:
    z, y, x = _centered(grid)
    radius = 0.42 * min(grid.extent_mm[:2])
    far = np.sqrt(x**2 + y**2) + 0.02 * z
    hu = np.where(far < radius, -100.0, -1000.0)
    muscle = far < radius - rng.uniform(8, 22)
    bundles = smooth_field(grid.shape, grid.spacing_mm[::-1], (60.0, 18.0, 18.0), rng)
    hu[muscle] = np.where(np.abs(bundles[muscle]) < 0.12, -80, 58)
    depth = np.full(grid.shape, -12.7, np.float32)
    middle = grid.map_indices_to_world((np.array([grid.shape]) - 1) / 2)[0]
    half = grid.extent_mm[2] / 2
    ends = middle + np.array([(4, -6, -half), (-3, -2, half)])
    capsules(depth, grid, ends, np.full(2, 14.0))
    hu[depth > 0] = 1300
    hu[depth > 6] = -40
    return hu


def _lung(grid: Grid, rng: np.random.Generator) -> Array:
    spacing = grid.spacing_mm[::-1]
    hu = -860 + 30 * smooth_field(grid.shape, spacing, (8.0, 8.0, 8.0), rng)
    vessels = smooth_field(grid.shape, spacing, (6.0, 6.0, 6.0), rng)
    hu[vessels > 2.0] = 40
    _, y, x = _centered(grid)
    wall = np.sqrt((x / 0.48) ** 2 + (y / 0.48) ** 2) > min(grid.extent_mm[:2])
    hu[np.broadcast_to(wall, hu.shape)] = 40
    return hu


def _head(grid: Grid, rng: np.random.Generator) -> Array:
    z, y, x = _centered(grid)
    size = rng.uniform(0.9, 1.05)
    radius = (
        np.sqrt((x / 72) ** 2 + (y / 92) ** 2 + ((z + grid.extent_mm[2] / 2 - 20) / 90) ** 2) / size
    )
    hu = np.where(radius < 1.07, 20.0, -1000.0)
    hu[(radius < 1.0) & (radius > 0.93)] = 1100
    brain = radius <= 0.93
    hu[brain] = 34 + 5 * smooth_field(grid.shape, grid.spacing_mm[::-1], (12, 8, 8), rng)[brain]
    return hu
