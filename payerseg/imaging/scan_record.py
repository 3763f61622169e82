"""What must be remembered of the user's file: its grid, its header's geometry, how it was re-ordered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from payerseg import records
from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.errors import ArtifactError, GridMismatch
from payerseg.imaging.orient import Orientation

SCAN_RECORD_FORMAT = 1
HU_FLOOR, HU_CEILING = "hu_floor", "hu_ceiling"
"""Facts of a scan that was cut to a window: voxels at these values were darker or brighter once."""
Fact = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Note:
    """One thing about a scan that a person may want to know.

    Attributes:
        code: stable name.
        message: for reading.
        review: whether a person must look before the case is used; else it is a fact.
    """

    code: str
    message: str
    review: bool = False


@dataclass(frozen=True, slots=True)
class SourceHeader:
    """Where the stored voxels of a file lie, enough to write another file in the very same place.

    Attributes:
        file_format: "nifti1", "nifti2", "meta", "nrrd" or "memory".
        grid: of the array as stored, LPS.
        nifti_geometry: for NIfTI, a header (base64) that holds nothing but the geometry fields, bit
            for bit: pixdim, units, qform and sform with their codes. No text field, so no patient.
    """

    file_format: str
    grid: Grid
    nifti_geometry: str = ""


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Labels in the place of a file.

    Attributes:
        volume: (z, y, x) labels in the file's stored order.
        header: of that file.

    Raises:
        GridMismatch: labels and header do not share a grid.
    """

    volume: Volume
    header: SourceHeader

    def __post_init__(self) -> None:
        if not self.volume.grid.same_space_as(self.header.grid):
            msg = (
                f"labels on {self.volume.grid} do not fit the scan's {self.header.grid}; "
                "expected labels on the stored grid of the input file"
            )
            raise GridMismatch(msg)


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """The contents of scan.json.

    Attributes:
        file_name: of the user's file, without its folder.
        source: the stored grid and header.
        orientation: from stored to canonical order.
        ct_grid: of the prepared CT (canonical order).
        facts: plain values worth showing: stored type, rescale, replaced voxels, percentiles.
        notes: what is unusual about the scan.
    """

    file_name: str
    source: SourceHeader
    orientation: Orientation
    ct_grid: Grid
    facts: dict[str, Fact] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    @property
    def hu_window(self) -> tuple[float, float]:
        """The lowest and highest HU that the scan was cut to, infinite where it was not."""
        return (
            float(self.facts.get(HU_FLOOR, -np.inf)),
            float(self.facts.get(HU_CEILING, np.inf)),
        )

    def restore(self, volume: Volume) -> LabelMap:
        """Lead labels on the prepared CT's grid back into the stored order of the user's file.

        Args:
            volume: (z, y, x) labels on `ct_grid`.

        Returns:
            Labels on the file's own grid, no voxel interpolated.

        Raises:
            GridMismatch: the labels are not on `ct_grid`.
        """
        if not volume.grid.same_space_as(self.ct_grid):
            msg = f"labels on {volume.grid} are not on the prepared CT's grid {self.ct_grid}"
            raise GridMismatch(msg)
        stored = np.ascontiguousarray(self.orientation.undo(volume).array)
        return LabelMap(Volume(stored, self.source.grid), self.source)

    def to_json(self) -> str:
        """Return indented JSON with sorted keys; numbers keep all their digits."""
        return records.to_json({"format": SCAN_RECORD_FORMAT, **records.to_plain(self)})

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "scan.json") -> ScanRecord:
        """Read what `to_json` wrote.

        Raises:
            ArtifactError: something else was written there.
            BadGeometry: a grid of it is none.
        """
        remedy = "run the preparation again"
        data = records.decode(dict[str, Any], text, source, remedy)
        if data.pop("format", None) != SCAN_RECORD_FORMAT:
            msg = f"{source} is no scan record, or of another format version; {remedy}"
            raise ArtifactError(msg)
        return records.convert(cls, data, source, remedy)
