"""Overlapping tiles of an input that is too large for one pass, and how their outputs are joined.

Our rule: tiles spread evenly, as many as the overlap asks for, no limit to their number; outputs are
averaged with smooth weights that are above 0 everywhere, so every voxel has a value. The reference's
rule (fixed steps, the last tile pushed back, maximum) is kept for comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import product

import numpy as np

Zyx = tuple[int, int, int]

WEIGHT_FLOOR = 1e-3
"""Weight at a tile's outermost voxels, relative to its centre."""


def plan_tiles(shape_zyx: Zyx, tile_zyx: Zyx, overlap: float = 0.5, multiple: int = 1) -> list[Zyx]:
    """Return where tiles start so that they cover every voxel.

    Args:
        shape_zyx: of the whole, voxels.
        tile_zyx: of one tile, at most `shape_zyx`.
        overlap: least part of a tile shared with the next one along an axis, in [0, 1).
        multiple: starts are multiples of this, so that pooling grids of all tiles agree; shape and
            tile must be multiples of it too.

    Returns:
        Starts (z, y, x), x fastest.

    Raises:
        ValueError: a tile larger than the whole, an overlap outside [0, 1), or a wrong multiple.
    """
    sizes = [*shape_zyx, *tile_zyx]
    fits = all(1 <= t <= n for n, t in zip(shape_zyx, tile_zyx, strict=True))
    if not fits or not 0 <= overlap < 1 or any(n % multiple for n in sizes):
        msg = (
            f"tiles of {tile_zyx} over {shape_zyx} voxels with overlap {overlap}; expected tiles "
            f"within the whole, both multiples of {multiple}, and an overlap in [0, 1)"
        )
        raise ValueError(msg)
    axes = [
        _axis_starts(n // multiple, t // multiple, overlap)
        for n, t in zip(shape_zyx, tile_zyx, strict=True)
    ]
    return [(multiple * z, multiple * y, multiple * x) for z, y, x in product(*axes)]


def _axis_starts(size: int, tile: int, overlap: float) -> list[int]:
    if tile == size:
        return [0]
    step = max(1.0, tile * (1 - overlap))
    steps = math.ceil((size - tile) / step)
    return [i * (size - tile) // steps for i in range(steps + 1)]


def reference_tiles(
    shape: tuple[int, ...], tile: tuple[int, ...], step: tuple[int, ...]
) -> list[Zyx]:
    """Return the reference's tile starts in its order: first axis fastest (REFERENCE §3).

    Starts are 0, step, 2 step, …; the last one is pushed back to end with the whole. A tile larger
    than the whole is centred, rounded down, with a negative start.
    """
    axes = []
    for size, width, stride in zip(shape, tile, step, strict=True):
        if width >= size:
            axes.append([(size - width) // 2])
            continue
        last = size - width
        axes.append([*range(0, last, stride or width), last])
    return [starts[::-1] for starts in product(*axes[::-1])]  # type: ignore[misc]


def tile_weights(tile_zyx: Zyx) -> np.ndarray:
    """Return the weight of every voxel of a tile, (z, y, x) float32 in [floor³, 1].

    A squared sine along each axis: two tiles that overlap by half add up to 1.
    """
    axes = [
        np.maximum(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2, WEIGHT_FLOOR) for n in tile_zyx
    ]
    return (axes[0][:, None, None] * axes[1][:, None] * axes[2]).astype(np.float32)


def tile_size(
    shape_zyx: Zyx, max_voxels: float, multiple: int = 1, least_voxels_a_side: int = 32
) -> Zyx:
    """Return the largest tile of at most `max_voxels`: the longest side shrinks first.

    Args:
        shape_zyx: of the whole; sides are multiples of `multiple`.
        max_voxels: bound, which gives way to the least side.
        multiple: of the tile's sides.
        least_voxels_a_side: a smaller tile would be mostly border.
    """
    least = multiple * math.ceil(least_voxels_a_side / multiple)
    tile = list(shape_zyx)
    while math.prod(tile) > max_voxels and max(tile) > least:
        longest = tile.index(max(tile))
        tile[longest] = max(least, tile[longest] - multiple)
    return tuple(tile)


def blend_tiles(
    outputs: Iterable[tuple[Zyx, np.ndarray]], shape_zyx: Zyx, channels: int
) -> np.ndarray:
    """Average tiles with smooth weights.

    Args:
        outputs: (start, (z, y, x, channel) output) of equal-sized tiles that cover the whole.
        shape_zyx: of the whole.
        channels: of the outputs.

    Returns:
        (z, y, x, channel) float32.
    """
    total = np.zeros((*shape_zyx, channels), np.float32)
    weight = np.zeros(shape_zyx, np.float32)
    window: np.ndarray | None = None
    for start, output in outputs:
        if window is None:
            window = tile_weights(output.shape[:3])
        place = _place(start, output.shape[:3])
        total[place] += output * window[..., None]
        weight[place] += window
    total /= weight[..., None]
    return total


def merge_tiles_by_maximum(
    outputs: Iterable[tuple[Zyx, np.ndarray]], shape_zyx: Zyx, channels: int
) -> np.ndarray:
    """Take the largest value of all tiles at each voxel, as the reference does.

    Tiles may reach beyond the whole; what lies outside is dropped.

    Returns:
        (z, y, x, channel) float32; -inf where no tile reaches.
    """
    total = np.full((*shape_zyx, channels), -np.inf, np.float32)
    for start, output in outputs:
        inside = tuple(
            slice(max(0, -a), min(w, n - a))
            for a, w, n in zip(start, output.shape, shape_zyx, strict=False)
        )
        part = output[inside]
        place = _place(tuple(max(0, a) for a in start), part.shape[:3])
        total[place] = np.maximum(total[place], part)
    return total


def _place(start: Zyx, size: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
