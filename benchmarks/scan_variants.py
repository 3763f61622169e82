"""Harder versions of a marked scan: short, narrow, small, mirrored, rotated, thick, noisy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.imaging.resample import box_shrink
from payerseg.synthesis.negatives import NEGATIVES, synthesize_negative
from payerseg.training.augment import rotation_matrix

CUT_MM = 10.0
"""A vertebra whose centre is nearer to a cut than this is cut itself: neither asked for nor an error."""
SLAB_STEP_MM = 30.0
NOISE_HU = 20.0
CHILD_SCALE = 0.75
ROTATION_DEG = 25.0
THICK_SLICE_MM = 5.0
CAP_HU = (-1024, 3071)
FRONT_MM, BESIDE_MM, ABOVE_C1_MM, SMALLEST_PART_MM = 45.0, 55.0, 30.0, 50.0
"""Where vertebrae with all their processes have ended, and what is too small to be a scan."""


@dataclass(frozen=True, slots=True)
class MarkedScan:
    """A scan with its truth.

    Attributes:
        name: of the scan and what was done to it.
        ct: HU.
        truth: vertebrae that must be found.
        unmarked: vertebrae that may be found.
    """

    name: str
    ct: Volume
    truth: Landmarks
    unmarked: frozenset[Vertebra] = frozenset()


def slabs(scan: MarkedScan, height_mm: float, side_mm: float) -> Iterator[MarkedScan]:
    """Cut axial slabs at every 30 mm, `side_mm` to each side of the spine within.

    Slabs without a whole vertebra are left out, and so are those that are the whole scan.
    """
    low, high = scan.ct.grid.corners_mm()[:, 2].min(), scan.ct.grid.corners_mm()[:, 2].max()
    if height_mm >= high - low:
        return
    for start in np.arange(low, high - height_mm + 1e-6, SLAB_STEP_MM):
        stop = start + height_mm
        inside = {
            v: m for v, m in scan.truth.items() if start + CUT_MM < m.position_mm[2] < stop - CUT_MM
        }
        if not inside:
            continue
        points = np.array([m.position_mm for m in inside.values()])
        box_low = np.array([*(points.min(axis=0) - side_mm)[:2], start])
        box_high = np.array([*(points.max(axis=0) + side_mm)[:2], stop])
        # The spinous processes lie behind: a crop around the body would cut them off otherwise.
        box_high[1] += 20.0
        cropped = _cropped(scan.ct, box_low, box_high)
        cut = frozenset(v for v in scan.truth if v not in inside) | scan.unmarked
        name = f"{scan.name}/{height_mm:.0f}mm/{side_mm:.0f}/{start - low:.0f}"
        yield MarkedScan(name, cropped, Landmarks(inside.values()), cut)


def _cropped(ct: Volume, low_mm: np.ndarray, high_mm: np.ndarray) -> Volume:
    """Return the voxels of an axis-aligned scan inside a world box."""
    ends = ct.grid.map_world_to_indices(np.array([low_mm, high_mm]))
    start = np.clip(np.ceil(ends.min(axis=0)), 0, np.array(ct.grid.shape) - 1).astype(int)
    stop = np.clip(np.floor(ends.max(axis=0)) + 1, start + 1, ct.grid.shape).astype(int)
    return ct.cropped(tuple(start.tolist()), tuple(stop.tolist()))


def child(scan: MarkedScan) -> MarkedScan:
    """Shrink the patient to three quarters."""
    grid = scan.ct.grid
    spacing, origin = (
        tuple(np.multiply(v, CHILD_SCALE)) for v in (grid.spacing_mm, grid.origin_mm)
    )
    small = Grid(grid.shape, spacing, origin, grid.direction)
    truth = scan.truth.moved(lambda p: p * CHILD_SCALE)
    return MarkedScan(f"{scan.name}/child", Volume(scan.ct.array, small), truth, scan.unmarked)


def mirrored(scan: MarkedScan, axis_xyz: int) -> MarkedScan:
    """Store the voxels back to front along an axis, as a wrong header does."""
    array = np.flip(scan.ct.array, 2 - axis_xyz)
    grid = scan.ct.grid

    def flip(points: np.ndarray) -> np.ndarray:
        zyx = grid.map_world_to_indices(points)
        zyx[:, 2 - axis_xyz] = grid.shape[2 - axis_xyz] - 1 - zyx[:, 2 - axis_xyz]
        return grid.map_indices_to_world(zyx)

    name = f"{scan.name}/mirror_{'xyz'[axis_xyz]}"
    volume = Volume(np.ascontiguousarray(array), grid)
    return MarkedScan(name, volume, scan.truth.moved(flip), scan.unmarked)


def rotated(scan: MarkedScan, axis_xyz: int, degrees: float = ROTATION_DEG) -> MarkedScan:
    """Turn the patient about the scan's centre; the voxels stay, the header turns."""
    turn = rotation_matrix(np.radians(degrees) * np.eye(3)[axis_xyz])
    grid = scan.ct.grid
    centre = grid.corners_mm().mean(axis=0)
    matrix = grid.matrix
    matrix[:3, :3] = turn @ matrix[:3, :3]
    matrix[:3, 3] = turn @ (matrix[:3, 3] - centre) + centre
    turned = Grid.from_matrix(grid.shape, matrix)
    truth = scan.truth.moved(lambda p: (p - centre) @ turn.T + centre)
    name = f"{scan.name}/rotate_{'xyz'[axis_xyz]}{degrees:+.0f}"
    return MarkedScan(name, Volume(scan.ct.array, turned), truth, scan.unmarked)


