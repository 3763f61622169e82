"""Where each vertebra stands: poses as scanned, or along a curve of the landmark statistics.

A pose moves a whole vertebra rigidly (plus scale and, if wanted, a fracture), so nothing can tear;
neighbours that would overlap are parted where they are drawn (bones.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.shapes import VertebraShape

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


MOST_BEND_DEG = 9.0


@dataclass(frozen=True, slots=True)
class Fracture:
    """Loss of body height.

    Attributes:
        kind: "wedge" (front), "biconcave" (middle) or "crush" (all).
        loss: share of the height lost where it is lowest, 0..0.6.
    """

    kind: str
    loss: float

    def height(self, back: Array, left: Array, half_size_mm: Array | list[float]) -> Array:
        """Return the remaining share of the height at (back, left) mm from the body's centre."""
        half_left, half_back = float(half_size_mm[0]), float(half_size_mm[1])
        if self.kind == "wedge":
            front = np.clip(0.5 - back / (2 * half_back), 0, 1)
            low = self.loss * front
        elif self.kind == "biconcave":
            low = self.loss * np.clip(1 - (back / half_back) ** 2 - (left / half_left) ** 2, 0, 1)
        else:
            low = np.full(np.broadcast(back, left).shape, self.loss)
        behind = np.clip((back - 0.8 * half_back) / (0.9 * half_back), 0, 1)
        return 1 - low * (1 - behind * behind * (3 - 2 * behind))


@dataclass(frozen=True, slots=True)
class Spur:
    """An osteophyte: a lip of bone on the rim of an endplate.

    Attributes:
        angle_rad: direction on the rim, 0 = left, pi/2 = back, -pi/2 = front.
        top: on the upper endplate, else on the lower one.
        size_mm: radius of the lip.
    """

    angle_rad: float
    top: bool
    size_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class PosedVertebra:
    """One vertebra in the scan to be drawn.

    Attributes:
        vertebra: the name it gets (not always the level its shape was measured at).
        shape: the shape.
        center_mm: body centre, LPS.
        axes: (3, 3), rows left, back, up.
        scale: stretch along left, back, up.
        fracture: height loss, if any.
        spurs: osteophytes.
        fused_below: whether bone takes the place of the disc below.
        sacral_wings: whether its left and right transverse process has grown onto the sacrum.
    """

    vertebra: Vertebra
    shape: VertebraShape
    center_mm: Array
    axes: Array
    scale: Array = field(default_factory=lambda: np.ones(3))
    fracture: Fracture | None = None
    spurs: tuple[Spur, ...] = ()
    fused_below: bool = False
    sacral_wings: tuple[bool, bool] = (False, False)

    @property
    def half_size_mm(self) -> Array:
        """Half extents of the (unbroken) body to the left, back and up."""
        return self.shape.body.half_size_mm * self.scale

    @property
    def canal_mm(self) -> Array:
        """The canal's centre at this level, LPS."""
        local = self.shape.body.axes @ (self.shape.body.canal_mm - self.shape.body.center_mm)
        return self.center_mm + (local * self.scale) @ self.axes

    @property
    def landmark_mm(self) -> Array:
        """The centre of the body as it is, after a fracture (the lower endplate stays)."""
        if self.fracture is None:
            return self.center_mm
        half = self.half_size_mm
        height = float(self.fracture.height(np.zeros(1), np.zeros(1), half)[0])
        return self.center_mm - (1 - height) * half[2] * self.axes[2]

    def moved(self, center_mm: Array, turn: Array | None = None) -> PosedVertebra:
        """Return it at another place, its axes turned by a world rotation."""
        axes = self.axes if turn is None else self.axes @ turn.T
        return replace(self, center_mm=np.asarray(center_mm, float), axes=axes)


def rotation(vector_rad: Array) -> Array:
    """Return the (3, 3) rotation about a vector by its length (Rodrigues)."""
    angle = float(np.linalg.norm(vector_rad))
    if angle < 1e-9:
        return np.eye(3)
    x, y, z = np.asarray(vector_rad) / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


