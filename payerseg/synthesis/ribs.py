"""Ribs, one by one: how long each is, cut or drawn so, and what the volume shows of it in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from payerseg.domain.grid import Grid
from payerseg.domain.levels import STUMP_MM, Rib
from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.outline import OUTLINE, capsules
from payerseg.synthesis.poses import PosedVertebra
from payerseg.synthesis.torso import LEFT_RIB_IDS, RIGHT_RIB_IDS

Array = np.ndarray
SIDES = (1.0, -1.0)
"""The patient's left, then right."""
NOT_IN_VIEW = "not in view"
NO_BONE_MM = -12.7
RIB_REACH = {"T1": 0.9, "T2": 1.0, "T11": 0.62, "T12": 0.36, "T13": 0.2}
"""How far round the chest a rib goes, 1 = to its cartilage; floating ribs end early."""
RIB_RADIUS_MM = 4.2
DRAWN_BELOW_MM = 35.0
"""A torso's rib is not cut shorter than this: automatic masks lack its neck."""
LOWEST_RIB = Vertebra.L2
"""The lowest vertebra that anything is said about."""


def rib_code(vertebra: Vertebra, side: float) -> int:
    """Return the value of one rib in `Ribs.codes`."""
    return 2 * vertebra.verse_label + (side < 0)


CODE_OF_ID = np.zeros(256, np.uint8)
for _ids, _side in ((LEFT_RIB_IDS, 1.0), (RIGHT_RIB_IDS, -1.0)):
    for _k, _id in enumerate(_ids):
        CODE_OF_ID[_id] = rib_code(Vertebra(Vertebra.T1.verse_label + _k), _side)


@dataclass(frozen=True, slots=True)
class RibPlan:
    """Lengths that are asked for.

    Attributes:
        lengths_mm: left and right, from the joint; 0 = none. A vertebra not named has what is usual.
        drawn: vertebrae whose ribs are drawn from numbers even where a torso has one.
        droop: how steeply free ribs fall, down over aside.
        thickness: of ribs drawn from numbers, 1 = usual.
    """

    lengths_mm: dict[Vertebra, tuple[float, float]] = field(default_factory=dict)
    drawn: frozenset[Vertebra] = frozenset()
    droop: float = 0.3
    thickness: float = 1.0

    @classmethod
    def draw(cls, levels: list[Vertebra], rng: np.random.Generator) -> RibPlan:
        """Draw the free ribs of a spine, and now and then one where none should be."""
        lengths: dict[Vertebra, tuple[float, float]] = {}
        thirteen = Vertebra.T13 in levels
        long = thirteen or rng.random() < 0.7
        lengths[Vertebra.T12] = _pair(rng.uniform(*((65, 150) if long else (12, 70))), rng)
        if rng.random() < 0.12:
            lengths[Vertebra.T12] = _one_sided(lengths[Vertebra.T12], rng.uniform(12, 45), rng)
        if Vertebra.T12 not in levels:
            lengths[Vertebra.T12] = (0.0, 0.0)
        if thirteen:
            lengths[Vertebra.T13] = _pair(rng.uniform(10, 120), rng)
            if rng.random() < 0.25:
                lengths[Vertebra.T13] = _one_sided(lengths[Vertebra.T13], 0.0, rng)
        elif rng.random() < 0.05:
            lengths[Vertebra.L1] = _pair(rng.uniform(9, 26), rng)
            if rng.random() < 0.5:
                lengths[Vertebra.L1] = _one_sided(lengths[Vertebra.L1], 0.0, rng)
        if rng.random() < 0.03:
            lengths[Vertebra.C7] = _pair(rng.uniform(14, 50), rng)
            if rng.random() < 0.5:
                lengths[Vertebra.C7] = _one_sided(lengths[Vertebra.C7], 0.0, rng)
        drawn = {Vertebra.T12} if rng.random() < 0.5 else set()
        return cls(
            lengths, frozenset(drawn), float(rng.uniform(0.25, 0.85)), float(rng.uniform(0.65, 1.1))
        )

    def wanted_mm(self, vertebra: Vertebra) -> tuple[float | None, float | None]:
        """Return the lengths asked for, None = what is usual at the level."""
        usual = None if vertebra.name[0] == "T" else 0.0
        return self.lengths_mm.get(vertebra, (usual, usual))


