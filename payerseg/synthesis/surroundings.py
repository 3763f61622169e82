"""Everything around the vertebrae: one tissue per voxel, and the depth of all other bones."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.synthesis.outline import (
    NECK,
    TRUNK,
    capsules,
    draw_skeleton,
    draw_tubes,
    jittered,
    outline_depth,
)
from payerseg.synthesis.poses import PosedVertebra, disc_mm
from payerseg.synthesis.ribs import CODE_OF_ID, NO_BONE_MM, RibPlan, Ribs
from payerseg.synthesis.scanner import smooth_field
from payerseg.synthesis.shapes import DEPTH_STEP_MM
from payerseg.synthesis.spine_axis import SpineAxis
from payerseg.synthesis.tissues import LUNG_IDS, Patient, Tissue
from payerseg.synthesis.torso import CARTILAGE_ID, TorsoAtlas, TorsoView

Array = np.ndarray
SKIN_MM = 2.0
WALL_MM = 13.0
"""Muscles of chest and belly wall below the fascia."""
NECK_BELOW_LEVEL = 6.8
CANAL_HALF_MM = np.array([
    # level, half width, half depth of the thecal sac with its fat
    (-1.0, 15.0, 14.0), (0.0, 14.0, 12.0), (1.0, 11.5, 9.0), (5.0, 11.5, 7.5), (8.0, 9.0, 7.5),
    (14.0, 8.0, 7.8), (18.0, 9.5, 8.5), (21.0, 10.5, 8.5), (23.0, 11.5, 8.5), (25.0, 10.0, 6.0),
])  # fmt: skip


@dataclass(slots=True, eq=False)
class Surroundings:
    """Soft tissue and other bones on a grid.

    Attributes:
        tissue: (z, y, x) uint8 ids of `tissues`.
        bone_mm: (z, y, x) float32 signed depth of bones that are no vertebrae.
        ribs: which of them is which rib.
        s1_mm: centre of the first sacral body (it may lie outside the grid), None without a sacrum.
    """

    tissue: Array
    bone_mm: Array
    ribs: Ribs
    s1_mm: Array | None


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What surroundings are made from.

    Attributes:
        torsos: torsos to carry around the spine; for each slice the first that reaches it counts.
        patient: fat and muscle.
        widen: stretch of the torso in the plane.
        ribs: how long ribs are.
        organ_shift: levels by which organs lie too high, evenly spaced from C7 to the sacrum.
        raised_mm: how much nearer than usual the sacrum stands.
    """

    torsos: tuple[TorsoAtlas, ...]
    patient: Patient
    widen: float = 1.0
    ribs: RibPlan = field(default_factory=RibPlan)
    organ_shift: tuple[float, ...] = (0.0, 0.0)
    raised_mm: float = 0.0

    @classmethod
    def draw(
        cls, torsos: tuple[TorsoAtlas, ...], patient: Patient, posed: list[PosedVertebra],
        rng: np.random.Generator,
    ) -> Context:  # fmt: skip
        """Draw a body: organs are no clock, they lie off by 0.7 levels (SD), smoothly along the body."""
        shift = rng.normal(0, 0.6) + rng.normal(0, 0.36, 5)
        wings = any(posed[-1].sacral_wings)
        return cls(
            torsos, patient, float(rng.uniform(0.95, 1.08)),
            RibPlan.draw([p.vertebra for p in posed], rng), tuple(np.clip(shift, -1.8, 1.8)),
            float(rng.uniform(3, 7) * posed[-1].scale.mean()) if wings else 0.0,
        )  # fmt: skip


