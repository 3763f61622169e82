"""Sacrum, pelvis and skull from numbers alone: where no torso is given."""

from __future__ import annotations

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.poses import PosedVertebra

Array = np.ndarray


def draw_skeleton(
    bone_mm: Array, grid: Grid, posed: list[PosedVertebra], raised_mm: float = 0.0
) -> Array | None:
    """Draw a skull above C1 and a pelvis below the last lumbar vertebra, in place.

    Args:
        bone_mm: (z, y, x) signed depth of bones that are no vertebrae.
        grid: its grid.
        posed: the spine.
        raised_mm: how much nearer than usual the sacrum stands.

    Returns:
        The centre of S1, None where no sacrum is drawn.
    """
    if posed[0].vertebra is Vertebra.C1:
        _skull(bone_mm, grid, posed[0])
    if posed[-1].vertebra in (Vertebra.L5, Vertebra.L6):
        return _pelvis(bone_mm, grid, posed[-1], raised_mm)
    return None


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


def _pelvis(bone_mm: Array, grid: Grid, last: PosedVertebra, raised_mm: float) -> Array:
    """Draw sacrum, iliac wings, sockets, femoral heads and shafts; return the centre of S1."""
    size, half = float(last.scale.mean()), last.half_size_mm
    top = last.center_mm - (half[2] + 9 * size - raised_mm) * last.axes[2]
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
    return top + spine[0]