def _pair(length_mm: float, rng: np.random.Generator) -> tuple[float, float]:
    return float(length_mm), float(length_mm * np.exp(rng.normal(0, 0.12)))


def _one_sided(
    pair: tuple[float, float], length_mm: float, rng: np.random.Generator
) -> tuple[float, float]:
    return (length_mm, pair[1]) if rng.random() < 0.5 else (pair[0], length_mm)


@dataclass(slots=True, eq=False)
class Ribs:
    """The ribs of a volume, while they are made and when they are asked for.

    Attributes:
        grid: where.
        bone_mm: (z, y, x) float32 signed depth of all bones that are no vertebrae; changed in place.
        codes: (z, y, x) uint8 `rib_code` of the rib that a voxel belongs to or lies beside, 0 = none.
    """

    grid: Grid
    bone_mm: Array
    codes: Array

    def make(self, posed: list[PosedVertebra], plan: RibPlan) -> None:
        """Cut, join to their vertebrae and draw ribs as planned.

        A torso's ribs are taken where they are long enough; what it lacks is drawn from numbers.
        """
        boxes = ndimage.find_objects(self.codes)
        names = {one.vertebra for one in posed}
        if {Vertebra.T11, Vertebra.L1} <= names and Vertebra.T12 not in names:
            for side in SIDES:
                self._cut(rib_code(Vertebra.T12, side), boxes, np.zeros(3), 0.0)
        for one in posed:
            vertebra = one.vertebra
            for side, wanted in zip(SIDES, plan.wanted_mm(vertebra), strict=True):
                code, joint = rib_code(vertebra, side), joint_mm(one, side)
                if wanted == 0:
                    self._cut(code, boxes, joint, 0.0)
                    continue
                if wanted is not None:
                    anew = vertebra in plan.drawn or wanted < DRAWN_BELOW_MM
                    self._cut(code, boxes, joint, 0.0 if anew else wanted)
                length, tip = self._joined(code, boxes, one, side)
                if length < min(wanted or STUMP_MM, STUMP_MM) and not self._at_face(length, tip):
                    self._cut(code, boxes, joint, 0.0)
                    self._draw(one, side, wanted, plan)

    def words(
        self, posed: list[PosedVertebra], is_seen: Callable[[Array, float], Array]
    ) -> dict[Vertebra, tuple[str, str]]:
        """Return what can be seen of the ribs of C7 to L2: left, right.

        Args:
            posed: the spine.
            is_seen: tells for (n, 3) mm and a margin in mm which points lie in the field of view.

        Returns:
            "rib", "stump" and "none" as `domain.levels.Rib` says, or `NOT_IN_VIEW`.
        """
        boxes = ndimage.find_objects(self.codes)
        return {
            one.vertebra: (
                self._word(one, SIDES[0], boxes, is_seen),
                self._word(one, SIDES[1], boxes, is_seen),
            )
            for one in posed
            if Vertebra.C7.rank <= one.vertebra.rank <= LOWEST_RIB.rank
        }

    def _word(self, one: PosedVertebra, side: float, boxes: list, is_seen: Callable) -> str:
        joint = joint_mm(one, side)
        points = self._points(rib_code(one.vertebra, side), boxes)
        length, tip = reach_mm(points[is_seen(points, 0.0)], joint)
        if length >= STUMP_MM:
            return Rib.RIB.name.lower()
        aside = joint + np.array([side * 25.0, 8.0, 0.0]) @ one.axes
        if not np.all(is_seen(np.array([joint, aside, tip]), 5.0)):
            return NOT_IN_VIEW
        return (Rib.STUMP if length > 0 else Rib.NONE).name.lower()

    def _points(self, code: int, boxes: list) -> Array:
        """Return (n, 3) mm of a rib's bone."""
        box = boxes[code - 1] if code <= len(boxes) else None
        if box is None:
            return np.empty((0, 3))
        at = np.argwhere((self.codes[box] == code) & (self.bone_mm[box] > 0))
        return self.grid.map_indices_to_world(at + [s.start for s in box])

    def _cut(self, code: int, boxes: list, joint: Array, length_mm: float) -> None:
        """Take a rib away beyond a distance from its joint."""
        box = boxes[code - 1] if code <= len(boxes) else None
        if box is None:
            return
        at = np.argwhere(self.codes[box] == code) + [s.start for s in box]
        far = np.linalg.norm(self.grid.map_indices_to_world(at) - joint, axis=1)
        gone = tuple(at[(far > length_mm) | (length_mm == 0)].T)
        self.bone_mm[gone] = NO_BONE_MM
        self.codes[gone] = 0

    def _at_face(self, length_mm: float, tip_mm: Array) -> bool:
        """Tell whether it is the volume's face that ends a rib."""
        index = self.grid.map_world_to_indices(tip_mm[None])[0]
        room = np.minimum(index, np.array(self.grid.shape) - 1 - index)
        return length_mm > 0 and bool(np.any(room * self.grid.spacing_mm[::-1] < 9.0))

    def _joined(
        self, code: int, boxes: list, one: PosedVertebra, side: float
    ) -> tuple[float, Array]:
        """Grow a neck and head onto a rib that ends short of its vertebra; return length and tip.

        Automatic rib masks stop 5-10 mm before the joint, and another spine's joints lie elsewhere.
        """
        half, size = one.half_size_mm, float(one.scale.mean())
        local = np.array([
            (side * (half[0] - 0.5), 0.75 * half[1], 0.55 * half[2]),
            (side * (half[0] + 9 * size), half[1] + 8 * size, 0.5 * half[2]),
            (side * (half[0] + 24 * size), half[1] + 15 * size, 0.2 * half[2]),
        ])  # fmt: skip
        start, neck, tubercle = one.center_mm + local @ one.axes
        points = self._points(code, boxes)
        far = np.linalg.norm(points - tubercle, axis=1)
        if not len(points) or far.min() > 22.0 * size:
            return 0.0, start
        path = _resampled(np.array([start, neck, points[int(np.argmin(far))]]), 7)
        capsules(self.bone_mm, self.grid, path, np.linspace(3.2, 4.4, 7) * size)
        self._mark(path, code)
        return reach_mm(points, start, 40.0)

    def _draw(self, one: PosedVertebra, side: float, wanted: float | None, plan: RibPlan) -> None:
        """Draw a rib from numbers, from the costovertebral joint around the chest."""
        path = _path(one, side, plan.droop)
        arc = _arc(path)
        length = wanted if wanted is not None else RIB_REACH.get(one.vertebra.name, 1.0) * arc[-1]
        at = np.linspace(0, min(length, arc[-1]), max(4, round(length / 8)))
        path = np.stack([np.interp(at, arc, path[:, k]) for k in range(3)], axis=1)
        size = RIB_RADIUS_MM * float(one.scale.mean())
        if one.vertebra.name in ("T12", "T13", "L1", "C7"):
            size *= plan.thickness
        radius = size * np.interp(np.arange(len(at)), [0, 2, len(at)], [0.8, 1.0, 1.05])
        capsules(self.bone_mm, self.grid, path, radius)
        self._mark(path, rib_code(one.vertebra, side))

    def _mark(self, path_mm: Array, code: int) -> None:
        """Give the voxels along a path a rib's code."""
        arc = _arc(path_mm)
        at = np.arange(0, arc[-1] + 1.0, 1.0)
        points = np.stack([np.interp(at, arc, path_mm[:, k]) for k in range(3)], axis=1)
        index = np.rint(self.grid.map_world_to_indices(points)).astype(int)
        index = index[np.all((index >= 0) & (index < self.grid.shape), axis=1)]
        self.codes[tuple(index.T)] = code