def surround(
    grid: Grid,
    axis: SpineAxis,
    posed: list[PosedVertebra],
    context: Context,
    rng: np.random.Generator,
) -> Surroundings:
    """Fill a grid with tissue around posed vertebrae (which are drawn on top later)."""
    tissue = np.full(grid.shape, int(Tissue.AIR), np.uint8)
    bone = np.full(grid.shape, NO_BONE_MM, np.float32)
    codes = np.zeros(grid.shape, np.uint8)
    z = grid.origin_mm[2] + grid.spacing_mm[2] * np.arange(grid.shape[0])
    levels = axis.level_at(z)
    organ_axis = axis.of_organs(np.array(context.organ_shift))
    organ_levels = organ_axis.level_at(z)
    bone_axis = axis.raised_below(context.raised_mm)
    organs, skeletons = _chosen(context.torsos, levels)
    views = _Views(grid, (bone_axis, organ_axis), context.widen, organs, skeletons)
    neck, trunk = jittered(NECK, rng), jittered(TRUNK, rng)
    wobble = smooth_field(
        (grid.shape[0], 1, grid.shape[2]), grid.spacing_mm[::-1], (40, 9, 24), rng
    )
    y = grid.origin_mm[1] + grid.spacing_mm[1] * np.arange(grid.shape[1])
    x = grid.origin_mm[0] + grid.spacing_mm[0] * np.arange(grid.shape[2])
    center_x, center_y = axis.center_at(z)
    for k, level in enumerate(levels):
        left, back = x - center_x[k], y - center_y[k]
        border = 5 + 5 * wobble[k, 0] + 0.10 * np.abs(left)
        behind = back[:, None] > border[None, :]
        has_organs = views.has_organs(level, organ_levels[k])
        place = k, level, has_organs
        plane = _soft_slice(views, place, (left, back), behind, (axis.scale, context.patient))
        if level < NECK_BELOW_LEVEL:
            draw_tubes(plane, level, (left, back), neck, axis.scale)
        elif not has_organs:
            draw_tubes(plane, organ_levels[k], (left, back), trunk, axis.scale)
        tissue[k] = plane
        bones = views.bones(level)
        if bones is not None:
            bone[k] = bones.linear(bones.atlas.bone, k, -127) * np.float32(DEPTH_STEP_MM)
            codes[k] = CODE_OF_ID[bones.nearest(bones.atlas.ribs, k, 0)]
    s1 = views.s1_mm() if context.torsos else draw_skeleton(bone, grid, posed, context.raised_mm)
    ribs = Ribs(grid, bone, codes)
    ribs.make(posed, context.ribs)
    _add_canal(tissue, grid, axis, posed)
    _add_discs(tissue, bone, grid, posed)
    return Surroundings(tissue, bone, ribs, s1)


def _add_discs(tissue: Array, bone: Array, grid: Grid, posed: list[PosedVertebra]) -> None:
    """Draw the discs between neighbours, below the last lumbar vertebra, and bars of fused ones."""
    for upper, lower in pairwise(posed):
        _add_disc(tissue, grid, upper, lower)
        if upper.fused_below:
            _add_bar(bone, grid, upper, lower)
    end = posed[-1]
    if end.vertebra.name[0] == "L":
        below = (
            end.center_mm - (2 * end.half_size_mm[2] + 9 * float(end.scale.mean())) * end.axes[2]
        )
        _add_disc(tissue, grid, end, end.moved(below))


def _chosen(
    torsos: tuple[TorsoAtlas, ...], levels: Array
) -> tuple[TorsoAtlas | None, tuple[TorsoAtlas, ...]]:
    """Return the one torso whose organs are used, and all whose bones fill in where it ends."""
    trunk = levels[levels > NECK_BELOW_LEVEL]
    if not len(trunk):
        return None, torsos
    best, most = None, 0.3
    for torso in torsos:
        low, high = torso.level_span
        share = float(np.mean((trunk >= low) & (trunk <= high)))
        if torso.has_organs and share > most + 0.04:
            best, most = torso, share
    rest = tuple(t for t in torsos if t is not best)
    return best, rest if best is None else (best, *rest)


