"""Bring voxels from one grid to another.

All geometry is ours (`Grid`, also sheared); SimpleITK sees images in index space (spacing 1, origin 0)
and one affine transform from output index to input index, so no orientation can be lost on the way.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import SimpleITK as sitk

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume

Interpolation = Literal["nearest", "linear", "cubic"]

_INTERPOLATORS = {
    "nearest": sitk.sitkNearestNeighbor,
    "linear": sitk.sitkLinear,
    "cubic": sitk.sitkBSpline,
}
_REACH_VOXELS = {"nearest": 1, "linear": 2, "cubic": 12}
"""How far beyond the block an interpolator looks; the B-spline prefilter decays below 1e-6 in 12."""

SHRINK_VOXELS = 8_000_000
"""Voxels that are averaged at a time: copies of a whole scan cost more than the averages."""


def resample(
    volume: Volume, onto: Grid, *, interpolation: Interpolation = "linear", outside: float = 0.0
) -> Volume:
    """Sample a volume at the voxel centres of another grid.

    Args:
        volume: (z, y, x) or (z, y, x, channel) values.
        onto: the wanted grid.
        interpolation: "nearest" keeps the values' type, the others give float32.
        outside: value where `onto` lies beyond the voxels of `volume`.

    Returns:
        A volume on `onto`.
    """
    block = crop_to_cover(volume, onto, _REACH_VOXELS[interpolation])
    if block is None:
        kind = volume.array.dtype if interpolation == "nearest" else np.float32
        return Volume(np.full(onto.shape + volume.array.shape[3:], outside, kind), onto)
    image = sitk.GetImageFromArray(block.array, isVector=block.array.ndim == 4)
    step = np.linalg.solve(block.grid.matrix, onto.matrix)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(step[:3, :3].ravel().tolist())
    transform.SetTranslation(step[:3, 3].tolist())
    pixel = image.GetPixelID()
    if interpolation != "nearest":
        pixel = sitk.sitkVectorFloat32 if block.array.ndim == 4 else sitk.sitkFloat32
    sampled = sitk.Resample(
        image, onto.shape[::-1], transform, _INTERPOLATORS[interpolation],
        (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), np.eye(3).ravel().tolist(), float(outside), pixel,
    )  # fmt: skip
    return Volume(sitk.GetArrayFromImage(sampled), onto)


def box_shrink(volume: Volume, factors_zyx: tuple[int, int, int]) -> Volume:
    """Average blocks of whole voxels; the last block repeats the border voxels it lacks.

    Args:
        volume: (z, y, x) values; integers are averaged exactly and rounded.
        factors_zyx: voxels per block along (z, y, x), each at least 1.

    Returns:
        A volume with `ceil(shape / factors)` voxels whose centres are the blocks' centres.
    """
    if max(factors_zyx) == 1:
        return volume
    array, per_block = volume.array, int(factors_zyx[0])
    blocks = max(1, SHRINK_VOXELS // (per_block * max(1, array[0].size)))
    starts = range(0, len(array), blocks * per_block)
    slabs = [_slab_shrunk(array[z : z + blocks * per_block], factors_zyx) for z in starts]
    shrunk = np.concatenate(slabs)
    centre = (np.asarray(factors_zyx) - 1) / 2
    origin = volume.grid.map_indices_to_world(centre[None])[0]
    spacing = tuple(np.multiply(volume.grid.spacing_mm, factors_zyx[::-1]))
    return Volume(shrunk, Grid(shrunk.shape, spacing, tuple(origin), volume.grid.direction))


def _slab_shrunk(slab: np.ndarray, factors_zyx: tuple[int, int, int]) -> np.ndarray:
    lack = [(0, -size % f) for size, f in zip(slab.shape, factors_zyx, strict=True)]
    padded = np.pad(slab, lack, mode="edge") if np.any(lack) else slab
    image = sitk.GetImageFromArray(padded)
    return sitk.GetArrayFromImage(sitk.BinShrink(image, [int(f) for f in factors_zyx[::-1]]))


def sample_smoothly(volume: Volume, onto: Grid, *, outside: float) -> Volume:
    """Resample linearly to a coarser grid without aliasing.

    Whole voxels are averaged to just below the wanted spacing first; only the block that `onto`
    covers is touched, so the cost follows the wanted region, not the scan.

    Args:
        volume: (z, y, x) values.
        onto: the wanted grid.
        outside: value beyond the scan.

    Returns:
        A float32 volume on `onto`.
    """
    ratio = np.min(onto.spacing_mm) / np.asarray(volume.grid.spacing_mm[::-1])
    factors = tuple(int(f) for f in np.maximum(1, np.floor(ratio + 1e-3)))
    block = crop_to_cover(volume, onto, 2 * max(factors))
    if block is None:
        return resample(volume, onto, outside=outside)
    return resample(box_shrink(block, factors), onto, outside=outside)


def crop_to_cover(volume: Volume, onto: Grid, reach_voxels: int) -> Volume | None:
    """Return the block of `volume` that `onto` needs, as a view.

    Args:
        volume: (z, y, x) or (z, y, x, channel) values.
        onto: the grid to be sampled.
        reach_voxels: how far beyond `onto` a filter looks.

    Returns:
        None where the two do not meet.
    """
    corners = volume.grid.map_world_to_indices(onto.corners_mm())
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int) - reach_voxels, 0)
    high = np.minimum(
        np.ceil(corners.max(axis=0)).astype(int) + reach_voxels + 1, volume.grid.shape
    )
    if np.any(low >= high):
        return None
    return volume.cropped(tuple(low.tolist()), tuple(high.tolist()))
