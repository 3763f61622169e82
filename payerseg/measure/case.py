"""Every measurement of one case as rows; definitions and sources in docs/measurements.md.

Signs of tilts, seen in the patient's own LPS axes: a coronal tilt is positive where the left side is
higher, a sagittal tilt where the front is higher.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields

import numpy as np
from scipy import ndimage

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import GridMismatch
from payerseg.imaging.body_centers import landmarks_from_labels
from payerseg.measure.vertebral_body import STEP_MM, VertebralBody, find_body, sample

SCOLIOSIS_DEGREES = 10.0
"""A coronal curve below this is no scoliosis (Scoliosis Research Society); it is not listed as a
second curve, the largest is always given."""


@dataclass(frozen=True, slots=True)
class Endplates:
    """What the angles need of one vertebra.

    Attributes:
        center_mm: (3,) LPS centre of the body.
        upper_normal: (3,) LPS unit normal of the upper endplate, pointing up.
        lower_normal: the same of the lower endplate.
    """

    center_mm: np.ndarray
    upper_normal: np.ndarray
    lower_normal: np.ndarray


@dataclass(frozen=True, slots=True)
class Curve:
    """A coronal curve.

    Attributes:
        upper: end vertebra at the head; its upper endplate counts.
        lower: end vertebra at the foot; its lower endplate counts.
        degrees: Cobb angle, not negative.
        convex_to: side of the apex.
    """

    upper: Vertebra
    lower: Vertebra
    degrees: float
    convex_to: str


def coronal_tilt_degrees(normal: np.ndarray) -> float:
    """Return the tilt of a plane with this upward normal, positive where the left is higher."""
    return float(np.degrees(np.arctan2(-normal[0], normal[2])))


def sagittal_tilt_degrees(normal: np.ndarray) -> float:
    """Return the tilt of a plane with this upward normal, positive where its front is higher."""
    return float(np.degrees(np.arctan2(normal[1], normal[2])))


def sagittal_angle_degrees(
    endplates: Mapping[Vertebra, Endplates], upper: Vertebra, lower: Vertebra
) -> float | None:
    """Return how much the spine bends backwards-out between two endplates in the sagittal plane.

    Args:
        endplates: what is known.
        upper: its upper endplate counts.
        lower: its lower endplate counts.

    Returns:
        Degrees, positive for kyphosis and negative for lordosis; None where one is not known.
    """
    if upper not in endplates or lower not in endplates:
        return None
    above = sagittal_tilt_degrees(endplates[upper].upper_normal)
    below = sagittal_tilt_degrees(endplates[lower].lower_normal)
    return below - above


def coronal_curves(endplates: Mapping[Vertebra, Endplates]) -> list[Curve]:
    """Find the coronal curves by Cobb's method.

    The largest angle between any upper endplate and any lower endplate below it is the main curve.
    Above its upper and below its lower end vertebra, which neighbouring curves share, the same is
    done again as long as the angle reaches `SCOLIOSIS_DEGREES`.

    Returns:
        Curves from head to foot; empty with fewer than three vertebrae.
    """
    levels = sorted(endplates)
    if len(levels) < 3:
        return []
    main = _largest(endplates, levels)
    start, stop = levels.index(main.upper), levels.index(main.lower)
    found = [main]
    for part in (levels[: start + 1], levels[stop:]):
        if len(part) >= 3:
            curve = _largest(endplates, part)
            found += [curve] if curve.degrees >= SCOLIOSIS_DEGREES else []
    return sorted(found, key=lambda curve: curve.upper.rank)


def _largest(endplates: Mapping[Vertebra, Endplates], levels: list[Vertebra]) -> Curve:
    above = np.array([coronal_tilt_degrees(endplates[v].upper_normal) for v in levels])
    below = np.array([coronal_tilt_degrees(endplates[v].lower_normal) for v in levels])
    angle = np.abs(above[:, None] - below[None])
    angle[np.tril_indices(len(levels), 1)] = -1  # end vertebrae have one between them
    i, j = np.unravel_index(int(angle.argmax()), angle.shape)
    side = _convex_side(np.array([endplates[v].center_mm for v in levels[i : j + 1]]))
    return Curve(levels[i], levels[j], float(angle[i, j]), side)


def _convex_side(centers_mm: np.ndarray) -> str:
    """Return the side on which the centres lie off the line between the first and the last."""
    first, last = centers_mm[0], centers_mm[-1]
    part = (centers_mm[:, 2] - first[2]) / (last[2] - first[2])
    off = centers_mm[:, 0] - (first[0] + part * (last[0] - first[0]))
    return "left" if off[np.argmax(np.abs(off))] > 0 else "right"


WITHOUT_BODY_HEIGHTS = (Vertebra.C1, Vertebra.C2)
"""C1 has no body, the dens stands on C2's."""
HEIGHT_ZONES = {
    "height_anterior": (0.05, 0.25),
    "height_middle": (0.40, 0.60),
    "height_posterior": (0.75, 0.95),
}
CORE_DEPTH_MM = 4.0
"""Core voxels lie this deep inside the body: cortex and endplates with their blur are left out."""
CORE_DEPTH_PART = 0.3
"""… or this part of the middle height, for small bodies."""
BODY_MARGIN_MM = 1.0
"""A body whose box comes this near to a face of the scan is taken as cut: no heights, no angles."""
METAL_HU = 1500.0
KYPHOSES = ((Vertebra.T4, Vertebra.T12), (Vertebra.T1, Vertebra.T12))
LORDOSES = ((Vertebra.L1, Vertebra.L5),)
MIN_CORE_VOXELS = 20
MAX_CUT_PART = 0.002


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number.

    Attributes:
        level: "L1"; for the whole spine its end vertebrae, "T4-T12".
        quantity: "volume", "height_anterior", …
        value: the number.
        unit: "ml", "mm", "HU", "deg", "1" for a ratio.
        note: why to be careful, "" mostly.
    """

    level: str
    quantity: str
    value: float
    unit: str
    note: str = ""


def measure_case(
    ct: Volume | None,
    labels: Volume,
    landmarks: Landmarks,
    hu_window: tuple[float, float] = (-np.inf, np.inf),
) -> list[Measurement]:
    """Measure every vertebra and the curves of the spine.

    Args:
        ct: (z, y, x) HU on any grid; None leaves the HU out.
        labels: (z, y, x) VerSe labels.
        landmarks: body centres; a vertebra without one is found from its mask.
        hu_window: values that `ct` was cut to; HU of what was cut are no measurement.

    Returns:
        Rows, vertebrae from head to foot, then the curves. What cannot be measured has no row.

    Raises:
        GridMismatch: `labels` is not three-dimensional.
    """
    if labels.array.ndim != 3:
        msg = f"labels have shape {labels.array.shape}; expected (z, y, x)"
        raise GridMismatch(msg)
    blocks = _blocks(labels)
    centers = _centers(labels, blocks, landmarks)
    rows: list[Measurement] = []
    endplates: dict[Vertebra, Endplates] = {}
    for vertebra, mask in blocks.items():
        note = "cut by the scan's face" if _touches_face(mask.grid, labels.grid) else ""
        volume = mask.array.sum() * mask.grid.voxel_mm3 / 1000
        rows.append(Measurement(vertebra.name, "volume", float(volume), "ml", note))
        if vertebra in WITHOUT_BODY_HEIGHTS:
            continue
        body = find_body(mask, centers[vertebra], _up_at(vertebra, centers))
        if body is None or not labels.grid.contains(body.corners_mm, BODY_MARGIN_MM).all():
            continue
        rows += _of_body(vertebra, body)
        rows += [] if ct is None else _core_hu(vertebra, body, ct, hu_window)
        endplates[vertebra] = Endplates(body.center_mm, body.upper_normal, body.lower_normal)
    return rows + _of_spine(endplates)


def measurements_csv(rows: Iterable[Measurement]) -> str:
    """Return rows as CSV text: level, quantity, value (4 significant decimals), unit, note."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Measurement)])
    for row in rows:
        level, quantity, value, unit, note = astuple(row)
        writer.writerow([level, quantity, f"{value:.4f}".rstrip("0").rstrip("."), unit, note])
    return text.getvalue()


