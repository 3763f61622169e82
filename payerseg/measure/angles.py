"""Tilts of vertebrae and the angles of the spine's curves; definitions in docs/measurements.md.

Signs, seen in the patient's own LPS axes: a coronal tilt is positive where the left side is higher,
a sagittal tilt where the front is higher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from payerseg.domain.vertebra import Vertebra

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
