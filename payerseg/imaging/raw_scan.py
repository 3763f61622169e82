"""A scan as stored in a file, before anything is done to its values; and what every format must fulfil."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.errors import BadGeometry, NotAThreeDimensionalScan
from payerseg.imaging.scan_record import Fact, Note, SourceHeader

MAX_VOXELS = 2**32
SPACING_LIMITS_MM = (0.01, 30.0)
MIN_EXTENT_MM = 5.0
MAX_EXTENT_MM = 10_000.0


@dataclass(frozen=True, slots=True)
class RawScan:
    """Stored voxels and how to read them: value = stored * slope + intercept.

    Attributes:
        array: (z, y, x) in stored order and type, any byte order.
        grid: of `array`.
        source: the header to write results with.
        slope, intercept: the file's rescaling.
        facts, notes: for the scan record.
    """

    array: np.ndarray
    grid: Grid
    source: SourceHeader
    slope: float = 1.0
    intercept: float = 0.0
    facts: dict[str, Fact] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    @property
    def is_rescaled(self) -> bool:
        """Whether stored values are not the values meant."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    def values(self, slab: slice = slice(None)) -> np.ndarray:
        """Return the values of slices `slab`: the stored type in native order, float64 if rescaled."""
        stored = self.array[slab]
        if self.is_rescaled:
            return stored * np.float64(self.slope) + np.float64(self.intercept)
        return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def require_three_dimensions(sizes: list[int], name: str) -> tuple[int, int, int]:
    """Return the three spatial sizes (x, y, z); trailing sizes of 1 are one volume stored as more.

    Raises:
        NotAThreeDimensionalScan: 2D, or more than one volume.
        BadGeometry: a size below 1, or more voxels than any scan has.
    """
    if any(n < 1 for n in sizes):
        msg = f"{name} has sizes {sizes}; expected three sizes of at least 1"
        raise BadGeometry(msg)
    spatial = sizes[:3]
    if len(spatial) < 3 or min(spatial) == 1:
        msg = f"{name} is a 2D image of {' x '.join(map(str, sizes))}; expected a 3D CT volume"
        raise NotAThreeDimensionalScan(msg)
    if any(n > 1 for n in sizes[3:]):
        msg = (
            f"{name} holds {int(np.prod(sizes[3:]))} volumes of {' x '.join(map(str, spatial))}; "
            "expected one, extract the volume to use"
        )
        raise NotAThreeDimensionalScan(msg)
    if int(np.prod(spatial, dtype=object)) > MAX_VOXELS:
        msg = f"{name} claims {' x '.join(map(str, spatial))} voxels; expected at most {MAX_VOXELS}"
        raise BadGeometry(msg)
    return tuple(spatial)


def require_plausible_grid(grid: Grid, name: str) -> None:
    """Refuse a grid that cannot be a CT of a body in millimetres.

    Raises:
        BadGeometry: a spacing or an extent is out of any scanner's range.
    """
    low, high = SPACING_LIMITS_MM
    spacing = ", ".join(f"{s:g}" for s in grid.spacing_mm)
    if not all(low <= s <= high for s in grid.spacing_mm):
        msg = f"{name} has spacing ({spacing}) mm; expected {low:g} to {high:g}, check the header's units"
        raise BadGeometry(msg)
    extent = ", ".join(f"{e:.1f}" for e in grid.extent_mm)
    if min(grid.extent_mm) < MIN_EXTENT_MM or max(grid.extent_mm) > MAX_EXTENT_MM:
        msg = (
            f"{name} measures ({extent}) mm; expected {MIN_EXTENT_MM:g} to {MAX_EXTENT_MM:g} mm along "
            "each axis, check the header's spacing"
        )
        raise BadGeometry(msg)
