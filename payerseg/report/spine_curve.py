"""The curve through the vertebra centres, with a left and a back direction at every place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from payerseg.domain.landmarks import Landmarks

LEFT, BACK, UP = np.eye(3)
MIN_GAP_MM = 2.0
"""Centres closer than this to the one above do not bend the curve (a hand-made double)."""
FINE_STEPS_PER_GAP = 40


@dataclass(frozen=True, slots=True)
class SpineCurve:
    """Places along the spine from head to foot, evenly spaced.

    Attributes:
        points_mm: (n, 3) LPS.
        lefts: (n, 3) unit vectors to the patient's left, at right angles to the curve.
        backs: (n, 3) unit vectors to the back, at right angles to curve and left.
        step_mm: between neighbouring places.
    """

    points_mm: np.ndarray
    lefts: np.ndarray
    backs: np.ndarray
    step_mm: float

    def place_of(self, point_mm: tuple[float, float, float]) -> tuple[float, float, float]:
        """Return (place along the curve, mm to the left, mm to the back) of a world point."""
        offsets = np.asarray(point_mm) - self.points_mm
        k = int(np.argmin(np.linalg.norm(offsets, axis=1)))
        return float(k), float(offsets[k] @ self.lefts[k]), float(offsets[k] @ self.backs[k])


def spine_curve(landmarks: Landmarks, step_mm: float, beyond_mm: float) -> SpineCurve:
    """Lay a cubic spline through the centres, straight on beyond the first and the last.

    Args:
        landmarks: at least one; a single one gives a vertical line.
        step_mm: between places.
        beyond_mm: how far it goes on at either end.
    """
    knots = _knots(landmarks.positions_mm)
    fine = _through(knots)
    up_first, up_last = fine[0] - fine[1], fine[-1] - fine[-2]
    first = fine[0] + beyond_mm * up_first / np.linalg.norm(up_first)
    last = fine[-1] + beyond_mm * up_last / np.linalg.norm(up_last)
    line = np.concatenate([first[None], fine, last[None]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    places = np.arange(0.0, along[-1], step_mm)
    points = np.stack([np.interp(places, along, line[:, axis]) for axis in range(3)], axis=1)
    lefts, backs = _directions(points)
    return SpineCurve(points, lefts, backs, step_mm)


def _knots(positions_mm: np.ndarray) -> np.ndarray:
    kept = [positions_mm[0]]
    for position in positions_mm[1:]:
        if np.linalg.norm(position - kept[-1]) >= MIN_GAP_MM:
            kept.append(position)
    return np.array(kept)


def _through(knots: np.ndarray) -> np.ndarray:
    """(n, 3) densely along the spline; for one knot a short vertical line through it."""
    if len(knots) == 1:
        return np.array([knots[0] + UP, knots[0] - UP])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    places = np.linspace(0.0, along[-1], FINE_STEPS_PER_GAP * (len(knots) - 1) + 1)
    if len(knots) == 2:
        return knots[0] + places[:, None] / along[-1] * (knots[1] - knots[0])
    return CubicSpline(along, knots, bc_type="natural")(places)


def _directions(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left and back along the curve, as near to the world's as right angles allow."""
    downs = _unit(np.gradient(points, axis=0))
    lefts = LEFT - (downs @ LEFT)[:, None] * downs
    # A curve that runs sideways (centres gone astray) has no left of its own: any right angle will do.
    sideways = np.linalg.norm(lefts, axis=1) < 0.1
    lefts[sideways] = np.cross(downs[sideways], BACK)
    lefts = _unit(lefts)
    return lefts, np.cross(lefts, downs)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