class _Views:
    """The torsos seen from the target's grid, and where each of them counts."""

    def __init__(
        self, grid: Grid, axes: tuple[SpineAxis, SpineAxis], widen: float, organs: TorsoAtlas | None,
        skeletons: tuple[TorsoAtlas, ...],
    ) -> None:  # fmt: skip
        self._all = [TorsoView.onto(t, grid, axes[0], widen) for t in skeletons]
        self.trunk = next((v for v in self._all if v.atlas is organs), None)
        self.organs = None if organs is None else TorsoView.onto(organs, grid, axes[1], widen)
        self.head = next((v for v in self._all if v.atlas.level_span[0] < -4), None)

    def has_organs(self, level: float, organ_level: float) -> bool:
        """Tell whether the torso's wall and organs reach a slice."""
        return self.organs is not None and all(
            _reaches(self.organs.atlas, value) for value in (level, organ_level)
        )

    def s1_mm(self) -> Array | None:
        """Return the centre of the first sacral body of the torso that shows it."""
        for view in self._all:
            if view.atlas.s1_mm is not None:
                at = view.carried(view.atlas.s1_mm)
                if self.bones(float(view.axis.level_at(at[2:])[0])) is view:
                    return at
        return None

    def bones(self, level: float) -> TorsoView | None:
        """Return whose bones are drawn at a level; above the neck only a skull's owner."""
        return next((v for v in self._all if _reaches(v.atlas, level)), None)

    def share(self, level: float) -> float:
        """Return the weight of the torso's outline, fading towards its upper and lower end."""
        if self.trunk is None:
            return 0.0
        low, high = self.trunk.atlas.level_span
        return float(np.clip(min((level - low) / 2.5, (high - level) / 2.0), 0, 1))


def _reaches(torso: TorsoAtlas, level: float) -> bool:
    low, high = torso.level_span
    return low <= level <= high


def _add_bar(bone: Array, grid: Grid, upper: PosedVertebra, lower: PosedVertebra) -> None:
    """Fill a disc with bone, as between fused vertebrae."""
    half = upper.half_size_mm
    middle = (upper.center_mm + lower.center_mm) / 2
    for back in (-0.5, 0.0, 0.5):
        ends = np.array([(-0.7 * half[0], back * half[1], 0), (0.7 * half[0], back * half[1], 0)])
        capsules(bone, grid, middle + ends @ upper.axes, np.full(2, 0.3 * half[1]))


def _soft_slice(
    views: _Views, place: tuple[int, float, bool], axes_mm: tuple[Array, Array], behind: Array,
    who: tuple[float, Patient],
) -> Array:  # fmt: skip
    """Return tissue ids of one slice: layers below the outline, then the torso's labels."""
    (k, level, has_organs), (left, back), (scale, patient) = place, axes_mm, who
    share = views.share(level)
    depth = 0.0
    if share < 1:
        depth = scale * outline_depth(
            level, left[None, :] / scale, back[:, None] / scale, patient.fat_mm
        )
    if views.head is not None and level < 1.5:
        top = float(np.clip((1.5 - level) / 2.0, 0, 1))
        skull = views.head.linear(views.head.atlas.hull, k, -127) - 0.5 * patient.fat_mm + 4
        depth = (1 - top) * depth + top * skull
    if share > 0:
        hull = views.trunk.linear(views.trunk.atlas.hull, k, -127)
        depth = (1 - share) * depth + share * hull
    plane = _layers(depth, patient)
    within = depth > 0
    if level < -0.7:
        plane[within] = Tissue.BRAIN
    elif level < NECK_BELOW_LEVEL:
        plane[within] = Tissue.MUSCLE
    else:
        plane[within & behind] = Tissue.MUSCLE
    if has_organs:
        ids = views.organs.nearest(views.organs.atlas.tissue, k, 0)
        # organs that lie off stay inside the wall; cartilage goes with the ribs
        room = np.where(np.isin(ids, LUNG_IDS), 8.0, -6.0)
        np.copyto(plane, ids, where=(ids > 0) & (ids != CARTILAGE_ID) & (depth > room))
        wall = views.trunk.nearest(views.trunk.atlas.tissue, k, 0)
        plane[wall == CARTILAGE_ID] = CARTILAGE_ID
    return plane


def _layers(depth: Array, patient: Patient) -> Array:
    """Return air, skin, fat, wall muscle and inner fat by depth below the fascia (mm)."""
    fat = patient.fat_mm
    bounds = [-fat - SKIN_MM, -fat, 0.0, WALL_MM]
    values = np.array(
        [Tissue.AIR, Tissue.SKIN, Tissue.FAT, Tissue.MUSCLE, Tissue.VISCERAL], np.uint8
    )
    return values[np.searchsorted(bounds, depth)]


