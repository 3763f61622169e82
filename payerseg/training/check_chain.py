"""Checks of vertebra positions: their order, their distances, their place in the image.

Each yields (severity, code, message) rows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.postprocess.spine_graph import SpinePrior

Row = tuple[str, str, str]

SAME_PLACE_MM = 6.0
TOO_FAR, TOO_NEAR = 1.55, 0.55
"""A distance above or below this part of the expected one says that the numbering is off.

Within one spine the ratio of neighbouring distances stays within 0.71 and 1.34 (1 % and 99 %)."""
_OPTIONAL = {Vertebra.T13, Vertebra.T12, Vertebra.L6}


def chain_findings(landmarks: Landmarks, grid: Grid) -> Iterator[Row]:
    """Check the marks of one scan."""
    if not landmarks:
        yield "warning", "no_landmarks", "the position file holds no vertebra"
        return
    yield from _place_findings(landmarks, grid)
    yield from order_findings(landmarks)
    yield from step_findings(landmarks)


def _place_findings(landmarks: Landmarks, grid: Grid) -> Iterator[Row]:
    inside = grid.contains(landmarks.positions_mm)
    outside = [v.name for v, here in zip(landmarks, inside, strict=True) if not here]
    if not outside:
        return
    hint = ""
    if np.all(grid.contains(landmarks.positions_mm * (-1, -1, 1))):
        hint = "; read as RAS mm all lie inside: use --csv_space ras_mm"
    else:
        as_voxels = grid.map_indices_to_world(landmarks.positions_mm[:, ::-1])
        if np.all(grid.contains(as_voxels)):
            hint = "; read as voxel indices all lie inside: use --csv_space voxel"
    yield (
        "error",
        "landmark_outside_image",
        f"{', '.join(outside)} lie outside the image{hint}",
    )


def order_findings(landmarks: Landmarks) -> Iterator[Row]:
    """Head to foot must go down, and steadily: a chain that runs up is mirrored."""
    points = landmarks.positions_mm
    if len(points) < 2:
        return
    steps = np.diff(points, axis=0)
    overall = points[-1] - points[0]
    if overall[2] > 0 and abs(overall[2]) > 0.5 * np.linalg.norm(overall):
        yield (
            "error",
            "mirrored_head_foot",
            (
                f"{next(iter(landmarks)).name} lies {overall[2]:.0f} mm below "
                f"{list(landmarks)[-1].name}; the marks or the image are upside down"
            ),
        )
        return
    names = list(landmarks)
    for k, step in enumerate(steps):
        if len(steps) > 1 and step @ overall < 0:
            yield (
                "error",
                "order",
                f"{names[k + 1].name} lies above {names[k].name}; are the two exchanged?",
            )


def step_findings(landmarks: Landmarks) -> Iterator[Row]:
    """Compare each distance to the next mark with what people have between those two levels."""
    steps = list(pairwise(landmarks.values()))
    expected = [expected_distance_mm(a.vertebra, b.vertebra) for a, b in steps]
    found = [_distance_mm(a, b) for a, b in steps]
    scale = _body_size(found, expected)
    for (a, b), distance, usual in zip(steps, found, expected, strict=True):
        pair = f"{a.vertebra.name} and {b.vertebra.name}"
        between = levels_between(a.vertebra, b.vertebra)
        if distance < SAME_PLACE_MM:
            yield (
                "error",
                "doubled_level",
                f"{pair} lie {distance:.0f} mm apart: one vertebra twice",
            )
        elif between and distance < TOO_FAR * scale * one_step_mm(a.vertebra):
            yield (
                "error",
                "skipped_level",
                (
                    f"{pair} lie {distance:.0f} mm apart, one step, but "
                    f"{', '.join(v.name for v in between)} would lie between: the numbering jumps"
                ),
            )
        elif between:
            yield (
                "warning",
                "unmarked_between",
                f"{', '.join(v.name for v in between)} between {pair} has no mark",
            )
        elif distance > TOO_FAR * scale * usual:
            yield (
                "warning",
                "unmarked_between",
                (
                    f"{pair} lie {distance:.0f} mm apart, expected about {scale * usual:.0f}: "
                    "is a vertebra between them left out?"
                ),
            )
        elif distance < TOO_NEAR * scale * usual:
            yield (
                "warning",
                "too_near",
                f"{pair} lie {distance:.0f} mm apart, expected about {scale * usual:.0f}",
            )


def levels_between(upper: Vertebra, lower: Vertebra) -> tuple[Vertebra, ...]:
    """Return the levels that should lie between two; those some people lack do not count."""
    between = [v for v in Vertebra if upper.rank < v.rank < lower.rank]
    return tuple(v for v in between if v not in _OPTIONAL)


def expected_distance_mm(upper: Vertebra, lower: Vertebra) -> float:
    """Return the mean distance of two levels along the chain, mm."""
    chain = [upper, *levels_between(upper, lower), lower]
    return sum(one_step_mm(a) for a in chain[:-1])


def one_step_mm(upper: Vertebra) -> float:
    """Return the mean distance from a vertebra to the next lower one."""
    return _steps_mm()[upper]


@functools.cache
def _steps_mm() -> dict[Vertebra, float]:
    prior = SpinePrior.default()
    out = {}
    for vertebra in Vertebra:
        followers = prior.followers(vertebra)
        if followers:
            out[vertebra] = max(followers, key=lambda edge: edge.probability).distance_mm
    last = out[Vertebra.L4]
    return {v: out.get(v, last) for v in Vertebra}


def _body_size(found: list[float], expected: list[float]) -> float:
    """Return this body's size against the mean: the median ratio, kept within human bounds."""
    if len(found) < 3:
        return 1.0
    return float(np.clip(np.median(np.array(found) / np.array(expected)), 0.5, 1.3))


def _distance_mm(a: Landmark, b: Landmark) -> float:
    return float(np.linalg.norm(np.subtract(a.position_mm, b.position_mm)))
