"""Draw posed vertebrae on a grid: labels, depth below the surface, and what kind of bone it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.outline import capsules
from payerseg.synthesis.poses import PosedVertebra, Spur
from payerseg.synthesis.shapes import DEPTH_STEP_MM, EDGE_MM

Array = np.ndarray
FAR_MM = -12.7
SPECK_MM = -0.4
"""Depth given to what is cut off: just outside the bone."""
FACET_GAP_MM = 0.9
"""Least gap between two vertebrae's surfaces (cartilage of a facet joint)."""


@dataclass(frozen=True, slots=True)
class Ripple:
    """A smooth small warp of the world: each coordinate is shifted by waves along the other two.

    Attributes:
        amplitude_mm: (3, 3), row = shifted axis, column = axis the wave runs along (diagonal unused).
        wavelength_mm: (3, 3).
        phase_rad: (3, 3).
    """

    amplitude_mm: Array
    wavelength_mm: Array
    phase_rad: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, amplitude_mm: float = 1.2) -> Ripple:
        """Draw waves of 45-140 mm; the steepest slope stays below 0.25, so nothing folds."""
        wavelength = rng.uniform(45, 140, (3, 3))
        amplitude = rng.uniform(0, amplitude_mm, (3, 3)) * wavelength / 90
        return cls(amplitude * (1 - np.eye(3)), wavelength, rng.uniform(0, 2 * np.pi, (3, 3)))

    def shift_mm(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """Return the shifts of x, y, z (broadcastable arrays of mm) towards the source."""
        along = (x, y, z)
        out = []
        for axis in range(3):
            waves = [
                float(self.amplitude_mm[axis, k])
                * np.sin(
                    2 * np.pi / self.wavelength_mm[axis, k] * along[k] + self.phase_rad[axis, k]
                )
                for k in range(3)
                if k != axis
            ]
            out.append((waves[0] + waves[1]).astype(np.float32))
        return tuple(out)

    @property
    def most_mm(self) -> float:
        """The largest shift along any axis."""
        return float(np.abs(self.amplitude_mm).sum(axis=1).max())

    def moved(self, points_mm: Array) -> Array:
        """Return where (n, 3) source points appear: the inverse, by fixed-point iteration."""
        seen = np.array(points_mm, float)
        for _ in range(8):
            seen = points_mm - np.stack(self.shift_mm(*seen.T), axis=1)
        return seen


@dataclass(slots=True, eq=False)
class Bones:
    """Vertebrae on a grid.

    Attributes:
        grid: where.
        depth_mm: (z, y, x) float32, positive inside any vertebra, `FAR_MM` where none is near.
        labels: (z, y, x) uint8 VerSe labels.
        posterior: (z, y, x) float16, 0 in the body .. 1 in arch and processes (near bone only).
        endplate: (z, y, x) float16, 1 at an endplate .. 0 away from it (near bone only).
    """

    grid: Grid
    depth_mm: Array
    labels: Array
    posterior: Array
    endplate: Array

    @classmethod
    def empty(cls, grid: Grid) -> Bones:
        """Return a grid without bone."""
        return cls(
            grid,
            np.full(grid.shape, FAR_MM, np.float32),
            np.zeros(grid.shape, np.uint8),
            np.zeros(grid.shape, np.float16),
            np.zeros(grid.shape, np.float16),
        )

    def add(self, posed: PosedVertebra, ripple: Ripple | None = None) -> None:
        """Draw one vertebra; where it meets another one, both give way to leave a gap."""
        box = _box(posed, self.grid, 1.0 if ripple is None else 1.0 + ripple.most_mm)
        if box is None:
            return
        local = _local_mm(posed, self.grid, box, ripple)
        depth = _depth(posed, *local)
        near = depth > -EDGE_MM
        ours, there = depth[near], self.depth_mm[box][near]
        push = (ours - there) / 2
        theirs = np.minimum(there, -push - FACET_GAP_MM / 2)
        parted = np.minimum(ours, push - FACET_GAP_MM / 2)
        if np.any((parted <= 0) & (ours > 0)):
            depth[near] = parted
            depth[~near] = FAR_MM
            parted = _one_piece(depth)[near]
        new = parted > theirs
        value = np.where(theirs > 0, self.labels[box][near], 0)
        self.labels[box][near] = np.where(new & (parted > 0), posed.vertebra.verse_label, value)
        self.depth_mm[box][near] = np.maximum(parted, theirs)
        near[near] = new
        left, back, up = (v[near] for v in local)
        half = [float(h) for h in posed.half_size_mm]  # numpy scalars would widen to float64
        rear = np.clip((back - 0.85 * half[1]) / (0.35 * half[1]), 0, 1)
        rear = np.maximum(rear, np.clip((np.abs(left) - 1.05 * half[0]) / 4.0, 0, 1))
        self.posterior[box][near] = rear
        self.endplate[box][near] = np.exp(-(((np.abs(up) - half[2]) / 2.0) ** 2)) * (1 - rear)

    def grow(self, vertebra: Vertebra, path_mm: Array, radius_mm: float) -> None:
        """Grow a rod of bone onto a vertebra that has been drawn."""
        rod = np.full(self.grid.shape, FAR_MM, np.float32)
        capsules(rod, self.grid, path_mm, np.full(len(path_mm), radius_mm))
        new = rod > self.depth_mm
        self.depth_mm[new] = rod[new]
        self.labels[new & (rod > 0)] = vertebra.verse_label
        self.posterior[new], self.endplate[new] = 1, 0

    def settle(self) -> None:
        """Take away specks that parting from a neighbour has cut off, once all are drawn."""
        for value, box in enumerate(ndimage.find_objects(self.labels), start=1):
            if box is None:
                continue
            parts, count = ndimage.label(self.labels[box] == value)
            if count > 1:
                keep = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
                specks = (parts > 0) & (parts != keep)
                self.labels[box][specks] = 0
                self.depth_mm[box][specks] = SPECK_MM


def _box(posed: PosedVertebra, grid: Grid, room_mm: float) -> tuple[slice, ...] | None:
    """Return the part of the grid that a vertebra can touch."""
    world = posed.center_mm + (posed.shape.hull_points_mm() * posed.scale) @ posed.axes
    index = grid.map_world_to_indices(world)
    room = np.ceil(room_mm / np.asarray(grid.spacing_mm[::-1])).astype(int)
    start = np.maximum(np.floor(index.min(axis=0)).astype(int) - room, 0)
    stop = np.minimum(np.ceil(index.max(axis=0)).astype(int) + room + 1, grid.shape)
    if np.any(start >= stop):
        return None
    return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))