def _blocks(labels: Volume) -> dict[Vertebra, Volume]:
    """Cut the mask of each vertebra out of a label map, head to foot."""
    boxes = ndimage.find_objects(labels.array.astype(np.uint8, copy=False))
    found = {}
    for vertebra in Vertebra:
        label = vertebra.verse_label
        box = boxes[label - 1] if label <= len(boxes) else None
        if box is not None:
            block = labels.cropped(tuple(s.start for s in box), tuple(s.stop for s in box))
            found[vertebra] = block.with_array(block.array == label)
    return found


def _centers(
    labels: Volume, blocks: dict[Vertebra, Volume], landmarks: Landmarks
) -> dict[Vertebra, np.ndarray]:
    """(3,) LPS per vertebra: the landmark where it lies in its own mask, else the body found there.

    A fragment without a body gets the centroid of its mask.
    """
    centers = {
        vertebra: np.asarray(landmarks[vertebra].position_mm)
        for vertebra, mask in blocks.items()
        if vertebra in landmarks and _holds(mask, landmarks[vertebra].position_mm)
    }
    if len(centers) == len(blocks):
        return centers
    derived = landmarks_from_labels(labels)
    for vertebra in [v for v in blocks if v not in centers]:
        mask = blocks[vertebra]
        middle = mask.grid.map_indices_to_world(np.argwhere(mask.array).mean(axis=0))[0]
        known = vertebra in derived
        centers[vertebra] = np.asarray(derived[vertebra].position_mm) if known else middle
    return centers