def _add_canal(tissue: Array, grid: Grid, axis: SpineAxis, posed: list[PosedVertebra]) -> None:
    """Draw epidural fat, thecal sac and cord along the canal's centres, slice by slice."""
    points = np.array([p.canal_mm for p in posed])
    order = np.argsort(points[:, 2])
    points = points[order]
    z = grid.origin_mm[2] + grid.spacing_mm[2] * np.arange(grid.shape[0])
    y = grid.origin_mm[1] + grid.spacing_mm[1] * np.arange(grid.shape[1])
    x = grid.origin_mm[0] + grid.spacing_mm[0] * np.arange(grid.shape[2])
    centers = [_extended(z, points[:, 2], points[:, axis_]) for axis_ in (0, 1)]
    levels = axis.level_at(z)
    for k, level in enumerate(levels):
        if level < -0.8 or level > 26:
            continue
        half = [
            np.interp(level, CANAL_HALF_MM[:, 0], CANAL_HALF_MM[:, j]) * axis.scale for j in (1, 2)
        ]
        u, v = (x - centers[0][k])[None, :], (y - centers[1][k])[:, None]
        inside = (u / half[0]) ** 2 + (v / half[1]) ** 2
        plane = tissue[k]
        plane[inside <= 1] = Tissue.EPIDURAL
        sac = 0.92 if level < 18 else 0.82
        plane[(u / (sac * half[0])) ** 2 + ((v + 0.8) / (sac * half[1])) ** 2 <= 1] = Tissue.THECAL
        if level < 19.3:
            wide = 6.5 if 2.5 < level < 7 else 4.6
            plane[(u / wide) ** 2 + (v / 3.8) ** 2 <= 1] = Tissue.CORD


def _extended(at: Array, z: Array, values: Array) -> Array:
    """Interpolate along rising z; beyond the ends go on with the end's slope for 15 mm at most."""
    if len(z) < 2:
        return np.full(len(at), values[0])
    slope = [
        (values[1] - values[0]) / max(z[1] - z[0], 5.0),
        (values[-1] - values[-2]) / max(z[-1] - z[-2], 5.0),
    ]
    out = np.interp(at, z, values)
    out = out - slope[0] * np.clip(z[0] - at, 0, 15)
    return out + slope[1] * np.clip(at - z[-1], 0, 15)


def _add_disc(tissue: Array, grid: Grid, upper: PosedVertebra, lower: PosedVertebra) -> None:
    """Fill the space between two bodies with annulus and nucleus."""
    if lower.vertebra.name == "C2" or upper.vertebra.name == "C1":
        return
    down = upper.center_mm - upper.half_size_mm[2] * upper.axes[2]
    up = lower.center_mm + lower.half_size_mm[2] * lower.axes[2]
    gap = float(np.linalg.norm(down - up))
    if gap > 2.5 * disc_mm(lower.vertebra) * float(lower.scale.mean()) + 6:
        return
    center, axes = (down + up) / 2, (upper.axes + lower.axes) / 2
    half = (upper.half_size_mm + lower.half_size_mm) / 2 * 1.02
    reach = np.array([half.max() + 4, half.max() + 4, half.max() + 4])
    index = grid.map_world_to_indices(np.stack([center - reach, center + reach]))
    start = np.maximum(np.floor(index.min(axis=0)).astype(int), 0)
    stop = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1, grid.shape)
    if np.any(start >= stop):
        return
    box = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    at = [
        (
            np.arange(s.start, s.stop) * grid.spacing_mm[2 - j]
            + grid.origin_mm[2 - j]
            - center[2 - j]
        )
        for j, s in enumerate(box)
    ]
    z, y, x = at[0][:, None, None], at[1][None, :, None], at[2][None, None, :]
    left, back, height = (axes[j, 0] * x + axes[j, 1] * y + axes[j, 2] * z for j in range(3))
    radius = (left / half[0]) ** 2 + (back / half[1]) ** 2
    inside = (radius <= 1) & (np.abs(height) <= gap / 2 + 4)
    tissue[box][inside] = Tissue.ANNULUS
    tissue[box][inside & ((left / half[0]) ** 2 + ((back - 0.1) / half[1]) ** 2 < 0.45)] = (
        Tissue.NUCLEUS
    )
