"""Curves of whole spines, from the landmark statistics and the shapes of sick backs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.poses import rotation

Array = np.ndarray

BACK_OVER_UP = {
    "C1": -0.176, "C2": -0.091, "C3": -0.174, "C4": -0.250, "C5": -0.345, "C6": -0.560, "C7": -0.605,
    "T1": -0.531, "T2": -0.517, "T3": -0.408, "T4": -0.293, "T5": -0.198, "T6": -0.097, "T7": 0.011,
    "T8": 0.060, "T9": 0.120, "T10": 0.176, "T11": 0.184, "T12": 0.175, "T13": 0.175, "L1": 0.227,
    "L2": 0.181, "L3": 0.087, "L4": -0.100, "L5": -0.270, "L6": -0.400,
}  # fmt: skip
"""Mean slope of the line to the next vertebra below: back over up (VerSe 2020 landmarks, y over z)."""


@dataclass(frozen=True, slots=True)
class Curvature:
    """How one spine differs from the mean.

    Attributes:
        pitch_deg: lean of the whole spine (positive = backwards at the top).
        sagittal: factor on kyphosis and lordosis, 1 = usual.
        gibbus_deg: extra kyphosis around one level, and where.
        gibbus_level: verse label at the middle of it.
        cobb_deg: size of a sideways curve, 0 = none.
        apex: verse label at its apex.
        span: vertebrae from end to end of it.
    """

    pitch_deg: float = 0.0
    sagittal: float = 1.0
    gibbus_deg: float = 0.0
    gibbus_level: float = 17.0
    cobb_deg: float = 0.0
    apex: float = 15.0
    span: float = 9.0

    @classmethod
    def draw(cls, variant: str, rng: np.random.Generator) -> Curvature:
        """Draw a spine; "scoliosis" and "kyphosis" bend it as their names say."""
        cobb = (
            float(rng.uniform(22, 55)) if variant == "scoliosis" else abs(float(rng.normal(0, 4)))
        )
        gibbus = float(rng.uniform(20, 45)) if variant == "kyphosis" else 0.0
        return cls(
            pitch_deg=float(rng.normal(0, 5)),
            sagittal=float(np.clip(rng.normal(1.0, 0.25), 0.3, 1.7)),
            gibbus_deg=gibbus,
            gibbus_level=float(rng.uniform(13, 21)),
            cobb_deg=cobb * float(rng.choice([-1, 1])),
            apex=float(rng.uniform(13, 22)),
            span=float(rng.uniform(7, 12)),
        )

    def frames(self, vertebrae: list[Vertebra]) -> list[Array]:
        """Return wanted axes (rows left, back, up) of each vertebra."""
        slopes = np.array([np.arctan(BACK_OVER_UP[v.name]) for v in vertebrae])
        tilt = np.concatenate([slopes[:1], (slopes[1:] + slopes[:-1]) / 2])
        middle = float(tilt.mean())
        tilt = middle + (tilt - middle) * self.sagittal
        at = np.array([float(v.rank) for v in vertebrae])
        # Rank 19 is T13: below it ranks run one ahead of the labels.
        at = np.where(at > 18.5, at, at + 1)
        hump = np.tanh((at - self.gibbus_level) / 2.5) * np.deg2rad(self.gibbus_deg) / 2
        tilt = tilt + hump - np.deg2rad(self.pitch_deg)
        phase = np.clip((at - self.apex) / self.span, -1, 1) * np.pi
        bend = np.deg2rad(self.cobb_deg) / 2 * np.sin(phase)
        twist = np.deg2rad(self.cobb_deg) * 0.35 * (0.5 + 0.5 * np.cos(phase))
        return [
            _frame(float(t), float(b), float(w)) for t, b, w in zip(tilt, bend, twist, strict=True)
        ]


def _frame(tilt_rad: float, bend_rad: float, twist_rad: float) -> Array:
    """Return axes tilted front-back, bent sideways and twisted about their own height."""
    turn = rotation(np.array([0, bend_rad, 0])) @ rotation(np.array([-tilt_rad, 0, 0]))
    turn = turn @ rotation(np.array([0, 0, twist_rad]))
    return turn.T