@dataclass(frozen=True, slots=True)
class JointTurns:
    """Small rotations at every joint, head to foot (radians, one row per joint: x, y, z)."""

    vectors_rad: Array

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator, spread_deg: float = 2.0) -> JointTurns:
        """Draw smooth random bends: neighbours bend alike, plus a little of their own."""
        nodes = rng.normal(0, 1, (max(2, count // 5 + 2), 3)) * (1.0, 0.6, 0.6)
        at = np.linspace(0, len(nodes) - 1, max(count, 1))
        smooth = np.stack([np.interp(at, range(len(nodes)), nodes[:, k]) for k in range(3)], 1)
        smooth -= 0.8 * smooth.mean(axis=0)
        own = rng.normal(0, 0.35, (max(count, 1), 3))
        return cls(np.deg2rad(spread_deg) * (smooth + own))


@dataclass(frozen=True, slots=True, eq=False)
class Pick:
    """A shape chosen for a vertebra, and the scale at which its person is drawn."""

    vertebra: Vertebra
    shape: VertebraShape
    scale: float = 1.0
    fracture: Fracture | None = None
    fused_below: bool = False


def chain(
    picks: list[Pick], turns: JointTurns, frames: list[Array] | None = None
) -> list[PosedVertebra]:
    """Stand vertebrae one below the other, each joint bent a little.

    Neighbours from one person keep that person's joint; where persons change, canals are aligned
    and bodies stand one disc apart.

    Args:
        picks: head to foot.
        turns: one rotation per joint, applied in the disc.
        frames: wanted axes of every vertebra (before `turns`); each joint gives up to
            `MOST_BEND_DEG` to get there. Without them the first keeps its own and the rest follows.
    """
    first = picks[0]
    axes = first.shape.body.axes if frames is None else frames[0]
    posed = [_posed(first, np.zeros(3), axes)]
    for index, (upper, lower) in enumerate(pairwise(picks)):
        above = posed[-1]
        offset, relative = _joint(upper, lower)
        bend = rotation(turns.vectors_rad[index % len(turns.vectors_rad)])
        if frames is not None:
            bend = bend @ _towards(relative @ above.axes, frames[index + 1])
        down = offset @ above.axes
        share = _disc_share(upper, lower)
        center = above.center_mm + share * down + (1 - share) * (bend @ down)
        posed.append(_posed(lower, center, relative @ above.axes @ bend.T))
    return posed


def _posed(pick: Pick, center_mm: Array, axes: Array) -> PosedVertebra:
    scale = np.full(3, pick.scale)
    return PosedVertebra(
        pick.vertebra, pick.shape, center_mm, axes, scale, pick.fracture, (), pick.fused_below
    )


def _towards(axes: Array, wanted: Array) -> Array:
    """Return the world rotation that brings axes (rows) to wanted ones, `MOST_BEND_DEG` at most."""
    full = wanted.T @ axes
    angle = float(np.arccos(np.clip((np.trace(full) - 1) / 2, -1, 1)))
    if angle < 1e-6:
        return np.eye(3)
    vector = np.array([full[2, 1] - full[1, 2], full[0, 2] - full[2, 0], full[1, 0] - full[0, 1]])
    return rotation(vector / np.linalg.norm(vector) * min(angle, np.deg2rad(MOST_BEND_DEG)))


def _joint(upper: Pick, lower: Pick) -> tuple[Array, Array]:
    """Return the offset (in the upper one's axes, mm) and the lower one's axes in the upper's."""
    a, b = upper.shape, lower.shape
    if a.source == b.source and b.vertebra.rank == a.vertebra.rank + 1 + (
        a.vertebra is Vertebra.T12
    ):
        scale = (upper.scale + lower.scale) / 2
        offset = a.body.axes @ (b.body.center_mm - a.body.center_mm) * scale
        relative = b.body.axes @ a.body.axes.T
    else:
        offset = _stranger_offset(upper, lower)
        relative = np.eye(3)
    if lower.fracture is not None:
        half = lower.shape.body.half_size_mm * lower.scale
        height = lower.fracture.height(np.zeros(1), np.zeros(1), half)[0]
        offset = offset + np.array([0.0, 0.0, 2 * half[2] * (1 - height)])
    if upper.fused_below:
        offset = offset + np.array([0.0, 0.0, 0.75 * disc_mm(lower.vertebra) * lower.scale])
    return offset, relative


def _stranger_offset(upper: Pick, lower: Pick) -> Array:
    """Return the offset between vertebrae of different persons: canals in line, one disc apart."""
    canals, heights = [], []
    for pick in (upper, lower):
        body = pick.shape.body
        local = body.axes @ (body.canal_mm - body.center_mm) * pick.scale
        canals.append(local[1])
        heights.append(body.half_size_mm[2] * pick.scale)
    down = heights[0] + heights[1] + disc_mm(lower.vertebra) * (upper.scale + lower.scale) / 2
    if upper.vertebra is Vertebra.C1:
        down = 20.0 * (upper.scale + lower.scale) / 2
    return np.array([0.0, canals[0] - canals[1], -down])


def _disc_share(upper: Pick, lower: Pick) -> float:
    a = upper.shape.body.half_size_mm[2] * upper.scale
    b = lower.shape.body.half_size_mm[2] * lower.scale
    return float(a / (a + b))


def disc_mm(lower: Vertebra) -> float:
    """Return a usual height of the disc above a vertebra (rounded from textbook ranges)."""
    table = {Vertebra.C1: 4.0, Vertebra.C7: 5.0, Vertebra.T1: 5.0, Vertebra.T6: 4.0,
             Vertebra.T11: 5.5, Vertebra.L1: 7.5, Vertebra.L4: 9.5, Vertebra.L5: 8.5,
             Vertebra.L6: 5.0}  # fmt: skip
    ranks = [v.rank for v in table]
    return float(np.interp(lower.rank, ranks, list(table.values())))
