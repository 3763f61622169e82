"""The user's file becomes the prepared CT: checked, in canonical order, int16 Hounsfield units.

No voxel is interpolated: axes are permuted and flipped, values are rounded and clipped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from payerseg.config.schema import PreparationConfig
from payerseg.domain.volume import Volume
from payerseg.errors import BadGeometry
from payerseg.imaging.continuity import continuity_notes
from payerseg.imaging.files import read_scan
from payerseg.imaging.orient import axis_codes, closest_orientation
from payerseg.imaging.raw_scan import RawScan
from payerseg.imaging.scan_record import Fact, Note, ScanRecord
from payerseg.preprocess.hounsfield import (
    AIR_HU,
    ValueRepair,
    ValueVerdict,
    judge_values,
    sample_of,
)

HU_RANGE = (-1024, 8192)
"""REFERENCE §1 clamps there; metal above is as bright as it gets."""
_SLAB_SLICES = 64
"""Slices converted at once: bounds memory, and a cache line serves them all in any storage order."""


@dataclass(frozen=True, slots=True)
class PreparedScan:
    """A prepared CT and what to remember of its file."""

    ct: Volume
    record: ScanRecord


def prepare_scan(path: Path, settings: PreparationConfig) -> PreparedScan:
    """Read, check and re-order a user's scan.

    Raises:
        InputError: one of its kinds, with the reason.
    """
    return prepare_raw(read_scan(path), path.name, settings)


def prepare_raw(raw: RawScan, name: str, settings: PreparationConfig) -> PreparedScan:
    """Check and re-order a scan as stored.

    Raises:
        BadGeometry: too thin, or too coarse to hold a vertebra's shape.
        NotHounsfield: the values cannot be a CT's.
    """
    _require_enough(raw, name, settings)
    orientation = closest_orientation(raw.grid)
    stored = orientation.apply(Volume(raw.array, raw.grid))
    view = replace(raw, array=stored.array, grid=stored.grid)
    verdict = ValueVerdict(ValueRepair(), (), {})
    if settings.check_hounsfield:
        verdict = judge_values(replace(raw, array=sample_of(view.array)).values(), name)
    repair = verdict.repair
    notes = [*raw.notes, *verdict.notes]
    hounsfield, counts = _to_hounsfield(view, repair)
    ct = Volume(hounsfield, stored.grid)
    notes += _count_notes(counts, hounsfield.size)
    notes += [*_unit_matrix(raw), *continuity_notes(ct)]
    facts = {
        **raw.facts, **verdict.facts, **counts, **_quantiles(hounsfield), "orientation": axis_codes(raw.grid),
        "slope": raw.slope, "intercept": raw.intercept, "offset_removed": repair.offset,
        "sheared": not raw.grid.is_orthonormal,
    }  # fmt: skip
    return PreparedScan(ct, ScanRecord(name, raw.source, orientation, ct.grid, facts, tuple(notes)))


def _unit_matrix(raw: RawScan) -> list[Note]:
    """Doubt a file whose header holds only what a program writes that knows none."""
    grid, in_memory = raw.grid, raw.source.file_format == "memory"
    plain = np.array_equal(np.abs(grid.matrix), np.eye(4))
    if in_memory or not plain:
        return []
    message = (
        "the header is a unit matrix (voxels of 1 mm at the origin), as no scanner writes: sizes, and "
        "left and right, may be wrong"
    )
    return [Note("unit_matrix", message, review=True)]


def _require_enough(raw: RawScan, name: str, settings: PreparationConfig) -> None:
    if min(raw.grid.extent_mm) < settings.min_size_mm:
        extent = ", ".join(f"{e:.1f}" for e in raw.grid.extent_mm)
        msg = f"{name} measures ({extent}) mm; expected at least {settings.min_size_mm:g} mm along each axis"
        raise BadGeometry(msg)
    if max(raw.grid.spacing_mm) > settings.max_spacing_mm:
        spacing = ", ".join(f"{s:.2f}" for s in raw.grid.spacing_mm)
        msg = f"{name} has spacing ({spacing}) mm; expected at most {settings.max_spacing_mm:g} mm"
        raise BadGeometry(msg)


def _to_hounsfield(raw: RawScan, repair: ValueRepair) -> tuple[np.ndarray, dict[str, int]]:
    """Return (z, y, x) int16 in HU_RANGE, and how many voxels had to be replaced or clipped."""
    out = np.empty(raw.array.shape, np.int16)
    counts = {
        "non_finite_voxels": 0,
        "voxels_below_range": 0,
        "voxels_above_range": 0,
    }
    for start in range(0, len(out), _SLAB_SLICES):
        slab = slice(start, start + _SLAB_SLICES)
        values = raw.values(slab)
        if not repair.is_identity:
            values = repair.apply(values)
        if values.dtype.kind == "f":
            wrong = ~np.isfinite(values)
            if wrong.any():
                counts["non_finite_voxels"] += int(np.count_nonzero(wrong))
                values = np.where(wrong, values.dtype.type(AIR_HU), values)
            values = np.rint(values)
        low, high = HU_RANGE
        if values.min() < low:
            counts["voxels_below_range"] += int(np.count_nonzero(values < low))
        if values.max() > high:
            counts["voxels_above_range"] += int(np.count_nonzero(values > high))
        out[slab] = np.clip(values, *_range_of(values.dtype))
    return out, counts


def _range_of(kind: np.dtype) -> tuple[int, int]:
    """Return HU_RANGE as far as an integer type can hold it."""
    low, high = HU_RANGE
    if kind.kind == "f":
        return low, high
    limits = np.iinfo(kind)
    return max(low, int(limits.min)), min(high, int(limits.max))


def _quantiles(hounsfield: np.ndarray) -> dict[str, Fact]:
    names = {"hu_p1": 1, "hu_median": 50, "hu_p99": 99}
    values = np.percentile(sample_of(hounsfield), list(names.values()))
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _count_notes(counts: dict[str, int], n_voxels: int) -> list[Note]:
    notes = []
    if counts["non_finite_voxels"]:
        share = 100 * counts["non_finite_voxels"] / n_voxels
        message = f"{counts['non_finite_voxels']} voxels ({share:.2f} %) are NaN or infinite; taken as air"
        notes.append(Note("non_finite", message))
    if counts["voxels_above_range"]:
        message = (
            f"{counts['voxels_above_range']} voxels above {HU_RANGE[1]} HU were clipped (metal?)"
        )
        notes.append(Note("clipped_above", message))
    return notes
