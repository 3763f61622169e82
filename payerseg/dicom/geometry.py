"""Places of slices, along their normal and as a grid; and what can be wrong with a set of them.

DICOM PS3.3 C.7.6.2: ImagePositionPatient is the LPS centre of the first pixel, ImageOrientationPatient
the direction of growing column index (x), then of growing row index (y); PixelSpacing is (y, x). That
is our world and our grid; nothing is turned. A gantry tilt moves each slice sideways against the one
before: the third axis of the grid is then not the normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from payerseg.dicom.headers import CT_CLASSES, Frame, quiet
from payerseg.domain.grid import Grid

DRIFT_MM, DRIFT = 0.1, 1e-3
"""Sideways drift over a whole volume, or part of its length, that is rounding, not a tilt."""
MAX_TILT_DEGREES = 45.0
"""Gantries tilt by 30 degrees at most."""
HOUNSFIELD_TYPES = ("", "HU", "US", "HU_MOD", "UNSPECIFIED")
OTHER_TYPES = ("OD", "MGML", "Z_EFF", "ED", "EDW", "PCT")
MODALITIES = (
    "MR",
    "PT",
    "NM",
    "CR",
    "DX",
    "MG",
    "XA",
    "RF",
    "US",
    "OT",
    "SC",
    "RTIMAGE",
    "RTDOSE",
    "SEG",
)
"""Defined terms (PS3.3 C.11.1.1.2, C.7.3.1.1.1): only these are repeated, anything else may be free text."""
MIN_SLICES = 3
PLACE_ERROR_MM, PLACE_ERROR = 0.1, 0.02
"""Slices may lie this far from their even place: positions are often rounded to 0.1 mm; or this part
of their distance."""
WHOLE_STEPS = 0.2
"""Gaps within this part of a whole number of steps mean that slices are missing, not uneven."""
MAX_GAP_MM = 10.0
"""Wider gaps are never filled: a disc, or the end plates of two vertebrae, would be made up."""
RIGHT_ANGLE = 1e-2
PLUGINS = "python-gdcm, pylibjpeg-openjpeg, pyjpegls"
FILLING = (
    "or accept interpolated slices: payerseg run --set preparation.uneven_slices=interpolate, "
    "payerseg dicom convert --uneven-slices interpolate"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why frames are no usable CT volume.

    Attributes:
        kind: for machines, as `PayersegError.kind`; "not_ct" for what was never meant to be one.
        message: completes "series 3: ...".
        fillable: slices are missing or uneven, and could be interpolated.
    """

    kind: str
    message: str
    fillable: bool = False


@dataclass(frozen=True, slots=True)
class SliceLine:
    """The straight line on which slices should lie at equal steps.

    Attributes:
        start_mm: LPS place of the first slice.
        step_mm: LPS vector from slice to slice.
        along_error_mm: (n,) distance along the normal of each slice from its place on the line.
        aside_error_mm: (n,) distance across it.
        tilt_degrees: angle between line and normal.
    """

    start_mm: np.ndarray
    step_mm: np.ndarray
    along_error_mm: np.ndarray
    aside_error_mm: np.ndarray
    tilt_degrees: float

    @property
    def is_even(self) -> bool:
        """Whether the slices lie on it at equal steps."""
        step = float(np.linalg.norm(self.step_mm))
        return bool(np.max(np.abs(self.along_error_mm)) <= _tolerance_mm(step))


