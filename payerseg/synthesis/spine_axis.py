"""The level a slice passes through: a map from height to "which vertebra" and back.

Levels are counted C1 = 0 ... C7 = 6, T1 = 7 ... T12 = 18, L1 = 19 ... L5 = 23; S1 would be 24. Fractions
lie between two centres. Two persons' axes together carry a torso of one around the spine of another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra

Array = np.ndarray
LEVEL_OF_T1 = 7.0
LEVEL_OF_T12 = 18.0
LEVEL_OF_L5 = 23.0
LEVEL_SPACING_MM = (
    20.0, 18.5, 15.9, 16.1, 16.1, 17.7, 18.8, 20.9, 22.2, 22.3, 22.8, 23.5, 24.0, 24.3, 24.9, 25.7,
    27.6, 29.8, 32.0, 33.4, 34.1, 33.8, 31.7, 30.6,
)  # fmt: skip
"""Mean distance from each level to the next (VerSe 2020 training landmarks; C1-C2 by our C1 point)."""


def levels_of(landmarks: Landmarks) -> dict[Vertebra, float]:
    """Return each vertebra's level; ribs decide: T13 squeezes in, L6 ends where L5 usually does.

    With L6 (or only four lumbar vertebrae are never assumed) the lumbar ones share levels 19..23
    evenly; T13 is level 18.5; a missing T12 leaves its level empty.
    """
    out: dict[Vertebra, float] = {}
    with_l6 = Vertebra.L6 in landmarks
    for vertebra in landmarks:
        if vertebra is Vertebra.T13:
            out[vertebra] = LEVEL_OF_T12 + 0.5
        elif vertebra.name[0] == "L":
            number = int(vertebra.name[1])
            step = 0.8 if with_l6 else 1.0
            out[vertebra] = 19.0 + (number - 1) * step
        else:
            out[vertebra] = float(vertebra.verse_label - 1)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class SpineAxis:
    """Knots along a spine, head to foot.

    Attributes:
        z_mm: falling heights.
        level: rising levels.
        x_mm: centres' left-right positions.
        y_mm: centres' front-back positions.
        scale: size of the person against the mean of `LEVEL_SPACING_MM`.
    """

    z_mm: Array
    level: Array
    x_mm: Array
    y_mm: Array
    scale: float

    @classmethod
    def of(cls, landmarks: Landmarks) -> SpineAxis:
        """Build the axis of one person's landmarks (at least two)."""
        table = levels_of(landmarks)
        points = np.array([landmarks[v].position_mm for v in table])
        level = np.array(list(table.values()))
        keep = [0]
        for k in range(1, len(points)):
            if points[k, 2] < points[keep[-1], 2] - 2.0:
                keep.append(k)
        points, level = points[keep], level[keep]
        usual = np.concatenate([[0.0], np.cumsum(LEVEL_SPACING_MM)])
        expected = np.interp(level, range(len(usual)), usual)
        arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        scale = float(arc[-1] / (expected[-1] - expected[0])) if len(points) > 1 else 1.0
        return cls(points[:, 2], level, points[:, 0], points[:, 1], scale)

    def level_at(self, z_mm: Array) -> Array:
        """Return the level at heights; beyond the ends it goes on by the usual spacing."""
        level = np.interp(-z_mm, -self.z_mm, self.level)
        above, below = z_mm > self.z_mm[0], z_mm < self.z_mm[-1]
        top, end = _end_step(self.level[0], self.scale), _end_step(self.level[-1], self.scale)
        level = np.where(above, self.level[0] - (z_mm - self.z_mm[0]) / top, level)
        return np.where(below, self.level[-1] + (self.z_mm[-1] - z_mm) / end, level)

    def z_at(self, level: Array) -> Array:
        """Return heights of levels: the inverse of `level_at`."""
        z = np.interp(level, self.level, self.z_mm)
        top, end = _end_step(self.level[0], self.scale), _end_step(self.level[-1], self.scale)
        z = np.where(level < self.level[0], self.z_mm[0] + (self.level[0] - level) * top, z)
        return np.where(level > self.level[-1], self.z_mm[-1] - (level - self.level[-1]) * end, z)

    def raised_below(self, by_mm: float) -> SpineAxis:
        """Return it with everything below the last knot that much nearer to it."""
        if by_mm <= 0:
            return self
        level = self.level[-1] + 0.6
        z = self.z_mm[-1] + by_mm - 0.6 * _end_step(self.level[-1], self.scale)
        return replace(
            self, z_mm=np.append(self.z_mm, z), level=np.append(self.level, level),
            x_mm=np.append(self.x_mm, self.x_mm[-1]), y_mm=np.append(self.y_mm, self.y_mm[-1]),
        )  # fmt: skip

    def of_organs(self, shift: Array) -> SpineAxis:
        """Return an axis whose levels say where organs lie, however many vertebrae there are.

        Between T1 and the last lumbar vertebra organs lie where they usually do between neck and
        pelvis, shifted by levels.

        Args:
            shift: levels by which they lie too high (positive = as usual for a vertebra further
                down), at evenly spaced levels from C7 to the sacrum. It fades towards both.
        """
        level = self.level.astype(float).copy()
        top, end = np.searchsorted(level, LEVEL_OF_T1), len(level) - 1
        if level[0] <= LEVEL_OF_T1 and level[end] >= LEVEL_OF_L5:
            usual = np.concatenate([[0.0], np.cumsum(LEVEL_SPACING_MM)])
            share = (self.z_mm[top:] - self.z_mm[top]) / (self.z_mm[end] - self.z_mm[top])
            first, last = np.interp([level[top], LEVEL_OF_L5], range(len(usual)), usual)
            level[top:] = np.interp(first + share * (last - first), usual, range(len(usual)))
        fade = np.clip((level - 6.0) / 3, 0, 1) * np.clip((24.5 - level) / 4, 0, 1)
        level += fade * np.interp(level, np.linspace(6.0, 24.0, len(shift)), shift)
        for k in range(1, len(level)):
            level[k] = max(level[k], level[k - 1] + 0.05)
        return replace(self, level=level)

    def center_at(self, z_mm: Array) -> tuple[Array, Array]:
        """Return the spine's (x, y) at heights; beyond the ends it stays where it ended."""
        order = np.argsort(self.z_mm)
        x = np.interp(z_mm, self.z_mm[order], _smooth(self.x_mm)[order])
        y = np.interp(z_mm, self.z_mm[order], _smooth(self.y_mm)[order])
        return x, y


def _end_step(level: float, scale: float) -> float:
    index = int(np.clip(round(level), 0, len(LEVEL_SPACING_MM) - 1))
    return LEVEL_SPACING_MM[index] * scale


def _smooth(values: Array) -> Array:
    """Take half of each knot's own wobble away (organs do not follow every vertebra)."""
    if len(values) < 3:
        return values
    out = values.astype(float).copy()
    out[1:-1] = 0.5 * values[1:-1] + 0.25 * (values[:-2] + values[2:])
    return out
