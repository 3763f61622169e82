"""Storage order: bring axes to their closest LPS axes and back, by permutation and flips only."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume

_TIE_TURN = 1e-5
"""Radians. An axis at exactly 45 degrees is close to two LPS axes; looking from a world turned by
this much decides alike for every storage order of one scan."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored axes relate to canonical ones (array order, z y x, towards superior/posterior/left).

    Attributes:
        axes_zyx: canonical array axis k is stored array axis `axes_zyx[k]`.
        flips_zyx: whether canonical array axis k runs against that stored axis.
    """

    axes_zyx: tuple[int, int, int] = (0, 1, 2)
    flips_zyx: tuple[bool, bool, bool] = (False, False, False)

    def __post_init__(self) -> None:
        if sorted(self.axes_zyx) != [0, 1, 2] or len(self.flips_zyx) != 3:
            msg = f"orientation {self.axes_zyx}, {self.flips_zyx} is not a permutation with flips"
            raise ValueError(msg)

    @property
    def is_identity(self) -> bool:
        """Whether nothing moves."""
        return self == Orientation()

    @property
    def inverse(self) -> Orientation:
        """The orientation that leads back."""
        axes = tuple(self.axes_zyx.index(k) for k in range(3))
        return Orientation(axes, tuple(self.flips_zyx[a] for a in axes))

    def apply(self, volume: Volume) -> Volume:
        """Return the volume with its axes in canonical order: a view, no voxel is copied."""
        order = self.axes_zyx + tuple(range(3, volume.array.ndim))
        steps = tuple(slice(None, None, -1 if flip else None) for flip in self.flips_zyx)
        return Volume(volume.array.transpose(order)[steps], self.apply_to_grid(volume.grid))

    def undo(self, volume: Volume) -> Volume:
        """Return a canonical volume in stored order: a view."""
        return self.inverse.apply(volume)

    def apply_to_grid(self, grid: Grid) -> Grid:
        """Return the grid of the re-ordered voxels; no voxel moves in the world."""
        first = np.zeros(3)
        for axis, flip in zip(self.axes_zyx, self.flips_zyx, strict=True):
            first[axis] = grid.shape[axis] - 1 if flip else 0
        origin = (
            grid.map_indices_to_world(first[None])[0] if any(self.flips_zyx) else grid.origin_mm
        )
        # Column c of a direction belongs to array axis 2 - c.
        columns = [2 - axis for axis in self.axes_zyx[::-1]]
        signs = np.where(self.flips_zyx[::-1], -1.0, 1.0)
        direction = np.asarray(grid.direction).reshape(3, 3)[:, columns] * signs + 0.0
        return Grid(
            tuple(grid.shape[axis] for axis in self.axes_zyx),
            tuple(grid.spacing_mm[column] for column in columns),
            tuple(origin),
            tuple(direction.ravel()),
        )


def closest_orientation(grid: Grid) -> Orientation:
    """Return the orientation whose axes lie closest to L, P and S (largest sum of cosines)."""
    turned = _small_turn() @ np.asarray(grid.direction).reshape(3, 3)
    best = max(permutations(range(3)), key=lambda p: sum(abs(turned[w, p[w]]) for w in range(3)))
    # best[w] is the column of world axis w; canonical array axis k is world axis 2 - k.
    axes = tuple(2 - best[2 - k] for k in range(3))
    flips = tuple(bool(turned[2 - k, best[2 - k]] < 0) for k in range(3))
    return Orientation(axes, flips)


def to_canonical(volume: Volume) -> tuple[Volume, Orientation]:
    """Return the volume in canonical order (a view) and how to lead it back."""
    orientation = closest_orientation(volume.grid)
    return orientation.apply(volume), orientation


def axis_codes(grid: Grid) -> str:
    """Name where the x, y and z indices grow to, e.g. "LPS" for a canonical grid, "RAS"."""
    orientation = closest_orientation(grid)
    names = [""] * 3
    for k, (axis, flip) in enumerate(zip(orientation.axes_zyx, orientation.flips_zyx, strict=True)):
        positive, negative = ("SI", "PA", "LR")[k]
        names[2 - axis] = negative if flip else positive
    return "".join(names)


def _small_turn() -> np.ndarray:
    """A rotation by about `_TIE_TURN` around each axis, by unequal amounts so that no tie survives."""
    a, b, c = _TIE_TURN, 2 * _TIE_TURN, 4 * _TIE_TURN
    return np.array([[1.0, -c, b], [c, 1.0, -a], [-b, a, 1.0]])