def axes_of(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit vectors of growing column and row index."""
    cosines = np.asarray(frame.orientation, float)
    x_axis, y_axis = cosines[:3], cosines[3:]
    return x_axis / np.linalg.norm(x_axis), y_axis / np.linalg.norm(y_axis)


def normal_of(frame: Frame) -> np.ndarray:
    """Return the unit normal of a slice."""
    normal = np.cross(*axes_of(frame))
    return normal / np.linalg.norm(normal)


def positions_mm(frames: Sequence[Frame]) -> np.ndarray:
    """Return the (n, 3) LPS places of slices."""
    return np.array([frame.position_mm for frame in frames], float)


def positions_along(frames: Sequence[Frame]) -> np.ndarray:
    """Return the (n,) places of slices along the normal of the first, mm."""
    return positions_mm(frames) @ normal_of(frames[0])


def fit_line(frames: Sequence[Frame]) -> SliceLine:
    """Lay a line of equal steps through sorted slices, by their first and last."""
    places, normal = positions_mm(frames), normal_of(frames[0])
    span = places[-1] - places[0]
    height = span @ normal
    drift_mm = float(np.linalg.norm(span - normal * height))
    if drift_mm <= max(DRIFT_MM, DRIFT * height):
        drift_mm, span = 0.0, normal * height
    step = span / (len(frames) - 1)
    along = (places - places[0] - np.arange(len(frames))[:, None] * step) @ normal
    # Across: compared at the slice's own height, so that an uneven step is not also a sideways error.
    on_line = places[0] + ((places - places[0]) @ normal)[:, None] * (span / height)
    aside = np.linalg.norm(places - on_line, axis=1)
    return SliceLine(places[0], step, along, aside, float(np.degrees(np.arctan2(drift_mm, height))))


def grid_of(frames: Sequence[Frame], line: SliceLine, count: int) -> Grid:
    """Return the grid of `count` slices that lie on a line at equal steps."""
    first = frames[0]
    x_axis, y_axis = axes_of(first)
    row_mm, column_mm = first.spacing_mm or (0.0, 0.0)
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([x_axis * column_mm, y_axis * row_mm, line.step_mm])
    matrix[:3, 3] = line.start_mm
    return Grid.from_matrix((count, first.rows, first.columns), matrix)


def check_kind(frames: Sequence[Frame]) -> Problem | None:
    """Tell whether frames of one kind are slices of a CT at all, by their headers alone."""
    first = frames[0]
    if first.modality != "CT":
        known = first.modality in MODALITIES
        found = first.modality if known else "of another kind" if first.modality else "missing"
        return Problem("not_ct", f"modality is {found}; expected CT")
    if first.is_localizer:
        return Problem("not_ct", "it is a localizer (scout)")
    if first.pixels.samples != 1:
        return Problem("not_ct", f"{first.pixels.samples} values per pixel (colour); expected one")
    missing = [
        name
        for name, value in (
            ("ImagePositionPatient", first.position_mm),
            ("ImageOrientationPatient", first.orientation),
        )
        if value is None
    ]
    if missing:
        message = f"{' and '.join(missing)} missing or unusable in {len(frames)} image(s)"
        if not any(frame.sop_class in CT_CLASSES for frame in frames):
            return Problem("not_ct", f"{message}; are they screenshots?")
        cure = "their place in the body is not known; export the series again with these tags"
        return Problem("bad_geometry", f"{message}: {cure}")
    strange = sorted({f.rescale_type for f in frames} - set(HOUNSFIELD_TYPES))
    if strange:
        named = [name if name in OTHER_TYPES else "of no defined type" for name in strange]
        types = ", ".join(dict.fromkeys(named))
        message = f"values are {types} (RescaleType), not Hounsfield units"
        return Problem("not_hounsfield", message)
    return None


def check_geometry(frames: Sequence[Frame]) -> Problem | None:
    """Tell whether sorted slices make a whole volume on one grid whose pixels can be decoded."""
    first = frames[0]
    if len(frames) < MIN_SLICES:
        message = f"{len(frames)} slice(s); expected a volume of at least {MIN_SLICES}"
        return Problem("not_3d", message)
    if first.spacing_mm is None or min(first.spacing_mm) <= 0:
        return Problem("bad_geometry", "PixelSpacing is missing or not positive")
    cosines = np.asarray(first.orientation, float).reshape(2, 3)
    if np.max(np.abs(cosines @ cosines.T - np.eye(2))) > RIGHT_ANGLE:
        message = "ImageOrientationPatient is not two unit vectors at a right angle"
        return Problem("bad_geometry", message)
    return _check_files(frames) or _check_places(frames)


def _tolerance_mm(distance_mm: float) -> float:
    return max(PLACE_ERROR_MM, PLACE_ERROR * float(distance_mm))


def _check_files(frames: Sequence[Frame]) -> Problem | None:
    short = sorted({frame.member for frame in frames if frame.truncated})
    if short:
        message = (
            f"{len(short)} file(s) end before their pixels do, e.g. {short[0]}; copy them again"
        )
        return Problem("unreadable", message)
    for syntax in sorted({frame.pixels.transfer_syntax for frame in frames}):
        problem = check_decoder(syntax)
        if problem is not None:
            return problem
    return None


def check_decoder(syntax: str) -> Problem | None:
    """Tell whether the pixels of a transfer syntax can be decoded here."""
    with quiet():
        uid = UID(syntax)
        try:
            decoder = get_decoder(uid)
        except NotImplementedError:
            found = f"{uid.name} ({syntax})" if uid.is_valid else "of its files is no UID and"
            return Problem("unreadable", f"the transfer syntax {found} is not known")
    if decoder.is_available:
        return None
    missing = "; ".join(decoder.missing_dependencies)
    message = (
        f"compressed as {uid.name}, and the decoder for it is not installed ({missing}); "
        f"run: pip install 'payerseg[dicom]' (it brings {PLUGINS})"
    )
    return Problem("unreadable", message)


def _check_places(frames: Sequence[Frame]) -> Problem | None:
    along = positions_along(frames)
    steps = np.diff(along)
    if min(steps) <= 0:
        message = f"{int(np.sum(steps <= 0))} slices lie where another does"
        return Problem("bad_geometry", message)
    line, step = fit_line(frames), float(np.median(steps))
    aside_mm = float(np.max(line.aside_error_mm))
    if aside_mm > max(_tolerance_mm(step), 0.5 * min(frames[0].spacing_mm or (1.0,))):
        message = f"its slices do not lie on a straight line (up to {aside_mm:.2f} mm beside it)"
        return Problem("bad_geometry", message)
    if line.tilt_degrees > MAX_TILT_DEGREES:
        message = (
            f"its slices are stacked at {line.tilt_degrees:.0f} degrees to their normal; expected at "
            f"most {MAX_TILT_DEGREES:g}"
        )
        return Problem("bad_geometry", message)
    return None if line.is_even else _uneven(len(frames), along)


def _uneven(n_slices: int, along: np.ndarray) -> Problem:
    """Say how the distances of slices differ: a few are missing, they change, or they are irregular."""
    steps = np.diff(along)
    step = typical_step(along)
    widest = int(np.argmax(steps))
    fillable = bool(steps[widest] <= MAX_GAP_MM)
    cure = (
        f"export the series again, {FILLING}"
        if fillable
        else f"export the series again (gaps above {MAX_GAP_MM:g} mm are not filled)"
    )
    where = f"{steps[widest]:.2f} mm after the slice at {along[widest]:.2f} mm"
    whole = np.rint(steps / step)
    runs = [(times, len(list(run))) for times, run in groupby(whole)]
    regular = np.abs(steps - whole * step) <= np.maximum(WHOLE_STEPS * step, PLACE_ERROR_MM)
    if np.all(regular) and all(n >= MIN_SLICES for _, n in runs):
        found = ", then ".join(f"{n} of {times * step:.3g} mm" for times, n in runs)
        message = f"the distance of its slices changes: {found}; none is missing; {cure}"
    elif np.all(regular):
        n_missing = int(np.sum(whole - 1))
        message = f"{n_missing} slice(s) of {n_slices + n_missing} are missing, widest gap {where}; {cure}"
    else:
        message = (
            f"the distance of its slices varies from {steps.min():.2f} to {steps.max():.2f} mm "
            f"(widest {where}); {cure}"
        )
    return Problem("bad_geometry", message, fillable)


def typical_step(along: np.ndarray) -> float:
    """Return the usual distance of neighbours, of the finer part where a scan has thick and thin ones."""
    steps = np.diff(along)
    return float(np.median(steps[steps <= 1.5 * np.percentile(steps, 10)]))
