"""What can be wrong with the slices of a volume, each said with what was found and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from payerseg.dicom.headers import Frame
from payerseg.dicom.lattice import SliceLine, axes_of, fit_line, positions_along

CT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",  # CT Image
    "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT Image
    "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT Image
)
HOUNSFIELD_TYPES = ("", "HU", "US", "HU_MOD", "UNSPECIFIED")
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


def check_kind(frames: Sequence[Frame]) -> Problem | None:
    """Tell whether frames are slices of a CT at all, by their headers alone."""
    first = frames[0]
    if first.modality != "CT" and first.sop_class not in CT_CLASSES:
        return Problem("not_ct", f"modality is {first.modality or 'missing'}; expected CT")
    if first.modality not in ("CT", ""):
        return Problem("not_ct", f"modality is {first.modality}; expected CT")
    if "LOCALIZER" in first.image_type:
        return Problem("not_ct", "it is a localizer (scout)")
    if first.pixels.samples != 1:
        return Problem("not_ct", f"{first.pixels.samples} values per pixel (colour); expected one")
    if first.position_mm is None or first.orientation is None:
        message = "its images have no position or orientation in the body (screenshots?)"
        return Problem("not_ct", message)
    strange = sorted({f.rescale_type for f in frames} - set(HOUNSFIELD_TYPES))
    if strange:
        return Problem("not_hounsfield", f"values are {', '.join(strange)}, not Hounsfield units")
    return None


def check_geometry(frames: Sequence[Frame]) -> Problem | None:
    """Tell whether sorted slices make a whole volume on one grid whose pixels can be decoded."""
    first = frames[0]
    if len(frames) < MIN_SLICES:
        message = f"{len(frames)} slice(s); expected a volume of at least {MIN_SLICES}"
        return Problem("not_3d", message)
    if first.spacing_mm is None or min(first.spacing_mm) <= 0:
        return Problem("bad_geometry", "PixelSpacing is missing or not positive")
    x_axis, y_axis = (np.asarray(first.orientation, float)[k : k + 3] for k in (0, 3))
    lengths = np.linalg.norm(x_axis), np.linalg.norm(y_axis)
    if max(abs(length - 1) for length in lengths) > RIGHT_ANGLE or abs(
        float(np.dot(*axes_of(first)))
    ) > RIGHT_ANGLE:  # fmt: skip
        return Problem(
            "bad_geometry", "ImageOrientationPatient is not two unit vectors at a right angle"
        )
    return _check_files(frames) or _check_places(frames)


def line_is_even(line: SliceLine) -> bool:
    """Tell whether slices lie on their line at equal steps."""
    return bool(np.max(np.abs(line.along_error_mm)) <= _tolerance_mm(np.linalg.norm(line.step_mm)))


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
    uid = UID(syntax)
    try:
        decoder = get_decoder(uid)
    except NotImplementedError:
        return Problem("unreadable", f"transfer syntax {uid.name} ({syntax}) is not known")
    if decoder.is_available:
        return None
    missing = "; ".join(decoder.missing_dependencies)
    message = (
        f"compressed as {uid.name}, and the decoder for it is not installed ({missing}); "
        f"run: pip install 'payerseg[dicom]' (it brings {PLUGINS})"
    )
    return Problem("unreadable", message)


def _check_places(frames: Sequence[Frame]) -> Problem | None:
    line = fit_line(frames)
    steps = np.diff(positions_along(frames))
    step = float(np.median(steps))
    if np.max(line.aside_error_mm) > max(
        _tolerance_mm(step), 0.5 * min(frames[0].spacing_mm or (1.0,))
    ):
        aside_mm = float(np.max(line.aside_error_mm))
        message = f"its slices do not lie on a straight line (up to {aside_mm:.2f} mm beside it)"
        return Problem("bad_geometry", message)
    if line_is_even(line):
        return None
    widest = int(np.argmax(steps))
    fillable = bool(steps[widest] <= MAX_GAP_MM)
    cure = (
        "export the series again, or accept interpolated slices with "
        "--set preparation.uneven_slices=interpolate"
        if fillable
        else f"export the series again (gaps above {MAX_GAP_MM:g} mm are not filled)"
    )
    where = f"{steps[widest]:.2f} mm after the slice at {positions_along(frames)[widest]:.2f} mm"
    whole = np.rint(steps / step)
    if np.all(np.abs(steps - whole * step) <= np.maximum(WHOLE_STEPS * step, PLACE_ERROR_MM)):
        n_missing = int(np.sum(whole - 1))
        message = f"{n_missing} slice(s) of {len(frames) + n_missing} are missing, widest gap {where}; {cure}"
        return Problem("bad_geometry", message, fillable)
    message = (
        f"the distance of its slices varies from {steps.min():.2f} to {steps.max():.2f} mm (widest {where}); "
        f"{cure}"
    )
    return Problem("bad_geometry", message, fillable)
