"""Where voxels lie in the world.

World is LPS millimetres (ITK's convention); arrays are (z, y, x); world points are (x, y, z).
Only this module converts between the two orders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from payerseg.errors import BadGeometry

Array = np.ndarray
Triple = tuple[float, float, float]

SAME_SPACE_VOXELS = 0.02
"""Two grids are one when no voxel lies further than this part of a voxel from its twin: what is stored as
float32 is off by a thousandth of a voxel at most."""
ROUNDED_VOXELS = 0.25
"""As far apart two grids may lie of which one was rounded: a spacing of three digits moves the last of 512
voxels by a quarter. Whoever takes them as one says so."""
IDENTITY_DIRECTION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
ORTHONORMAL_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Grid:
    """A regular grid of voxels.

    Attributes:
        shape: voxels along (z, y, x), array order.
        spacing_mm: distance between voxel centres along the array's (x, y, z) axes.
        origin_mm: LPS position (x, y, z) of the centre of the first voxel.
        direction: nine numbers, row-major; column k is the LPS unit vector of axis (x, y, z)[k].
            Columns need not be orthogonal: a sheared (gantry-tilted) grid is a grid.

    Raises:
        BadGeometry: a size below 1, a spacing that is not finite and positive, a singular direction.
    """

    shape: tuple[int, int, int]
    spacing_mm: Triple
    origin_mm: Triple = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = IDENTITY_DIRECTION

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "spacing_mm", tuple(float(v) for v in self.spacing_mm))
        object.__setattr__(self, "origin_mm", tuple(float(v) for v in self.origin_mm))
        object.__setattr__(self, "direction", tuple(float(v) for v in self.direction))
        if len(self.shape) != 3 or min(self.shape) < 1:
            msg = f"grid shape is {self.shape}; expected three sizes of at least 1"
            raise BadGeometry(msg)
        if not all(np.isfinite(v) and v > 0 for v in self.spacing_mm):
            msg = f"grid spacing is {self.spacing_mm} mm; expected three finite positive numbers"
            raise BadGeometry(msg)
        if not np.all(np.isfinite(self.origin_mm)) or len(self.direction) != 9:
            msg = f"grid origin {self.origin_mm} or direction {self.direction} is not usable"
            raise BadGeometry(msg)
        matrix = np.asarray(self.direction).reshape(3, 3)
        if not np.all(np.isfinite(matrix)) or abs(np.linalg.det(matrix)) < 1e-3:
            msg = f"grid direction {self.direction} is singular; its axes do not span space"
            raise BadGeometry(msg)

    @classmethod
    def from_matrix(cls, shape: tuple[int, int, int], matrix: Array) -> Grid:
        """Build a grid from a (4, 4) matrix that maps voxel (i, j, k) = (x, y, z) index to LPS mm."""
        linear = np.asarray(matrix, float)[:3, :3]
        spacing = np.linalg.norm(linear, axis=0)
        if not np.all(np.isfinite(spacing)) or np.any(spacing <= 0):
            msg = f"index-to-world matrix has column lengths {spacing.tolist()}; expected positive"
            raise BadGeometry(msg)
        direction = linear / spacing
        return cls(
            shape, tuple(spacing), tuple(np.asarray(matrix, float)[:3, 3]), tuple(direction.ravel())
        )

    @property
    def matrix(self) -> Array:
        """The (4, 4) matrix from index (x, y, z) to LPS mm."""
        out = np.eye(4)
        out[:3, :3] = np.asarray(self.direction).reshape(3, 3) * np.asarray(self.spacing_mm)
        out[:3, 3] = self.origin_mm
        return out

    @property
    def is_orthonormal(self) -> bool:
        """Whether the axes are at right angles (ITK can hold only such grids)."""
        d = np.asarray(self.direction).reshape(3, 3)
        return bool(np.allclose(d.T @ d, np.eye(3), atol=ORTHONORMAL_TOLERANCE))

    @property
    def extent_mm(self) -> Triple:
        """Edge-to-edge size along the array's (x, y, z) axes: voxels times spacing."""
        return tuple(n * s for n, s in zip(self.shape[::-1], self.spacing_mm, strict=True))

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel."""
        return abs(float(np.linalg.det(self.matrix[:3, :3])))

    def map_indices_to_world(self, zyx: ArrayLike) -> Array:
        """Map (n, 3) continuous indices (z, y, x) to (n, 3) LPS mm (x, y, z)."""
        places = np.atleast_2d(np.asarray(zyx, float))
        m = self.matrix
        return places[:, ::-1] @ m[:3, :3].T + m[:3, 3]

    def map_world_to_indices(self, xyz_mm: ArrayLike) -> Array:
        """Map (n, 3) LPS mm (x, y, z) to (n, 3) continuous indices (z, y, x)."""
        points = np.atleast_2d(np.asarray(xyz_mm, float))
        m = self.matrix
        return np.linalg.solve(m[:3, :3], (points - m[:3, 3]).T).T[:, ::-1]

    def contains(self, xyz_mm: ArrayLike, margin_mm: float = 0.0) -> Array:
        """Tell for (n, 3) LPS points whether they lie inside the voxels, `margin_mm` from the faces."""
        zyx = self.map_world_to_indices(xyz_mm)
        margin = margin_mm / np.asarray(self.spacing_mm[::-1])
        size = np.asarray(self.shape)
        return np.all((zyx >= -0.5 + margin) & (zyx <= size - 0.5 - margin), axis=1)

    def corners_mm(self, *, edges: bool = True) -> Array:
        """Return the eight LPS corners, of the voxels' outer edges or (edges=False) of the centres."""
        pad = 0.5 if edges else 0.0
        ends = [(-pad, n - 1 + pad) for n in self.shape]
        return self.map_indices_to_world(
            np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1).T
        )

    def voxels_apart(self, other: Grid) -> float:
        """Return how far the voxels of two grids lie apart along an axis, in voxels of this one.

        The largest distance of all; infinite where the shapes differ.
        """
        if self.shape != other.shape:
            return float("inf")
        here, there = self.corners_mm(edges=False), other.corners_mm(edges=False)
        gap = self.map_world_to_indices(here) - self.map_world_to_indices(there)
        return float(np.abs(gap).max())

    def same_space_as(self, other: Grid, tolerance_voxels: float = SAME_SPACE_VOXELS) -> bool:
        """Tell whether both grids have one shape and their voxels lie at the same places."""
        return self.voxels_apart(other) <= tolerance_voxels

    def window(self, start_zyx: tuple[int, int, int], shape: tuple[int, int, int]) -> Grid:
        """Return the grid of the block that starts at index `start_zyx` (may lie outside)."""
        origin = self.map_indices_to_world(np.array([start_zyx]))[0]
        return Grid(shape, self.spacing_mm, tuple(origin), self.direction)
