"""Ribs, sacrum, pelvis and skull from numbers alone: where no torso is given, and for ribs torsos lack."""

from __future__ import annotations

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.outline import OUTLINE
from payerseg.synthesis.poses import PosedVertebra

Array = np.ndarray
RIB_REACH = {"T1": 0.9, "T2": 1.0, "T11": 0.62, "T12": 0.36, "T13": 0.2}
"""How far round the chest a rib goes, 1 = to its cartilage; floating ribs end early."""
RIB_RADIUS_MM = 4.2


def draw_skeleton(bone_mm: Array, grid: Grid, posed: list[PosedVertebra]) -> None:
    """Draw ribs at thoracic levels, a skull above C1 and a pelvis below the last lumbar one, in place.

    Args:
        bone_mm: (z, y, x) signed depth of bones that are no vertebrae.
        grid: its grid.
        posed: the spine.
    """
    for one in posed:
        if one.vertebra.name[0] == "T":
            draw_ribs(bone_mm, grid, one)
    if posed[0].vertebra is Vertebra.C1:
        _skull(bone_mm, grid, posed[0])
    if posed[-1].vertebra in (Vertebra.L5, Vertebra.L6):
        _pelvis(bone_mm, grid, posed[-1])


def draw_ribs(bone_mm: Array, grid: Grid, posed: PosedVertebra, reach: float | None = None) -> None:
    """Draw one pair of ribs, from the costovertebral joint around the chest.

    Args:
        bone_mm: changed in place.
        grid: its grid.
        posed: the vertebra they hang on.
        reach: share of the way round; by default usual for the level.
    """
    half, size = posed.half_size_mm, float(posed.scale.mean())
    level = posed.vertebra.verse_label - 1.0 if posed.vertebra is not Vertebra.T13 else 18.6
    wide, front, rear = (np.interp(level, OUTLINE[:, 0], OUTLINE[:, k]) * size for k in (1, 2, 3))
    chest = wide * np.interp(level, [7, 9, 12, 16], [0.38, 0.60, 0.84, 0.88]) - 4 * size
    front = -front + 22 * size
    rear = min(rear - 24 * size, half[1] + 38 * size)
    drop = np.interp(level, [7, 9, 13, 17], [26, 45, 78, 95]) * size
    path = np.array([
        (half[0] - 1, 0.75 * half[1], 0.55 * half[2]),
        (half[0] + 9 * size, half[1] + 8 * size, 0.55 * half[2]),
        (half[0] + 22 * size, half[1] + 15 * size, 0.3 * half[2]),
        (0.62 * chest, rear, -0.10 * drop), (0.90 * chest, 0.6 * rear, -0.25 * drop),
        (chest, 0.2 * front, -0.48 * drop), (0.93 * chest, 0.6 * front, -0.72 * drop),
        (0.68 * chest, 0.92 * front, -0.92 * drop), (0.42 * chest, front, -drop),
    ])  # fmt: skip
    share = RIB_REACH.get(posed.vertebra.name, 1.0) if reach is None else reach
    fine = _resampled(path, 22)
    fine = fine[: max(4, round(share * len(fine)))]
    radius = (
        RIB_RADIUS_MM * size * np.interp(np.arange(len(fine)), [0, 2, len(fine)], [0.8, 1.0, 1.05])
    )
    near = np.exp(-np.linalg.norm(fine[:, :2], axis=1) / 45.0)[:, None]
    for side in (1.0, -1.0):
        local = fine * (side, 1.0, 1.0)
        # At the joint the rib follows the vertebra's own tilt, further out the body's.
        world = posed.center_mm + near * (local @ posed.axes) + (1 - near) * local
        capsules(bone_mm, grid, world, radius)


def join_ribs(bone_mm: Array, grid: Grid, posed: PosedVertebra) -> None:
    """Grow necks and heads onto ribs that end short of their vertebra, in place.

    Automatic rib masks stop 5-10 mm before the joint, and another spine's joints lie elsewhere.
    """
    half, size = posed.half_size_mm, float(posed.scale.mean())
    for side in (1.0, -1.0):
        local = np.array([
            (side * (half[0] - 0.5), 0.75 * half[1], 0.55 * half[2]),
            (side * (half[0] + 9 * size), half[1] + 8 * size, 0.5 * half[2]),
            (side * (half[0] + 24 * size), half[1] + 15 * size, 0.2 * half[2]),
        ])  # fmt: skip
        points = posed.center_mm + local @ posed.axes
        end = _nearest_bone(bone_mm, grid, points[2], 22.0 * size)
        if end is None:
            continue
        path = _resampled(np.array([points[0], points[1], end]), 7)
        capsules(bone_mm, grid, path, np.linspace(3.2, 4.4, 7) * size)


def _nearest_bone(bone_mm: Array, grid: Grid, point_mm: Array, reach_mm: float) -> Array | None:
    """Return the point deepest inside bone nearest to a point, None where there is none in reach."""
    ends = grid.map_world_to_indices(np.stack([point_mm - reach_mm, point_mm + reach_mm]))
    start = np.maximum(np.floor(ends[0]).astype(int), 0)
    stop = np.minimum(np.ceil(ends[1]).astype(int) + 1, grid.shape)
    if np.any(start >= stop):
        return None
    box = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    inside = np.argwhere(bone_mm[box] > 1.0)
    if not len(inside):
        return None
    world = grid.map_indices_to_world(inside + start)
    far = np.linalg.norm(world - point_mm, axis=1)
    nearest = int(np.argmin(far))
    return world[nearest] if far[nearest] <= reach_mm else None


