"""The box around the spine, in the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Point


@dataclass(frozen=True, slots=True)
class SpineBox:
    """An axis-aligned box in LPS mm, `low_mm <= high_mm` on every axis."""

    low_mm: Point
    high_mm: Point

    def __post_init__(self) -> None:
        object.__setattr__(self, "low_mm", tuple(float(v) for v in self.low_mm))
        object.__setattr__(self, "high_mm", tuple(float(v) for v in self.high_mm))
        ordered = np.all(np.asarray(self.low_mm) <= np.asarray(self.high_mm))
        if not ordered or not np.all(np.isfinite([*self.low_mm, *self.high_mm])):
            msg = f"box from {self.low_mm} to {self.high_mm} mm is empty or not finite"
            raise ValueError(msg)

    @classmethod
    def around(cls, points_mm: np.ndarray) -> SpineBox:
        """Return the smallest box that holds all points (n, 3), n at least 1."""
        return cls(tuple(points_mm.min(axis=0)), tuple(points_mm.max(axis=0)))

    @property
    def size_mm(self) -> Point:
        """Edge lengths (x, y, z)."""
        return tuple(np.subtract(self.high_mm, self.low_mm))

    @property
    def center_mm(self) -> Point:
        """The middle (x, y, z)."""
        return tuple(np.add(self.low_mm, self.high_mm) / 2)

    def expanded(self, margin_mm: float | Point) -> SpineBox:
        """Return the box grown by a margin (one number, or x, y, z) on every side."""
        margin = np.broadcast_to(np.asarray(margin_mm, float), 3)
        return SpineBox(
            tuple(np.subtract(self.low_mm, margin)), tuple(np.add(self.high_mm, margin))
        )

    def clipped_to(self, grid: Grid) -> SpineBox:
        """Return the part inside the world bounds of a grid; the nearest face if outside it."""
        corners = grid.corners_mm()
        low, high = corners.min(axis=0), corners.max(axis=0)
        return SpineBox(
            tuple(np.clip(self.low_mm, low, high)), tuple(np.clip(self.high_mm, low, high))
        )

    def contains(self, xyz_mm: np.ndarray) -> np.ndarray:
        """Tell for (n, 3) LPS points whether they lie inside."""
        xyz_mm = np.atleast_2d(xyz_mm)
        return np.all((xyz_mm >= self.low_mm) & (xyz_mm <= self.high_mm), axis=1)
