"""Regions of an array: components, bounding blocks, smoothing in millimetres."""

from __future__ import annotations

from typing import Literal

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from payerseg.domain.volume import Volume

Connectivity = Literal[6, 18, 26]
Block = tuple[tuple[int, int, int], tuple[int, int, int]]

_FILTER_ORDER = 4
_STRUCTURES = {6: 1, 18: 2, 26: 3}


def largest_component(
    mask: np.ndarray, connectivity: Connectivity = 26, weights: np.ndarray | None = None
) -> np.ndarray:
    """Keep the component with most voxels, or most weight, the first in array order among equals.

    Args:
        mask: (z, y, x), anything non-zero is inside.
        connectivity: 6 shares faces, 18 also edges, 26 also corners.
        weights: (z, y, x), what each voxel counts; left out = 1.

    Returns:
        A bool array of the same shape; all False where the mask is empty.
    """
    out = np.zeros(mask.shape, bool)
    block = bounding_block(mask)
    if block is None:
        return out
    inside = tuple(slice(a, b) for a, b in zip(*block, strict=True))
    structure = ndimage.generate_binary_structure(3, _STRUCTURES[connectivity])
    labels, _ = ndimage.label(mask[inside] != 0, structure)
    each = None if weights is None else weights[inside].ravel()
    sizes = np.bincount(labels.ravel(), each)
    sizes[0] = 0
    out[inside] = labels == np.argmax(sizes)
    return out


def bounding_block(mask: np.ndarray, margin_voxels: int = 0) -> Block | None:
    """Return (start, stop) indices (z, y, x) around all non-zero voxels, clipped to the array.

    Returns:
        None where there are none.
    """
    start, stop = [], []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        hits = np.flatnonzero(np.any(mask, axis=others))
        if not len(hits):
            return None
        start.append(max(0, int(hits[0]) - margin_voxels))
        stop.append(min(mask.shape[axis], int(hits[-1]) + 1 + margin_voxels))
    return tuple(start), tuple(stop)


def smooth_mm(volume: Volume, sigma_mm: float) -> Volume:
    """Smooth with ITK's recursive Gaussian, whose sigma is in millimetres along every stored axis.

    The recursive filter approximates the Gaussian (REFERENCE §1: a sampled one differs by 0.7 HU in
    the mean), and the reference was trained with it, so it is kept.

    Args:
        volume: (z, y, x); an axis of fewer than 4 voxels (the filter's order) repeats its border.
        sigma_mm: 0 returns the values as float32.

    Returns:
        A float32 volume.
    """
    if sigma_mm == 0:
        return volume.with_array(volume.array.astype(np.float32))
    lack = [(0, max(0, _FILTER_ORDER - size)) for size in volume.grid.shape]
    image = sitk.GetImageFromArray(np.pad(volume.array.astype(np.float32), lack, mode="edge"))
    image.SetSpacing(volume.grid.spacing_mm)
    smoothed = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, sigma_mm))
    inside = tuple(slice(size) for size in volume.grid.shape)
    return volume.with_array(smoothed[inside])
