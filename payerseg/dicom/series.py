"""A chosen series becomes a scan like one from any other file: voxels and a rectangular grid."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from payerseg.dicom.geometry import (
    SliceLine,
    axes_of,
    fit_line,
    grid_of,
    normal_of,
    positions_along,
    typical_step,
)
from payerseg.dicom.headers import Frame, read_frames
from payerseg.dicom.pixels import AIR_HU, mask_padding, read_pixels, to_hounsfield
from payerseg.dicom.source import DicomSource
from payerseg.dicom.volumes import TURNS, FoundVolume, make_volume
from payerseg.domain.grid import Grid
from payerseg.domain.series_reference import SeriesReference
from payerseg.errors import (
    BadGeometry,
    InputError,
    NotAThreeDimensionalScan,
    NotHounsfield,
    UnreadableScan,
)
from payerseg.imaging.continuity import interleaves
from payerseg.imaging.raw_scan import MAX_VOXELS, RawScan, require_plausible_grid
from payerseg.imaging.scan_record import Fact, Note, SourceHeader

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
        (z, y, x) stored values, sorted along the normal. Slices of a tilted gantry are moved within
        their planes onto a rectangular grid: few programs can open a sheared one.

    Raises:
        InputError: one of its kinds, with what is wrong.
    """
    with DicomSource(reference.source) as source:
        volume = find_again(source, reference, fill_gaps=fill_gaps)
        frames = volume.frames
        line = fit_line(frames)
        grid = grid_of(frames, line, len(frames))
        _require_size(grid, volume)
        stack = _read_stack(source, frames)
    if interleaves(stack.array):
        msg = f"series {volume.number}: {TURNS}"
        raise BadGeometry(msg)
    notes = [*_told(volume, reference), *_notes(volume, stack)]
    if not line.is_even:
        stack, line, note = _evened(frames, stack, line)
        grid = grid_of(frames, line, len(stack.array))
        notes.append(note)
    if line.tilt_degrees > 0:
        stack, grid = _upright(stack, frames[0], line, volume)
        message = (
            f"the slices are tilted by {line.tilt_degrees:.1f} degrees against the way of the table; each "
            "was moved within its plane (linear interpolation) onto a rectangular grid"
        )
        notes.append(Note("gantry_tilt", message))
    header = SourceHeader("dicom", grid)
    facts = _facts(volume, line, stack)
    return RawScan(stack.array, grid, header, stack.slope, stack.intercept, facts, tuple(notes))


def series_digest(series_uid: str) -> str:
    """Return what stands for a series in results: its UID can be checked against it, but not read off."""
    return hashlib.blake2b(series_uid.encode(), digest_size=16).hexdigest()


def _require_size(grid: Grid, volume: FoundVolume) -> None:
    require_plausible_grid(grid, f"series {volume.number}")
    if np.prod(grid.shape, dtype=float) > MAX_VOXELS:
        msg = f"series {volume.number} has {grid.shape} voxels; expected at most {MAX_VOXELS}"
        raise BadGeometry(msg)


def find_again(source: DicomSource, reference: SeriesReference, *, fill_gaps: bool) -> FoundVolume:
    """Read the headers of a chosen volume again: its files may have changed.

    Raises:
        InputError: one of its kinds, with what is wrong.
    """
    frames: list[Frame] = []
    for name in reference.members:
        with source.open(name) as file:
            found = read_frames(file, name, source.size_bytes(name))
        kept = reference.frames.get(name)
        frames += [frame for frame in found if kept is None or (frame.index or 0) in kept]
    if not frames:
        msg = f"the {len(reference.members)} files of {reference.source} hold no image; did they change?"
        raise UnreadableScan(msg)
    volume = make_volume(frames)
    problem = volume.problem
    if problem is not None and not (problem.fillable and fill_gaps):
        msg = f"series {volume.number}: {problem.message}"
        raise _ERRORS.get(problem.kind, UnreadableScan)(msg)
    return volume


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
            array[k] = values if uniform else to_hounsfield(values, frames[k])
    if array is None:
        msg = "the series has no slices"
        raise UnreadableScan(msg)
    slope, intercept = rules.pop() if uniform else (1.0, 0.0)
    return _Stack(array, slope, intercept, n_padded)


def _common_type(frames: Sequence[Frame], first: np.dtype) -> np.dtype:
    """Return a type for the stored values of all frames, which may differ in size and sign."""
    kinds = {(frame.pixels.signed, frame.pixels.allocated) for frame in frames}
    return first if len(kinds) == 1 else np.dtype(np.int32)


