"""Random fields: cheap, seeded, with a stated correlation length."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

Array = np.ndarray


def smooth_field(
    shape: tuple[int, int, int],
    spacing_zyx: tuple[float, float, float],
    length_mm: tuple[float, float, float],
    rng: np.random.Generator,
) -> Array:
    """Return a float32 field of mean 0 and SD 1 that varies over given lengths (z, y, x).

    Drawn on a coarse lattice and interpolated, so a long correlation costs little. The world's
    scale, not the grid's, decides: the same lengths look alike at any spacing.
    """
    step = [max(1.0, length / s / 2.0) for length, s in zip(length_mm, spacing_zyx, strict=True)]
    coarse = [int(np.ceil(n / s)) + 4 for n, s in zip(shape, step, strict=True)]
    field = rng.standard_normal(coarse, dtype=np.float32)
    field = ndimage.gaussian_filter(field, [1.0 if s > 1 else 0.0 for s in step])
    field /= max(float(field.std()), 1e-6)
    for axis in np.argsort(step):  # the longest stretch last: fewer values to move before it
        field = _stretch(field, int(axis), shape[axis], step[axis])
    return field


def _stretch(field: Array, axis: int, count: int, step: float) -> Array:
    """Interpolate linearly along one axis: `count` samples, `step` samples per lattice point."""
    if step == 1.0:
        return np.take(field, np.arange(1, count + 1), axis=axis)
    at = 1.0 + np.arange(count) / step
    low = at.astype(int)
    share = (at - low).astype(np.float32)
    share = share.reshape([-1 if k == axis else 1 for k in range(3)])
    out = np.take(field, low, axis=axis)
    rise = np.take(np.diff(field, axis=axis), low, axis=axis)
    rise *= share
    out += rise
    return out