def capsules(bone_mm: Array, grid: Grid, points_mm: Array, radius_mm: Array) -> None:
    """Draw a round rod through world points with a radius at each, in place (signed depth)."""
    step = np.asarray(grid.spacing_mm)
    for k in range(len(points_mm) - 1):
        a, b, r = points_mm[k], points_mm[k + 1], float(radius_mm[k : k + 2].mean())
        low = (np.minimum(a, b) - r - 4 - grid.origin_mm) / step
        high = (np.maximum(a, b) + r + 4 - grid.origin_mm) / step
        start = np.maximum(np.floor(low).astype(int), 0)[::-1]
        stop = np.minimum(np.ceil(high).astype(int)[::-1] + 1, grid.shape)
        if np.any(start >= stop):
            continue
        box = tuple(slice(int(i), int(j)) for i, j in zip(start, stop, strict=True))
        z, y, x = (
            (np.arange(s.start, s.stop) * step[2 - j] + grid.origin_mm[2 - j]).astype(np.float32)
            for j, s in enumerate(box)
        )
        x, y, z = x[None, None, :] - a[0], y[None, :, None] - a[1], z[:, None, None] - a[2]
        line = b - a
        length = float(line @ line) or 1.0
        along = np.clip((x * line[0] + y * line[1] + z * line[2]) / length, 0, 1)
        far = np.sqrt(
            (x - along * line[0]) ** 2 + (y - along * line[1]) ** 2 + (z - along * line[2]) ** 2
        )
        np.maximum(bone_mm[box], r - far, out=bone_mm[box], casting="same_kind")


def _resampled(path: Array, count: int) -> Array:
    """Return `count` points along a polyline at even arc length, corners rounded a little."""
    arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    at = np.linspace(0, arc[-1], count)
    out = np.stack([np.interp(at, arc, path[:, k]) for k in range(3)], axis=1)
    out[1:-1] = (out[:-2] + 2 * out[1:-1] + out[2:]) / 4
    return out


def _skull(bone_mm: Array, grid: Grid, atlas: PosedVertebra) -> None:
    """Draw a shell of a head with jaw and base above C1."""
    size = float(atlas.scale.mean())
    center = atlas.center_mm + np.array([0.0, -8.0, 86.0]) * size
    z, y, x = (
        (np.arange(n) * grid.spacing_mm[2 - j] + grid.origin_mm[2 - j] - center[2 - j]).astype(
            np.float32
        )
        for j, n in enumerate(grid.shape)
    )
    rows = slice(*np.searchsorted(z, (-85 * size, 85 * size)))
    if rows.start < rows.stop:
        radius = np.sqrt(
            (x[None, None, :] / (71 * size)) ** 2 + (y[None, :, None] / (92 * size)) ** 2
            + (z[rows, None, None] / (70 * size)) ** 2
        )  # fmt: skip
        shell = 3.2 * size - np.abs(1 - radius) * 74 * size
        np.maximum(bone_mm[rows], shell, out=bone_mm[rows], casting="same_kind")
    jaw = (
        np.array([(48, -30, 28), (47, -40, 0), (40, -62, -18), (22, -88, -24), (0, -96, -25)])
        * size
    )
    base = np.array([(0, -14, 18), (0, -34, 26), (0, -70, 30)]) * size
    for side in (1, -1):
        capsules(bone_mm, grid, atlas.center_mm + jaw * (side, 1, 1), np.full(5, 6.0 * size))
        condyle = np.array([(10, 4, 12), (26, 6, 20), (44, 8, 22)]) * size
        capsules(bone_mm, grid, atlas.center_mm + condyle * (side, 1, 1), np.full(3, 5.0 * size))
    capsules(bone_mm, grid, atlas.center_mm + base, np.full(3, 8.0 * size))


def _pelvis(bone_mm: Array, grid: Grid, last: PosedVertebra) -> None:
    """Draw sacrum, iliac wings, sockets, femoral heads and shafts below the last lumbar vertebra."""
    size, half = float(last.scale.mean()), last.half_size_mm
    top = last.center_mm - (half[2] + 9 * size) * last.axes[2]
    spine = np.array([(0, 4, -15), (0, 20, -38), (0, 34, -60), (0, 40, -84), (0, 34, -104)]) * size
    capsules(bone_mm, grid, top + spine, np.array([15, 14, 12, 9, 6]) * size)
    parts = [
        ([(8, 6, -16), (34, 14, -14), (40, 24, -40), (16, 30, -58)], (13, 14, 11, 8)),
        ([(52, 30, -8), (66, 22, 22), (88, -10, 40), (112, -48, 26), (118, -70, 0)], (6, 6, 5, 5, 6)),
        ([(52, 30, -8), (60, 26, -38), (74, -4, -66), (86, -28, -92)], (7, 9, 12, 13)),
        ([(66, 20, 18), (76, 4, -20), (84, -14, -60)], (5, 5, 8)),
        ([(88, -10, 36), (92, -22, -20), (88, -28, -80)], (4, 4, 9)),
        ([(86, -28, -96), (60, -52, -118), (14, -66, -128)], (11, 8, 8)),
        ([(80, -10, -100), (62, 4, -140), (44, -20, -150), (16, -58, -136)], (10, 11, 8, 7)),
        ([(92, -28, -96), (112, -24, -108), (146, -18, -130), (150, -20, -230)], (22, 13, 17, 14)),
    ]  # fmt: skip
    for path, radii in parts:
        points = np.array(path, float) * size
        for side in (1, -1):
            capsules(bone_mm, grid, top + points * (side, 1, 1), np.array(radii, float) * size)
