"""A chosen series becomes a scan like one from any other file: voxels as stored, and a grid."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from payerseg.dicom.checks import line_is_even
from payerseg.dicom.headers import Frame, read_frames
from payerseg.dicom.lattice import SliceLine, fit_line, grid_of, positions_along
from payerseg.dicom.pixels import mask_padding, read_pixels
from payerseg.dicom.source import DicomSource
from payerseg.dicom.volumes import FoundVolume, find_volumes
from payerseg.domain.grid import Grid
from payerseg.domain.series_reference import SeriesReference
from payerseg.errors import (
    BadGeometry,
    InputError,
    NotAThreeDimensionalScan,
    NotHounsfield,
    UnreadableScan,
)
from payerseg.imaging.raw_scan import MAX_VOXELS, RawScan, require_plausible_grid
from payerseg.imaging.scan_record import Fact, Note, SourceHeader

TILT_NOTE_DEGREES = 0.05
_ERRORS: dict[str, type[InputError]] = {
    "bad_geometry": BadGeometry,
    "not_3d": NotAThreeDimensionalScan,
    "not_ct": NotAThreeDimensionalScan,
    "not_hounsfield": NotHounsfield,
    "unreadable": UnreadableScan,
}


@dataclass(frozen=True, slots=True)
class _Stack:
    """Decoded slices: value = stored * slope + intercept."""

    array: np.ndarray
    slope: float
    intercept: float
    n_padded: int


def read_series(reference: SeriesReference, *, fill_gaps: bool = False) -> RawScan:
    """Read the voxels and the grid of one series.

    Args:
        reference: which files and frames.
        fill_gaps: interpolate where slices are missing or uneven, instead of refusing.

    Returns:
        (z, y, x) stored values, sorted along the normal; a tilted gantry gives a sheared grid.

    Raises:
        InputError: one of its kinds, with what is wrong.
    """
    with DicomSource(reference.source) as source:
        volume = _the_volume(source, reference, fill_gaps=fill_gaps)
        frames = volume.frames
        line = fit_line(frames)
        grid = grid_of(frames, line)
        require_plausible_grid(grid, f"series {volume.number}")
        if np.prod(grid.shape, dtype=float) > MAX_VOXELS:
            msg = f"series {volume.number} has {grid.shape} voxels; expected at most {MAX_VOXELS}"
            raise BadGeometry(msg)
        stack = _read_stack(source, frames)
    notes = [*volume.notes, *_notes(volume, line, stack, reference)]
    if not line_is_even(line):
        stack, grid, note = _evened(frames, stack, line)
        notes.append(note)
    facts = _facts(volume, line, stack)
    header = SourceHeader("dicom", grid)
    return RawScan(stack.array, grid, header, stack.slope, stack.intercept, facts, tuple(notes))


def series_digest(series_uid: str) -> str:
    """Return what stands for a series in results: its UID can be checked against it, but not read off."""
    return hashlib.blake2b(series_uid.encode(), digest_size=16).hexdigest()


def _the_volume(source: DicomSource, reference: SeriesReference, *, fill_gaps: bool) -> FoundVolume:
    frames: list[Frame] = []
    for name in reference.members:
        with source.open(name) as file:
            found = read_frames(file, name, source.size_bytes(name))
        kept = reference.frames.get(name)
        frames += [frame for frame in found if kept is None or (frame.index or 0) in kept]
    volumes = find_volumes(frames)
    if len(volumes) != 1:
        msg = (
            f"its {len(reference.members)} files hold {len(volumes)} volumes; expected one. Did they change? "
            "Run 'payerseg run' on the DICOM input again"
        )
        raise UnreadableScan(msg)
    problem = volumes[0].problem
    if problem is not None and not (problem.fillable and fill_gaps):
        msg = f"series {volumes[0].number}: {problem.message}"
        raise _ERRORS.get(problem.kind, UnreadableScan)(msg)
    return volumes[0]


def _read_stack(source: DicomSource, frames: Sequence[Frame]) -> _Stack:
    """Decode all slices; the stored type stays where one rescaling holds for all."""
    places: dict[str, list[int]] = defaultdict(list)
    for k, frame in enumerate(frames):
        places[frame.member].append(k)
    rules = {(frame.slope if frame.slope is not None else 1.0, frame.intercept) for frame in frames}
    uniform = len(rules) == 1
    array: np.ndarray | None = None
    n_padded = 0
    for name, numbers in places.items():
        with source.open(name) as file:
            decoded = read_pixels(file, [frames[k] for k in numbers])
        for k, stored in zip(numbers, decoded, strict=True):
            values, count = mask_padding(stored, frames[k])
            n_padded += count
            if array is None:
                kind = _common_type(frames, values.dtype) if uniform else np.dtype(np.float32)
                array = np.empty((len(frames), *values.shape), kind)
            array[k] = values if uniform else _rescaled(values, frames[k])
    if array is None:
        msg = "the series has no slices"
        raise UnreadableScan(msg)
    slope, intercept = rules.pop() if uniform else (1.0, 0.0)
    return _Stack(array, slope, intercept, n_padded)


def _common_type(frames: Sequence[Frame], first: np.dtype) -> np.dtype:
    """Return a type for the stored values of all frames, which may differ in size and sign."""
    kinds = {(frame.pixels.signed, frame.pixels.allocated) for frame in frames}
    return first if len(kinds) == 1 else np.dtype(np.int32)


def _rescaled(stored: np.ndarray, frame: Frame) -> np.ndarray:
    slope = frame.slope if frame.slope is not None else 1.0
    return (stored * np.float64(slope) + frame.intercept).astype(np.float32)


def _evened(frames: Sequence[Frame], stack: _Stack, line: SliceLine) -> tuple[_Stack, Grid, Note]:
    """Interpolate slices linearly at even steps between the first and the last."""
    along = positions_along(frames)
    step = float(np.median(np.diff(along)))
    count = round((along[-1] - along[0]) / step) + 1
    wanted = np.linspace(along[0], along[-1], count)
    after = np.clip(np.searchsorted(along, wanted), 1, len(along) - 1)
    weight = (wanted - along[after - 1]) / (along[after] - along[after - 1])
    out = np.empty((count, *stack.array.shape[1:]), np.float32)
    for k in range(count):
        low, high = stack.array[after[k] - 1], stack.array[after[k]]
        mixed = low * np.float64(1 - weight[k]) + high * np.float64(weight[k])
        out[k] = mixed * stack.slope + stack.intercept
    even = SliceLine(
        line.start_mm, line.step_mm * (len(frames) - 1) / (count - 1), line.along_error_mm,
        line.aside_error_mm, line.tilt_degrees,
    )  # fmt: skip
    grid = grid_of(frames, even)
    grid = Grid(out.shape, grid.spacing_mm, grid.origin_mm, grid.direction)
    made = int(np.sum(np.min(np.abs(wanted[:, None] - along[None]), axis=1) > 0.1))
    message = f"slices are missing or uneven: {made} of {count} were interpolated between their neighbours"
    return (
        _Stack(out, 1.0, 0.0, stack.n_padded),
        grid,
        Note("dicom_slices_interpolated", message, review=True),
    )


def _notes(
    volume: FoundVolume, line: SliceLine, stack: _Stack, reference: SeriesReference
) -> list[Note]:
    notes = []
    if reference.reason:
        notes.append(Note("dicom_choice", f"series {volume.number}: {reference.reason}"))
    if line.tilt_degrees > TILT_NOTE_DEGREES:
        message = (
            f"the slices are tilted by {line.tilt_degrees:.1f} degrees against their axis; the grid is "
            "sheared, no voxel was changed"
        )
        notes.append(Note("gantry_tilt", message))
    if any(frame.slope is None for frame in volume.frames):
        notes.append(
            Note("dicom_no_rescale", "the headers have no rescale slope; values are as stored")
        )
    if stack.n_padded:
        message = f"{stack.n_padded} padding pixels outside the field of view were taken as air"
        notes.append(Note("dicom_padding", message))
    return notes


def _facts(volume: FoundVolume, line: SliceLine, stack: _Stack) -> dict[str, Fact]:
    return {
        "stored_type": stack.array.dtype.name,
        "affine_from": "dicom",
        "dicom_series": series_digest(volume.first.series),
        "dicom_series_number": volume.number,
        "dicom_slices": len(volume.frames),
        "dicom_transfer_syntax": volume.first.pixels.transfer_syntax,
        "gantry_tilt_degrees": round(line.tilt_degrees, 4),
    }
