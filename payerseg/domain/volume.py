"""An array that never travels without its grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.errors import GridMismatch


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxel values on a grid.

    Attributes:
        array: (z, y, x), or (z, y, x, channel).
        grid: `grid.shape == array.shape[:3]`.

    Raises:
        GridMismatch: array and grid differ in shape.
    """

    array: np.ndarray
    grid: Grid

    def __post_init__(self) -> None:
        if self.array.ndim not in (3, 4) or tuple(self.array.shape[:3]) != self.grid.shape:
            msg = f"array of shape {self.array.shape} does not fit a grid of {self.grid.shape} (z, y, x)"
            raise GridMismatch(msg)

    def with_array(self, array: np.ndarray) -> Volume:
        """Return another array on the same grid."""
        return Volume(array, self.grid)

    def cropped(self, start_zyx: tuple[int, int, int], stop_zyx: tuple[int, int, int]) -> Volume:
        """Return the block [start, stop) as a view; the block must lie inside."""
        block = tuple(slice(a, b) for a, b in zip(start_zyx, stop_zyx, strict=True))
        return Volume(self.array[block], self.grid.window(start_zyx, self.array[block].shape[:3]))
