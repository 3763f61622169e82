"""A scan from numbers alone: needs no data, the same seed gives the same bytes.

Vertebrae are smooth unions of boxes with a waist, rods and plates whose sizes follow textbook
morphometry by level. Coarse, but every part is where it belongs.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.imaging.body_centers import VertebraBody
from payerseg.synthesis.library import ShapeLibrary
from payerseg.synthesis.scans import Extent, SyntheticScan, synthesize_spine
from payerseg.synthesis.shapes import DEPTH_STEP_MM, SpineShapes, VertebraShape
from payerseg.synthesis.spine_axis import LEVEL_SPACING_MM

Array = np.ndarray
PHANTOM_SPACING_MM = 1.5
BLEND_MM = 1.2
SOURCE = "phantom"

SIZES = np.array([
    # label, body half width, depth, height, canal half width, depth,
    #     transverse reach, spinous reach, spinous drop
    (1, 11, 8, 6, 14, 15, 38, 14, 0), (2, 10, 8, 9, 12, 10, 27, 24, 6),
    (3, 10, 8, 6.5, 12, 8, 26, 20, 6), (5, 11, 8, 6.3, 12, 8, 27, 22, 8),
    (7, 13, 8.5, 7, 12, 8, 34, 36, 14), (8, 14, 9, 8, 11, 8, 38, 36, 20),
    (12, 13, 12, 9.6, 8.5, 8, 34, 32, 34), (16, 16, 14.5, 11, 8.5, 8, 31, 26, 28),
    (19, 20, 15.5, 12.6, 10, 8.5, 23, 28, 10), (20, 21, 16, 13, 11, 8.5, 36, 32, 6),
    (22, 22.5, 17, 14, 11.5, 8.5, 44, 34, 4), (24, 25, 17.5, 13.8, 13, 9, 43, 26, 5),
])  # fmt: skip
"""Half sizes and reaches in mm by VerSe label, rounded from published adult morphometry."""


@lru_cache(maxsize=1)
def phantom_library() -> ShapeLibrary:
    """Return the 24 usual vertebrae of the phantom (computed once, about two seconds)."""
    levels = [v for v in Vertebra if v not in (Vertebra.T13, Vertebra.L6)]
    return ShapeLibrary((SpineShapes(SOURCE, {v: phantom_shape(v) for v in levels}),))


def phantom_shape(vertebra: Vertebra) -> VertebraShape:
    """Return one vertebra from numbers, axes along the world, canals of all levels on one vertical line."""
    sizes = [float(np.interp(vertebra.verse_label, SIZES[:, 0], SIZES[:, k])) for k in range(1, 9)]
    width, depth, height, canal_w, canal_d, across, behind, drop = sizes
    canal_y = depth + canal_d + 1.0
    reach = np.array([across + 8, depth + 2 * canal_d + behind + 10, height + drop + 22])
    low = np.array([-reach[0], -depth - 8, -reach[2]])
    shape = np.ceil((reach - low) / PHANTOM_SPACING_MM).astype(int)
    grid = Grid(tuple(shape[::-1].tolist()), (PHANTOM_SPACING_MM,) * 3, tuple(low))
    z, y, x = (
        (np.arange(n) * PHANTOM_SPACING_MM + low[2 - j]).astype(np.float32)
        for j, n in enumerate(grid.shape)
    )
    at = np.abs(x)[None, None, :], y[None, :, None], z[:, None, None]
    if vertebra is Vertebra.C1:
        inside = _ring(at, (canal_w, canal_d), across)
        canal = np.array([0.0, 13.0, 0.0])
    else:
        inside = _body(at, (width, depth, height))
        if vertebra is Vertebra.C2:
            inside = _union(inside, _rod(at, (0, 0, height), (0, -1, height + 15), 5.0))
        inside = _union(inside, _arch(vertebra, at, sizes))
        canal = np.array([0.0, canal_y, 0.0])
        hole = ((at[0] / canal_w) ** 2 + ((at[1] - canal_y) / canal_d) ** 2) ** 0.5
        inside = np.minimum(inside, (hole - 1) * min(canal_w, canal_d))
    place = -canal - (0, 0, float(np.sum(LEVEL_SPACING_MM[: vertebra.verse_label - 1])))
    grid = Grid(grid.shape, grid.spacing_mm, tuple(low + place))
    body = VertebraBody(place, np.eye(3), np.array([width, depth, height]), canal + place)
    stored = np.clip(np.round(inside / DEPTH_STEP_MM), -127, 127).astype(np.int8)
    return VertebraShape(vertebra, SOURCE, stored, grid, body)


def _body(at: tuple[Array, Array, Array], half: tuple[float, float, float]) -> Array:
    """Return the depth of a rounded cylinder with a waist and a flat back."""
    x, y, z = at
    width, depth, height = half
    waist = 1 - 0.10 * (1 - np.clip(np.abs(z) / height, 0, 1) ** 2)
    flat = np.where(y > 0, 3.2, 2.2)
    radius = (np.abs(x / (width * waist)) ** flat + np.abs(y / (depth * waist)) ** flat) ** (
        1 / flat
    )
    wall = (1 - radius) * min(width, depth)
    return np.minimum(wall, height - np.abs(z))


def _arch(vertebra: Vertebra, at: tuple[Array, Array, Array], sizes: list[float]) -> Array:
    """Return the depth of pedicles, laminae, joints and processes (x is the distance from the middle)."""
    width, depth, height, canal_w, canal_d, across, behind, drop = sizes
    thin = 2.6 if vertebra.name[0] == "C" else 3.2
    side, rear = canal_w + thin, depth + 2 * canal_d + 2.0
    level = 0.35 * height if vertebra.name[0] != "C" else 0.0
    parts = [
        ((min(side, width - 2), depth - 4, level), (side, depth + canal_d, level), thin + 1.0),
        ((side, depth + canal_d, level), (0.74 * side, rear - 0.2 * canal_d, 0), thin),
        ((0.74 * side, rear - 0.2 * canal_d, 0), (0, rear + 2.5, -0.5 * height), thin),
        (
            (side, depth + canal_d + 2, level),
            (side + 1, depth + canal_d + 5, height + 4),
            thin + 0.6,
        ),
        (
            (side, depth + canal_d + 2, level),
            (side - 1, depth + canal_d + 8, -height - 5),
            thin + 0.4,
        ),
        ((0, rear, -0.4 * height), (0, rear + behind, -0.4 * height - drop), thin),
    ]
    if vertebra.name[0] == "C":
        parts.append(((width - 2, -1, 0), (across, 2, -1), 3.2))
    else:
        back = depth + canal_d + (10 if vertebra.name[0] == "T" else 2)
        parts.append(((side, depth + canal_d, level), (across, back, level + 2), thin + 0.4))
    if vertebra.name[0] == "L":
        parts.append(((0, rear, -0.1 * height), (0, rear + behind, -0.9 * height), thin - 0.4))
    out = _rod(at, *parts[0])
    for part in parts[1:]:
        out = _union(out, _rod(at, *part))
    return out


def _ring(at: tuple[Array, Array, Array], canal: tuple[float, float], across: float) -> Array:
    """Return the depth of C1: two lateral masses joined by a front and a rear arch."""
    front, rear = -8.0, 2 * canal[1] + 6
    out = _rod(at, (0, front, 0), (17, 0, 0), 3.6)
    for part in (
        ((18, -1, -3), (19, 4, 4), 7.0),
        ((18, 4, 0), (canal[0] + 2, 0.6 * rear, 1), 3.2),
        ((canal[0] + 2, 0.6 * rear, 1), (0, rear, 0), 3.2),
        ((18, 2, 0), (across, 5, -1), 4.0),
    ):
        out = _union(out, _rod(at, *part))
    return out


def _rod(at: tuple[Array, Array, Array], start: tuple, end: tuple, radius: float) -> Array:
    """Return the depth of a round rod between two points."""
    a, line = np.asarray(start, float), np.subtract(end, start).astype(float)
    x, y, z = (v - float(c) for v, c in zip(at, a, strict=True))
    length = float(line @ line) or 1.0
    lx, ly, lz = (float(v) for v in line)
    t = np.clip((x * lx + y * ly + z * lz) / length, 0, 1)
    return radius - np.sqrt((x - t * lx) ** 2 + (y - t * ly) ** 2 + (z - t * lz) ** 2)


def _union(a: Array, b: Array) -> Array:
    """Return the smooth union of two depths (polynomial, `BLEND_MM` wide)."""
    h = np.clip(BLEND_MM - np.abs(a - b), 0, None) / BLEND_MM
    return np.maximum(a, b) + h * h * BLEND_MM / 4


PHANTOM_EXTENT = Extent(
    (2.0, 2.0, 2.0), side_mm=165.0, front_mm=150.0, back_mm=105.0, above_mm=35.0, below_mm=40.0,
    first=Vertebra.C7, last=Vertebra.L5,
)  # fmt: skip
"""A trunk: 18 vertebrae in about 3 million voxels."""


def make_phantom(
    seed: int = 0, variant: str = "usual", extent: Extent | None = None
) -> SyntheticScan:
    """Return a coarse labelled scan whose truth is exact, in two or three seconds.

    Args:
        seed: decides everything.
        variant: one of `library.VARIANTS`.
        extent: the volume; by default the trunk at 2 mm.
    """
    return synthesize_spine(phantom_library(), seed, variant, extent or PHANTOM_EXTENT)
