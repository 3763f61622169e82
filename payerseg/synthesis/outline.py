"""A body from numbers alone: outline, tubes and blobs per level, for the neck and where no torso is given.

All positions are mm from the spine's centre in the slice, for a person of usual size: `left` towards the
patient's left, `back` towards the back (negative = in front of the spine).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.poses import PosedVertebra
from payerseg.synthesis.tissues import Tissue

Array = np.ndarray

OUTLINE = np.array([
    # level, half width, front, back (spine centre to skin)
    (-9.0, 30, 40, 20), (-7.5, 66, 90, 66), (-5.0, 76, 104, 88), (-1.5, 75, 104, 84), (0.0, 66, 100, 70),
    (1.6, 60, 92, 62), (3.0, 57, 60, 64), (5.0, 60, 54, 66), (6.2, 95, 56, 62), (7.5, 165, 68, 60),
    (9.0, 185, 95, 62), (12.0, 165, 145, 62), (16.0, 158, 158, 60), (19.0, 155, 155, 64),
    (22.0, 160, 140, 72), (25.0, 178, 130, 88), (30.0, 182, 120, 95),
])  # fmt: skip
"""Rough adult outline (anthropometric ranges, supine, arms up)."""


@dataclass(frozen=True, slots=True)
class Tube:
    """An elliptic column whose centre and radii change with the level.

    Attributes:
        tissue: what it is made of.
        knots: rows of (level, left, back, half width, half depth); absent beyond the first and last.
        paired: whether the mirror image exists too.
        round_ends: whether radii fall to zero at the ends like an egg's.
    """

    tissue: int
    knots: tuple[tuple[float, float, float, float, float], ...]
    paired: bool = False
    round_ends: bool = False

    def at(self, level: float) -> tuple[float, float, float, float] | None:
        """Return (left, back, half width, half depth) at a level, None where the tube is not."""
        rows = np.asarray(self.knots, float)
        if not rows[0, 0] <= level <= rows[-1, 0]:
            return None
        values = [float(np.interp(level, rows[:, 0], rows[:, k])) for k in range(1, 5)]
        if self.round_ends:
            middle, half = (rows[0, 0] + rows[-1, 0]) / 2, (rows[-1, 0] - rows[0, 0]) / 2
            shrink = np.sqrt(max(1 - ((level - middle) / half) ** 2, 0.0))
            values[2:] = [v * shrink for v in values[2:]]
        return tuple(values)


NECK = (
    Tube(Tissue.VISCERAL, ((0.6, 33, -9, 15, 17), (3.0, 34, -12, 15, 18), (6.6, 40, -14, 24, 18)),
         paired=True),
    Tube(Tissue.VISCERAL, ((1.2, 0, -50, 34, 5), (2.6, 0, -50, 30, 6), (6.6, 0, -52, 34, 7))),
    Tube(Tissue.MUSCLE, ((-0.6, 0, -2, 24, 17), (3.0, 0, -3, 21, 15), (6.8, 0, -3, 22, 16))),
    Tube(Tissue.MUSCLE, ((-0.5, 7, -13, 7, 4), (3.0, 8, -14, 8, 5), (8.0, 7, -15, 6, 4)), paired=True),
    Tube(Tissue.MUSCLE, ((0.0, 36, 12, 12, 26), (3.0, 36, 14, 13, 25), (6.0, 48, 16, 18, 22)), paired=True),
    Tube(Tissue.MUSCLE, ((-0.5, 17, 40, 14, 15), (3.0, 20, 38, 18, 19), (8.5, 24, 36, 21, 15)),
         paired=True),
    Tube(Tissue.MUSCLE, ((0.5, 46, -8, 8, 14), (3.0, 44, -22, 9, 13), (6.0, 30, -42, 11, 8)), paired=True),
    Tube(Tissue.MUSCLE, ((-1.0, 0, -58, 26, 24), (1.0, 0, -60, 26, 26), (2.2, 0, -56, 20, 16))),
    Tube(Tissue.MUSCLE, ((-0.6, 44, -48, 9, 18), (1.8, 42, -45, 8, 14)), paired=True),
    Tube(Tissue.GLAND, ((0.3, 42, -26, 9, 12), (2.5, 36, -32, 9, 10)), paired=True, round_ends=True),
    Tube(17, ((4.4, 14, -33, 7, 11), (6.8, 15, -36, 8, 11)), paired=True, round_ends=True),
    Tube(Tissue.ARTERY, ((0.0, 24, -14, 3, 3), (3.0, 24, -20, 4, 4), (7.0, 20, -30, 4, 4)), paired=True),
    Tube(Tissue.VEIN, ((0.0, 30, -11, 5, 4), (3.0, 31, -17, 6, 5), (7.0, 29, -30, 7, 5)), paired=True),
    Tube(Tissue.PHARYNX, ((-1.0, 0, -24, 18, 6), (2.0, 0, -24, 20, 7), (4.5, 0, -24, 16, 7))),
    Tube(Tissue.GAS, ((-1.7, 0, -35, 2, 2), (-1.2, 0, -33, 8, 7), (0.3, 0, -29, 9, 6),
                      (1.0, 0, -28, 7, 3.5), (1.9, 0, -30, 12, 5), (2.6, 0, -31, 10, 4),
                      (3.3, 0, -35, 6, 6))),
    Tube(Tissue.CARTILAGE, ((3.4, 0, -38, 17, 15), (5.0, 0, -36, 14, 13))),
    Tube(Tissue.PHARYNX, ((3.3, 0, -37, 14, 13), (5.0, 0, -35, 11, 11))),
    Tube(16, ((3.2, 0, -35, 6, 6), (3.7, 0, -37, 5, 9), (4.2, 0, -38, 3.5, 9), (5.0, 0, -37, 9, 9),
                      (11.0, 2, -40, 9, 8))),
    Tube(15, ((4.8, 3, -22, 8, 5), (8.0, 5, -24, 8, 5))),
)  # fmt: skip
"""Neck, drawn in order (later tubes lie on top). Air spaces vary from person to person by jitter."""

TRUNK = (
    Tube(Tissue.LUNG, ((7.0, 44, -22, 34, 34), (9.0, 64, -26, 42, 56), (12.0, 74, -40, 54, 78),
                       (15.0, 76, -44, 56, 82), (18.5, 88, -4, 44, 42)), paired=True, round_ends=True),
    Tube(Tissue.VISCERAL, ((7.0, 0, -30, 32, 32), (10.0, 0, -60, 36, 54), (17.0, 6, -62, 46, 56))),
    Tube(51, ((10.5, 16, -85, 44, 34), (13.0, 28, -88, 60, 44), (16.5, 24, -90, 58, 40)), round_ends=True),
    Tube(5, ((14.6, -60, -62, 84, 80), (18.0, -66, -60, 80, 82), (22.0, -72, -48, 60, 68)),
         round_ends=True),
    Tube(6, ((15.4, 66, -62, 50, 52), (20.2, 44, -92, 52, 40)), round_ends=True),
    Tube(1, ((16.2, 104, -6, 36, 44), (20.0, 102, -10, 30, 40)), round_ends=True),
    Tube(Tissue.MUSCLE, ((18.5, 34, -2, 8, 10), (21.0, 42, -4, 17, 19), (24.0, 54, -22, 22, 22)),
         paired=True),
    Tube(Tissue.MUSCLE, ((6.0, 24, 34, 20, 15), (12.0, 26, 34, 22, 14), (19.0, 36, 38, 31, 19),
                         (22.0, 38, 42, 33, 22), (25.0, 26, 48, 22, 18)), paired=True),
    Tube(2, ((18.4, -62, 4, 29, 25), (22.0, -66, -2, 29, 26)), round_ends=True),
    Tube(3, ((17.9, 62, 4, 29, 25), (21.5, 66, -2, 29, 26)), round_ends=True),
    Tube(18, ((20.0, 10, -98, 84, 30), (24.5, 0, -92, 90, 36)), round_ends=True),
    Tube(20, ((18.5, 106, -52, 19, 24), (26.0, 112, -46, 20, 24)), paired=True),
    Tube(Tissue.GAS, ((19.5, 106, -62, 10, 12), (22.5, 110, -60, 12, 12)), paired=True, round_ends=True),
    Tube(21, ((26.0, 0, -86, 40, 32), (30.0, 0, -86, 44, 34)), round_ends=True),
    Tube(52, ((9.6, 20, -22, 13, 13), (12.0, 24, -10, 13, 13), (16.0, 16, -26, 12, 12),
              (19.0, 6, -34, 11, 11), (22.8, 4, -37, 9, 9))),
    Tube(63, ((16.0, -20, -42, 12, 10), (22.8, -19, -34, 12, 10))),
    Tube(16, ((7.0, 0, -38, 9, 8), (10.6, 2, -40, 9, 8))),
    Tube(15, ((7.0, 5, -24, 8, 5), (12.0, 6, -30, 9, 6), (17.0, 10, -42, 9, 7))),
)  # fmt: skip
"""Chest, belly and pelvis of the phantom."""


def outline_depth(level: float, left: Array, back: Array, fat_mm: float) -> Array:
    """Return mm below the fascia (negative = in the fat or outside) in a slice.

    Args:
        level: the slice's level.
        left, back: (1, x) and (y, 1) mm from the spine's centre.
        fat_mm: subcutaneous fat.
    """
    width, front, rear = (np.interp(level, OUTLINE[:, 0], OUTLINE[:, k]) for k in (1, 2, 3))
    middle, depth = (rear - front) / 2, (rear + front) / 2
    power = 2.6 if level > 6 else 2.2
    radius = (np.abs(left / width) ** power + np.abs((back - middle) / depth) ** power) ** (
        1 / power
    )
    return (1 - radius) * min(width, depth) - 0.6 * fat_mm


def draw_tubes(
    plane: Array, level: float, axes_mm: tuple[Array, Array], tubes: tuple[Tube, ...], scale: float
) -> None:
    """Draw tubes into a (y, x) plane of tissue ids, in order.

    Args:
        plane: uint8 ids, changed in place.
        level: the slice's level.
        axes_mm: left (x,) and back (y,) mm from the spine's centre.
        tubes: what to draw.
        scale: size of the person.
    """
    left, back = axes_mm
    for tube in tubes:
        found = tube.at(level)
        if found is None:
            continue
        for side in (1, -1) if tube.paired else (1,):
            _ellipse(plane, (side * found[0] * scale, *(v * scale for v in found[1:])), left, back,
                     tube.tissue)  # fmt: skip


def _ellipse(plane: Array, shape: tuple[float, ...], left: Array, back: Array, value: int) -> None:
    center_left, center_back, half_left, half_back = shape
    if half_left < 0.3 or half_back < 0.3:
        return
    columns = np.flatnonzero(np.abs(left - center_left) <= half_left)
    rows = np.flatnonzero(np.abs(back - center_back) <= half_back)
    if not len(columns) or not len(rows):
        return
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside = ((left[box[1]] - center_left) / half_left) ** 2 + (
        ((back[box[0]] - center_back) / half_back) ** 2
    )[:, None] <= 1
    plane[box][inside] = value


def jittered(tubes: tuple[Tube, ...], rng: np.random.Generator) -> tuple[Tube, ...]:
    """Return tubes moved and resized a little, each in its own way."""
    out = []
    for tube in tubes:
        shift = rng.normal(0, (0, 0.08 * tube.knots[0][3] + 0.8, 0.08 * tube.knots[0][4] + 0.8))
        grow = rng.uniform(0.82, 1.2, 2)
        knots = tuple(
            (k[0], k[1] + shift[1], k[2] + shift[2], k[3] * grow[0], k[4] * grow[1])
            for k in tube.knots
        )
        out.append(Tube(tube.tissue, knots, tube.paired, tube.round_ends))
    return tuple(out)


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