def joint_mm(one: PosedVertebra, side: float) -> Array:
    """Return where the head of a rib meets its vertebra."""
    half = one.half_size_mm
    local = np.array([side * (half[0] - 1), 0.75 * half[1], 0.55 * half[2]])
    return one.center_mm + local @ one.axes


def reach_mm(points_mm: Array, joint: Array, first_gap_mm: float = 25.0) -> tuple[float, Array]:
    """Return how far a rib reaches from its joint without a gap, and where that is.

    A rib that begins farther away than `first_gap_mm` is not this vertebra's: (0, joint).
    """
    far = np.linalg.norm(points_mm - joint, axis=1)
    order = np.argsort(far)
    if not len(far) or far[order[0]] > first_gap_mm:
        return 0.0, joint
    gaps = np.flatnonzero(np.diff(far[order]) > 12.0)
    last = order[gaps[0] if len(gaps) else -1]
    return float(far[last]), points_mm[last]


def _path(one: PosedVertebra, side: float, droop: float) -> Array:
    """Return (n, 3) mm along the whole way a rib can go; free ribs fall more steeply."""
    half, size = one.half_size_mm, float(one.scale.mean())
    if one.vertebra is Vertebra.C7:
        path = np.array([
            (half[0] - 1, 0.75 * half[1], 0.2 * half[2]), (half[0] + 12 * size, half[1] + 5 * size, 0.0),
            (half[0] + 24 * size, half[1] - 2 * size, -8 * size),
            (half[0] + 34 * size, -12 * size, -24 * size),
        ])  # fmt: skip
    else:
        level = one.vertebra.verse_label - 1.0 if one.vertebra is not Vertebra.T13 else 18.6
        wide, front, rear = (
            np.interp(level, OUTLINE[:, 0], OUTLINE[:, k]) * size for k in (1, 2, 3)
        )
        chest = wide * np.interp(level, [7, 9, 12, 16], [0.38, 0.60, 0.84, 0.88]) - 4 * size
        front = -front + 22 * size
        rear = min(rear - 24 * size, half[1] + 38 * size)
        drop = np.interp(level, [7, 9, 13, 17], [26, 45, 78, 95]) * size
        path = np.array([
            (half[0] - 1, 0.75 * half[1], 0.55 * half[2]),
            (half[0] + 9 * size, half[1] + 8 * size, 0.55 * half[2]),
            (half[0] + 22 * size, half[1] + 15 * size, 0.3 * half[2]),
            (0.62 * chest, rear, -0.10 * drop), (0.90 * chest, 0.6 * rear, -0.25 * drop),
            (chest, 0.2 * front, -0.48 * drop), (0.93 * chest, 0.6 * front, -0.72 * drop),
            (0.68 * chest, 0.92 * front, -0.92 * drop), (0.42 * chest, front, -drop),
        ])  # fmt: skip
        if level > 17.5:
            path[:, 2] -= droop * np.maximum(path[:, 0] - path[1, 0], 0)
    fine = _resampled(path, 22)
    # At the joint the rib follows the vertebra's own tilt, further out the body's.
    near = np.exp(-np.linalg.norm(fine[:, :2], axis=1) / 45.0)[:, None]
    local = fine * (side, 1.0, 1.0)
    return one.center_mm + near * (local @ one.axes) + (1 - near) * local


def _arc(path: Array) -> Array:
    return np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])


def _resampled(path: Array, count: int) -> Array:
    """Return `count` points along a polyline at even arc length, corners rounded a little."""
    arc = _arc(path)
    at = np.linspace(0, arc[-1], count)
    out = np.stack([np.interp(at, arc, path[:, k]) for k in range(3)], axis=1)
    out[1:-1] = (out[:-2] + 2 * out[1:-1] + out[2:]) / 4
    return out
