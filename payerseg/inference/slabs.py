"""Patches over a region that is too large to hold with all its channels: joined slab by slab.

26 classes over a whole spine at 1 mm are gigabytes; a slab as high as one patch is not. Patches come
in the order of `plan_patches`, from the region's first slice on; what no later patch reaches is final.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.inference.predictor import Predictor
from payerseg.inference.tiles import Zyx, plan_tiles, tile_size, tile_weights


def plan_patches(
    predictor: Predictor, region: Grid, patch_zyx: Zyx, overlap: float = 0.25
) -> list[Grid]:
    """Return equal-sized windows that cover a region.

    Args:
        predictor: of the network; its memory bound may make patches smaller.
        region: sides are multiples of the network's multiple.
        patch_zyx: largest patch, voxels.
        overlap: least part of a patch shared with the next one along an axis.
    """
    largest = tuple(min(n, p) for n, p in zip(region.shape, patch_zyx, strict=True))
    patch = tile_size(largest, predictor.max_voxels, predictor.multiple)
    starts = plan_tiles(region.shape, patch, overlap, predictor.multiple)
    return [region.window(start, patch) for start in starts]


def blend_in_slabs(patches: Iterable[Volume], region: Grid) -> Iterator[Volume]:
    """Average overlapping patches with smooth weights and hand out what is final.

    Args:
        patches: predictions (z, y, x, channel) on the windows of `plan_patches`, in their order.
        region: which they cover.

    Yields:
        Slabs of the region without overlap, from its first slice to its last, float32.
    """
    total: np.ndarray | None = None
    first = 0
    for patch in patches:
        size, channels = patch.array.shape[:3], patch.array.shape[3]
        if total is None:
            window = tile_weights(size)[..., None]
            total = np.zeros((size[0], *region.shape[1:], channels + 1), np.float32)
        start = np.rint(region.map_world_to_indices(np.array([patch.grid.origin_mm]))[0])
        z, y, x = start.astype(int)
        if z > first:
            yield _slab(total[: z - first], region, first)
            _move_up(total, z - first)
            first = z
        place = total[:, y : y + size[1], x : x + size[2]]
        place[..., :-1] += patch.array * window
        place[..., -1:] += window
    if total is not None:
        yield _slab(total, region, first)


def _move_up(total: np.ndarray, n_slices: int) -> None:
    """Drop the first slices in place: a copy would double the memory."""
    kept = total.shape[0] - n_slices
    for i in range(kept):
        total[i] = total[i + n_slices]
    total[kept:] = 0


def _slab(total: np.ndarray, region: Grid, first: int) -> Volume:
    grid = region.window((first, 0, 0), total.shape[:3])
    return Volume(total[..., :-1] / total[..., -1:], grid)