def _evened(
    frames: Sequence[Frame], stack: _Stack, line: SliceLine
) -> tuple[_Stack, SliceLine, Note]:
    """Interpolate slices linearly at even steps between the first and the last."""
    along = positions_along(frames)
    count = round((along[-1] - along[0]) / typical_step(along)) + 1
    wanted = np.linspace(along[0], along[-1], count)
    after = np.clip(np.searchsorted(along, wanted), 1, len(along) - 1)
    weight = (wanted - along[after - 1]) / (along[after] - along[after - 1])
    out = np.empty((count, *stack.array.shape[1:]), np.float32)
    for k in range(count):
        low, high = stack.array[after[k] - 1], stack.array[after[k]]
        mixed = low * np.float64(1 - weight[k]) + high * np.float64(weight[k])
        out[k] = mixed * stack.slope + stack.intercept
    made = int(np.sum(np.min(np.abs(wanted[:, None] - along[None]), axis=1) > 0.1))
    message = f"slices are missing or uneven: {made} of {count} were interpolated between their neighbours"
    even = replace(line, step_mm=line.step_mm * (len(frames) - 1) / (count - 1))
    note = Note("dicom_slices_interpolated", message, review=True)
    return replace(stack, array=out, slope=1.0, intercept=0.0), even, note


def _upright(
    stack: _Stack, first: Frame, line: SliceLine, volume: FoundVolume
) -> tuple[_Stack, Grid]:
    """Undo the shear of a tilted gantry: move every slice within its plane, air where it has no pixels.

    Slice k of n begins k * step beside its place above the first one; the rectangular grid stands on the
    first slice, is wide enough for all, and has the same pixels and slices.
    """
    row_mm, column_mm = first.spacing_mm or (1.0, 1.0)
    per_slice = [line.step_mm @ axis for axis in axes_of(first)]
    drift = np.array([per_slice[1] / row_mm, per_slice[0] / column_mm])  # pixels (y, x) per slice
    moves = np.arange(len(stack.array))[:, None] * drift
    start = np.floor(moves.min(axis=0)).astype(int)
    shape = np.ceil(moves.max(axis=0)).astype(int) - start + stack.array.shape[1:]
    normal = normal_of(first)
    straight = replace(line, step_mm=normal * (line.step_mm @ normal))
    upright = grid_of([first], straight, len(stack.array))
    grid = upright.window((0, *start), (len(stack.array), *shape))
    _require_size(grid, volume)
    air = (AIR_HU - stack.intercept) / stack.slope
    if stack.array.dtype.kind in "iu":
        limits = np.iinfo(stack.array.dtype)
        air = round(min(max(air, limits.min), limits.max))
    out = np.full(grid.shape, air, stack.array.dtype)
    for target, pixels, move in zip(out, stack.array, moves - start, strict=True):
        moved = pixels.astype(np.float64)
        for axis in (0, 1):
            moved = _moved(moved, move[axis], shape[axis], axis, air)
        target[:] = np.rint(moved) if target.dtype.kind in "iu" else moved
    return replace(stack, array=out), grid


def _moved(pixels: np.ndarray, by: float, size: int, axis: int, air: float) -> np.ndarray:
    """Move pixels along an axis by a part of a pixel, linearly, into `size` pixels."""
    whole = int(np.floor(by))
    part = by - whole
    room = size - pixels.shape[axis] - whole

    def padded(before: int) -> np.ndarray:
        widths = [(0, 0), (0, 0)]
        widths[axis] = (before, size - pixels.shape[axis] - before)
        return np.pad(pixels, widths, constant_values=air)

    if part < 1e-6 or room == 0:
        return padded(whole)
    return (1 - part) * padded(whole) + part * padded(whole + 1)


def _told(volume: FoundVolume, reference: SeriesReference) -> list[Note]:
    """Return what was noticed when the volume was chosen."""
    notes = [Note(*note) for note in reference.notes]
    if reference.reason:
        notes.insert(0, Note("dicom_choice", f"series {volume.number}: {reference.reason}"))
    return notes


def _notes(volume: FoundVolume, stack: _Stack) -> list[Note]:
    notes = []
    if any(frame.slope is None for frame in volume.frames):
        notes.append(
            Note("dicom_no_rescale", "the headers have no rescale slope; values are as stored")
        )
    uids = {(frame.uid, frame.index) for frame in volume.frames}
    if len(uids) < len(volume.frames):
        message = (
            f"{len(volume.frames)} slices have {len(uids)} SOPInstanceUIDs; told apart by place"
        )
        notes.append(Note("dicom_uids", message))
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