def _holds(mask: Volume, point_mm: tuple[float, float, float]) -> bool:
    """Tell whether a point lies in a mask."""
    zyx = np.rint(mask.grid.map_world_to_indices(point_mm)[0]).astype(int)
    inside = np.all(zyx >= 0) and np.all(zyx < mask.grid.shape)
    return bool(inside and mask.array[tuple(zyx)])


def _up_at(vertebra: Vertebra, centers: dict[Vertebra, np.ndarray]) -> np.ndarray:
    """Return the direction from the lower to the upper neighbour, straight up without any."""
    near = [v for v in centers if abs(v.rank - vertebra.rank) <= 2]
    up = centers[min(near)] - centers[max(near)]
    return up if np.linalg.norm(up) > 1 else np.array([0.0, 0.0, 1.0])


def _touches_face(block: Grid, scan: Grid) -> bool:
    start = scan.map_world_to_indices(block.origin_mm)[0]
    stop = start + block.shape
    return bool(np.any(start < 0.5) or np.any(stop > np.array(scan.shape) - 0.5))


def _of_body(vertebra: Vertebra, body: VertebralBody) -> list[Measurement]:
    rows, name = [], vertebra.name
    heights = {key: body.height_mm(*zone) for key, zone in HEIGHT_ZONES.items()}
    for key, height in heights.items():
        if height is not None:
            rows.append(Measurement(name, key, height, "mm"))
    front, middle, back = heights.values()
    if front and back:
        rows.append(Measurement(name, "wedge_ratio", front / back, "1"))
    if middle and back:
        rows.append(Measurement(name, "biconcavity_ratio", middle / back, "1"))
    rows.append(Measurement(name, "depth", body.depth_mm, "mm"))
    rows.append(Measurement(name, "width", body.width_mm, "mm"))
    up = body.upper_normal + body.lower_normal
    rows.append(Measurement(name, "tilt_coronal", coronal_tilt_degrees(up), "deg"))
    rows.append(Measurement(name, "tilt_sagittal", sagittal_tilt_degrees(up), "deg"))
    return rows


def _core_hu(
    vertebra: Vertebra, body: VertebralBody, ct: Volume, hu_window: tuple[float, float]
) -> list[Measurement]:
    """Mean and standard deviation of HU deep inside the body."""
    inside = sample_body(body)
    height = np.nanmedian(body.top_mm - body.bottom_mm)
    depth = min(CORE_DEPTH_MM, CORE_DEPTH_PART * float(height))
    core = ndimage.distance_transform_edt(inside, STEP_MM) > depth
    if core.sum() < MIN_CORE_VOXELS:
        return []
    hu = sample(ct, body.frame)[core]
    if np.mean((hu <= hu_window[0]) | (hu >= hu_window[1])) > MAX_CUT_PART:
        return []
    note = "metal in the core" if np.mean(hu > METAL_HU) > 0.01 else ""
    return [
        Measurement(vertebra.name, "core_hu_mean", float(hu.mean()), "HU", note),
        Measurement(vertebra.name, "core_hu_sd", float(hu.std()), "HU", note),
    ]


def sample_body(body: VertebralBody) -> np.ndarray:
    """Return the body without its arch on the frame's grid, (n left, n back, n up) bool."""
    ups = np.arange(body.occupancy.shape[2]) * STEP_MM
    ups = ups - ups.mean()
    above, below = body.top_mm[..., None], body.bottom_mm[..., None]
    in_columns = (ups <= np.nan_to_num(above, nan=-1e9)) & (ups >= np.nan_to_num(below, nan=1e9))
    beside = np.abs(body.lefts_mm) <= body.width_mm / 2
    return in_columns & beside[:, None, None]


def _of_spine(endplates: dict[Vertebra, Endplates]) -> list[Measurement]:
    rows = [
        Measurement(
            f"{curve.upper.name}-{curve.lower.name}",
            "cobb_coronal",
            curve.degrees,
            "deg",
            f"convex to the {curve.convex_to}",
        )
        for curve in coronal_curves(endplates)
    ]
    for quantity, pairs, sign in (
        ("thoracic_kyphosis", KYPHOSES, 1),
        ("lumbar_lordosis", LORDOSES, -1),
    ):
        for upper, lower in pairs:
            angle = sagittal_angle_degrees(endplates, upper, lower)
            if angle is not None:
                level = f"{upper.name}-{lower.name}"
                rows.append(Measurement(level, quantity, sign * angle, "deg"))
    return rows
