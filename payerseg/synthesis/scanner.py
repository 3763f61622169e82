"""What a scanner does to an ideal image: kernel, slice thickness, noise, streaks, metal, rounding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from payerseg.domain.grid import Grid

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


SLICES_MM = (0.7, 1.0, 1.25, 2.0, 2.5, 3.0, 5.0)
SLICE_SHARES = (0.2, 0.22, 0.18, 0.12, 0.1, 0.12, 0.06)
HU_RANGE = (-1024.0, 3071.0)


@dataclass(frozen=True, slots=True)
class Scanner:
    """How one scan was taken.

    Attributes:
        blur_mm: in-plane sigma of the kernel beyond the voxel's own.
        sharpen: strength of an edge-enhancing (bone or lung) kernel, 0..1.5.
        noise_hu: SD of the noise in soft tissue.
        noise_grain_mm: correlation length of the noise in the plane.
        slice_mm: slice thickness; thicker than the grid means averaged and interpolated again.
        streaks_hu: SD of horizontal photon-starvation streaks.
    """

    blur_mm: float = 0.4
    sharpen: float = 0.0
    noise_hu: float = 12.0
    noise_grain_mm: float = 1.0
    slice_mm: float = 1.0
    streaks_hu: float = 0.0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Scanner:
        """Draw a usual scanner: half soft, a third sharp kernels, thin to thick slices."""
        sharp = rng.random() < 0.4
        return cls(
            blur_mm=float(rng.uniform(0.0, 0.35) if sharp else rng.uniform(0.25, 0.85)),
            sharpen=float(rng.uniform(0.3, 1.4)) if sharp else 0.0,
            noise_hu=float(rng.gamma(2.0, 14.0) + 5 if sharp else rng.gamma(2.2, 5.0) + 3),
            noise_grain_mm=float(rng.uniform(0.5, 0.9) if sharp else rng.uniform(0.8, 1.6)),
            slice_mm=float(rng.choice(SLICES_MM, p=SLICE_SHARES)),
            streaks_hu=float(rng.gamma(1.5, 5.0)) if rng.random() < 0.25 else 0.0,
        )


def scan(hu: Array, grid: Grid, scanner: Scanner, rng: np.random.Generator) -> Array:
    """Return float32 HU of an ideal (z, y, x) image as a scanner would give it; see `rounded`."""
    step_z, step_y, step_x = grid.spacing_mm[::-1]
    image = _thick_slices(hu, step_z, scanner.slice_mm)
    image = ndimage.gaussian_filter(image, (0, scanner.blur_mm / step_y, scanner.blur_mm / step_x))
    if scanner.sharpen > 0:
        soft = ndimage.gaussian_filter(image, (0, 1.0 / step_y, 1.0 / step_x))
        image = image + scanner.sharpen * (image - soft)
    image = image + _noise(hu.shape, grid, scanner, rng)
    if scanner.streaks_hu > 0:
        image = image + _streaks(image, grid, scanner.streaks_hu, rng)
    return image


def rounded(image: Array) -> Array:
    """Return what is stored: whole HU within `HU_RANGE` as int16."""
    return np.clip(np.rint(image), *HU_RANGE).astype(np.int16)


def _thick_slices(image: Array, step_z: float, slice_mm: float) -> Array:
    """Average over the slice thickness and interpolate the slices between again."""
    count = slice_mm / step_z
    if count < 1.4:
        return image
    blurred = ndimage.gaussian_filter1d(image, 0.36 * count, axis=0)
    at = np.arange(0, image.shape[0] - 1 + count, count)
    slices = np.take(blurred, np.minimum(np.rint(at).astype(int), image.shape[0] - 1), axis=0)
    position = np.minimum(np.arange(image.shape[0]) / count, len(slices) - 1.001)
    low = position.astype(int)
    share = (position - low).astype(np.float32)[:, None, None]
    return slices[low] * (1 - share) + slices[np.minimum(low + 1, len(slices) - 1)] * share


def _noise(shape: tuple[int, ...], grid: Grid, scanner: Scanner, rng: np.random.Generator) -> Array:
    """Return correlated noise; sharp kernels suppress its low frequencies."""
    step_z, step_y, step_x = grid.spacing_mm[::-1]
    noise = rng.standard_normal(shape, dtype=np.float32)
    along_z = 0.3 * max(scanner.slice_mm / step_z, 1.0)
    grain = scanner.noise_grain_mm / 2
    noise = ndimage.gaussian_filter(noise, (along_z, grain / step_y, grain / step_x))
    if scanner.sharpen > 0.2:
        noise -= ndimage.gaussian_filter(noise, (0, 2.2 / step_y, 2.2 / step_x))
    noise *= scanner.noise_hu / max(float(noise.std()), 1e-6)
    return noise


def _streaks(image: Array, grid: Grid, strength_hu: float, rng: np.random.Generator) -> Array:
    """Return left-right streaks, stronger in slices with more bone and soft tissue across."""
    absorb = np.clip(image + 1000, 0, 2500).mean(axis=(1, 2))
    absorb = absorb / max(float(absorb.max()), 1.0)
    lines = rng.standard_normal(image.shape[:2], dtype=np.float32)
    lines = lines - ndimage.gaussian_filter1d(lines, 3.0 / grid.spacing_mm[1], axis=1)
    wave = smooth_field(image.shape, grid.spacing_mm[::-1], (0.1, 0.1, 28.0), rng)
    return (strength_hu * (absorb**2)[:, None, None] * (0.5 * lines[:, :, None] + wave)).astype(
        np.float32
    )