def thick(scan: MarkedScan) -> MarkedScan:
    """Average slices to about 5 mm."""
    factor = max(1, round(THICK_SLICE_MM / scan.ct.grid.spacing_mm[2]))
    ct = box_shrink(scan.ct, (factor, 1, 1))
    return MarkedScan(f"{scan.name}/thick", ct, scan.truth, scan.unmarked)


def noisy(scan: MarkedScan) -> MarkedScan:
    """Add white noise of 20 HU."""
    noise = np.random.default_rng(0).normal(0, NOISE_HU, scan.ct.array.shape)
    ct = scan.ct.with_array((scan.ct.array + noise).astype(np.int16))
    return MarkedScan(f"{scan.name}/noise", ct, scan.truth, scan.unmarked)


def capped(scan: MarkedScan) -> MarkedScan:
    """Cut off what 12 bits cannot hold."""
    ct = scan.ct.with_array(np.clip(scan.ct.array, *CAP_HU))
    return MarkedScan(f"{scan.name}/cap", ct, scan.truth, scan.unmarked)


def without_spine(scan: MarkedScan) -> list[MarkedScan]:
    """Cut out what lies in front of, left and right of the spine and above C1; none shows a vertebra."""
    corners = scan.ct.grid.corners_mm()
    low, high = corners.min(axis=0), corners.max(axis=0)
    points = scan.truth.positions_mm
    first, last = points.min(axis=0), points.max(axis=0)
    parts = {
        "front": (low, np.array([high[0], first[1] - FRONT_MM, high[2]])),
        "right": (low, np.array([first[0] - BESIDE_MM, high[1], high[2]])),
        "left": (np.array([last[0] + BESIDE_MM, low[1], low[2]]), high),
    }
    if Vertebra.C1 in scan.truth:
        above = scan.truth[Vertebra.C1].position_mm[2] + ABOVE_C1_MM
        parts["above C1"] = (np.array([low[0], low[1], above]), high)
    return [
        MarkedScan(f"{scan.name}/{name}", _cropped(scan.ct, a, b), Landmarks())
        for name, (a, b) in parts.items()
        if np.all(b - a >= SMALLEST_PART_MM)
    ]


def spine_free_volumes() -> list[MarkedScan]:
    """Return noise, an empty scan, a water phantom, a thigh, a slab of lung and a head above C1."""
    return [
        MarkedScan(f"{kind}/{seed}", synthesize_negative(kind, seed), Landmarks())
        for kind in NEGATIVES
        for seed in range(3)
    ]


Variant = Callable[[MarkedScan], list[MarkedScan]]

VARIANTS: dict[str, Variant] = {
    "whole": lambda s: [s],
    **{
        f"slab {height} mm, ±{side} mm": lambda s, h=height, w=side: list(slabs(s, h, w))
        for height in (150, 100, 60)
        for side in (60, 30)
    },
    "child 0.75": lambda s: [child(s)],
    "mirrored left-right": lambda s: [mirrored(s, 0)],
    "mirrored front-back": lambda s: [mirrored(s, 1)],
    **{
        f"rotated 25° about {'xyz'[axis]}": lambda s, a=axis: [
            rotated(s, a, sign * ROTATION_DEG) for sign in (1, -1)
        ]
        for axis in range(3)
    },
    "5 mm slices": lambda s: [thick(s)],
    "+20 HU noise": lambda s: [noisy(s)],
    "12-bit cap": lambda s: [capped(s)],
    "parts without spine": without_spine,
}
