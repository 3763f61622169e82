"""Do the vertebrae that were found say that the scan's header or its values are wrong?

Measured on 48 CTs as they are, on the same turned upside down, and on 12 more with marked centres:

- The bone within 16..45 mm of a centre lies behind it: never did another side hold 1.5 times as much.
- Laminae and spinous processes slope downwards to the back: the slope (below) was between -0.01 and 0.28 in
  every scan whose vertebrae C3 and lower were three or more; upside down it was between -0.30 and -0.04 in
  37 of 42, the others being heads and scans with slices of 5 mm and more.
- Beside the vertebrae there is fat, muscle and bone: the 2 % quantile of soft tissue lay between -187 and
  -51 HU, the 5 % quantile above -139, the median between -6 and 71, the 97 % quantile of all above 327.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks, Point
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.imaging.resample import resample
from payerseg.report.case_facts import Finding, Severity

Shift = tuple[float, float]
STEP_MM = 1.5
AIR_HU = -1024.0
BONE_HU, METAL_HU = (150.0, 400.0), 1800.0
ARCH_MM, ARCH_HALF_WIDTH_MM = (16.0, 45.0), 12.0
MIN_LEVELS = 3
MIN_ARCH_PART = 0.1
TURNED_RATIO, TURNED_VOTES = 1.5, 0.6
SLOPE_LIMIT, SLOPE_ERRORS = -0.03, -1.0
SOFT_HU = (-250.0, 250.0)
SIDES = {
    "in front of": (0, -1),
    "to the left of": (1, 0),
    "to the right of": (-1, 0),
    "behind": (0, 1),
}
"""Where bone may lie seen from a vertebral body, as directions (x, y)."""


def scan_findings(
    ct: Volume, landmarks: Landmarks, hu_window: tuple[float, float] = (-np.inf, np.inf)
) -> Iterator[Finding]:
    """Tell what the found vertebrae say against the scan's header and values.

    Args:
        ct: (z, y, x) HU, canonical order.
        landmarks: body centres, LPS mm.
        hu_window: that the scan was cut to; then its fat or bone is known to be cut.
    """
    if not np.any(np.isfinite(hu_window)):
        yield from _doubtful_values(ct, landmarks)
    side = turned_to(ct, landmarks)
    if side:
        message = (
            f"The arches lie {side} the vertebral bodies instead of behind them: the body is turned "
            "against what the header says, left and right may be exchanged."
        )
        yield Finding("turned", Severity.REVIEW, message)
    elif is_upside_down(ct, landmarks):
        message = (
            "The spinous processes slope upwards: the header counts the slices from the wrong end, the "
            "body is upside down and every name may be wrong."
        )
        yield Finding("turned", Severity.REVIEW, message)


def turned_to(ct: Volume, landmarks: Landmarks) -> str:
    """Return where the bony arches lie from their bodies, a key of `SIDES`; "" for behind, or unknown."""
    found = []
    for center in _centers(ct, landmarks):
        bone = _bone(ct, center, (18.0, 96.0, 96.0), (0.0, 0.0))
        y, x = (axis * STEP_MM for axis in np.indices(bone.shape[1:]) - bone.shape[1] // 2)
        found.append([_arch_part(bone, x * u + y * v, x * v - y * u) for u, v in SIDES.values()])
    if len(found) < MIN_LEVELS:
        return ""
    parts = np.array(found)
    best = int(parts.mean(axis=0).argmax())
    votes = float(np.mean(parts.argmax(axis=1) == best))
    most, behind = float(parts[:, best].mean()), float(parts[:, -1].mean())
    clear = most > max(MIN_ARCH_PART, TURNED_RATIO * behind) and votes >= TURNED_VOTES
    return list(SIDES)[best] if clear else ""


def is_upside_down(ct: Volume, landmarks: Landmarks) -> bool:
    """Tell whether laminae and spinous processes slope upwards to the back."""
    slopes = []
    for center in _centers(ct, landmarks):
        bone = ndimage.gaussian_filter(_bone(ct, center, (42.0, 48.0, 18.0), (0.0, 38.0)), 1.0)
        up, back, _ = np.gradient(bone)
        slopes.append([float((up * back).sum()), float((up**2 + back**2).sum())])
    if len(slopes) < MIN_LEVELS:
        return False
    products, squares = np.array(slopes).T
    each = products / (squares + 1)
    error = each.std() / np.sqrt(len(each)) + 0.02
    whole = float(products.sum() / (squares.sum() + 1))
    return bool(whole < SLOPE_LIMIT and each.mean() < SLOPE_ERRORS * error)


def _doubtful_values(ct: Volume, landmarks: Landmarks) -> Iterator[Finding]:
    """Compare fat, muscle and bone beside the vertebrae with what they are in Hounsfield units."""
    size, shift = (16.0, 88.0, 88.0), (0.0, 24.0)
    near = [_sample(ct, center, size, shift).ravel() for center in _centers(ct, landmarks)]
    values = np.concatenate(near) if near else np.empty(0)
    values = values[values > SOFT_HU[0]]
    soft = values[values < SOFT_HU[1]]
    if len(near) < 2 or len(soft) < 1000:
        return
    fat, fat_5, muscle = (float(q) for q in np.percentile(soft, (2, 5, 50)))
    bone = float(np.percentile(values, 97))
    told = []
    if bone < 280 or (bone < 325 and fat > -80):
        told.append(f"bone reaches only {bone:.0f}")
    if fat_5 < -220:
        told.append(f"fat lies at {fat_5:.0f}")
    if not -45 <= muscle <= 115:
        told.append(f"muscle lies at {muscle:.0f}")
    if told:
        message = (
            f"Beside the vertebrae {' and '.join(told)}: the values may not be Hounsfield units, "
            "measurements of them are in doubt."
        )
        yield Finding("values", Severity.REVIEW, message)


def _centers(ct: Volume, landmarks: Landmarks) -> list[Point]:
    """Return the centres in the scan, of C3 and lower: the upper two have other arches."""
    upper = (Vertebra.C1, Vertebra.C2)
    centers = [mark.position_mm for vertebra, mark in landmarks.items() if vertebra not in upper]
    return [center for center in centers if ct.grid.contains(np.array([center]))[0]]


def _sample(ct: Volume, center: Point, size_zyx_mm: Point, shift_xy_mm: Shift) -> np.ndarray:
    """Return HU of a block around a centre, shifted to the left and to the back, at `STEP_MM`."""
    nz, ny, nx = (2 * round(size / 2 / STEP_MM) + 1 for size in size_zyx_mm)
    shape = (nz, ny, nx)
    half = [STEP_MM * (n // 2) for n in shape[::-1]]
    origin = np.add(center, (*shift_xy_mm, 0.0)) - half
    return resample(ct, Grid(shape, (STEP_MM,) * 3, tuple(origin)), outside=AIR_HU).array


def _bone(ct: Volume, center: Point, size_zyx_mm: Point, shift_xy_mm: Shift) -> np.ndarray:
    """Return 0 for soft tissue to 1 for bone; metal is none."""
    hu = _sample(ct, center, size_zyx_mm, shift_xy_mm)
    low, high = BONE_HU
    return np.clip((hu - low) / (high - low), 0, 1) * (hu < METAL_HU)


def _arch_part(bone: np.ndarray, along: np.ndarray, aside: np.ndarray) -> float:
    low, high = ARCH_MM
    there = (along > low) & (along < high) & (np.abs(aside) < ARCH_HALF_WIDTH_MM)
    return float(bone[:, there].mean())