def _local_mm(
    posed: PosedVertebra, grid: Grid, box: tuple[slice, ...], ripple: Ripple | None
) -> tuple[Array, Array, Array]:
    """Return the voxels' (left, back, up) mm from the body centre, before scale; grid is axis-aligned."""
    at = [
        (np.arange(s.start, s.stop) * grid.spacing_mm[2 - k] + grid.origin_mm[2 - k]).astype(
            np.float32
        )
        for k, s in enumerate(box)
    ]
    z, y, x = at[0][:, None, None], at[1][None, :, None], at[2][None, None, :]
    if ripple is not None:
        dx, dy, dz = ripple.shift_mm(x, y, z)
        x, y, z = x + dx, y + dy, z + dz
    x, y, z = (v - np.float32(c) for v, c in zip((x, y, z), posed.center_mm, strict=True))
    return tuple(float(a) * x + float(b) * y + float(c) * z for a, b, c in posed.axes)


def _depth(posed: PosedVertebra, left: Array, back: Array, up: Array) -> Array:
    """Sample the shape's signed depth (mm) at local coordinates."""
    half = [float(h) for h in posed.half_size_mm]
    source_up = up
    if posed.fracture is not None:
        height = posed.fracture.height(back, left, half)
        low = -half[2]
        source_up = np.where(
            up > low, np.where(up < low + 2 * half[2] * height, low + (up - low) / height,
                               up + 2 * half[2] * (1 - height)), up
        )  # fmt: skip
    body, grid = posed.shape.body, posed.shape.grid
    local = [v / np.float32(s) for v, s in zip((left, back, source_up), posed.scale, strict=True)]
    step = grid.spacing_mm[0]
    offset = (body.center_mm - grid.origin_mm) / step
    turn = (body.axes / step).T.tolist()
    index = np.empty((3, *up.shape), np.float32)
    for k in range(3):
        a, b, c = turn[2 - k]
        index[k] = a * local[0] + b * local[1] + c * local[2] + float(offset[2 - k])
    depth = ndimage.map_coordinates(
        posed.shape.depth, index, output=np.float32, order=1, mode="constant", cval=-127
    )
    depth *= np.float32(DEPTH_STEP_MM * float(np.mean(posed.scale)))
    for spur in posed.spurs:
        _add_spur(depth, spur, half, (left, back, up))
    return depth


def _add_spur(
    depth: Array, spur: Spur, half: list[float], local: tuple[Array, Array, Array]
) -> None:
    """Grow a lip on the rim of an endplate (smooth union of signed depths), in place."""
    left, back, up = local
    rim = 0.92 * half[0] * np.cos(spur.angle_rad), 0.92 * half[1] * np.sin(spur.angle_rad)
    height = (0.9 if spur.top else -0.9) * half[2]
    far = np.sqrt(
        (left - float(rim[0])) ** 2 + (back - float(rim[1])) ** 2 + (1.6 * (up - height)) ** 2
    )
    np.maximum(depth, spur.size_mm - far, out=depth)


def _one_piece(depth: Array) -> Array:
    """Push all but the largest piece of a depth field below the surface."""
    parts, count = ndimage.label(depth > 0)
    if count <= 1:
        return depth
    keep = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return np.where((parts != keep) & (parts > 0), SPECK_MM, depth).astype(np.float32)
