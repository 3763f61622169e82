"""Everything around the vertebrae: one tissue per voxel, and the depth of all other bones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.synthesis.noise import smooth_field
from payerseg.synthesis.outline import NECK, TRUNK, draw_tubes, jittered, outline_depth
from payerseg.synthesis.poses import PosedVertebra, disc_mm
from payerseg.synthesis.shapes import DEPTH_STEP_MM
from payerseg.synthesis.spine_axis import SpineAxis
from payerseg.synthesis.tissues import Patient, Tissue
from payerseg.synthesis.torso import TorsoAtlas, TorsoView

Array = np.ndarray
SKIN_MM = 2.0
WALL_MM = 13.0
"""Muscles of chest and belly wall below the fascia."""
NECK_BELOW_LEVEL = 6.8
CANAL_HALF_MM = np.array([
    # level, half width, half depth of the thecal sac with its fat
    (-1.0, 15.0, 14.0), (0.0, 14.0, 12.0), (1.0, 11.5, 9.0), (5.0, 11.5, 7.5), (8.0, 9.0, 7.5), (14.0, 8.0, 7.8),
    (18.0, 9.5, 8.5), (21.0, 10.5, 8.5), (23.0, 11.5, 8.5), (25.0, 10.0, 6.0),
])  # fmt: skip


@dataclass(slots=True, eq=False)
class Surroundings:
    """Soft tissue and other bones on a grid.

    Attributes:
        tissue: (z, y, x) uint8 ids of tissues.py.
        bone_mm: (z, y, x) float32 signed depth of bones that are no vertebrae.
    """

    tissue: Array
    bone_mm: Array


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What surroundings are made from.

    Attributes:
        torsos: torsos to carry around the spine; for each slice the first that reaches it counts.
        patient: fat and muscle.
        widen: stretch of the torso in the plane.
    """

    torsos: tuple[TorsoAtlas, ...]
    patient: Patient
    widen: float = 1.0


def surround(
    grid: Grid, axis: SpineAxis, posed: list[PosedVertebra], context: Context, rng: np.random.Generator
) -> Surroundings:
    """Fill a grid with tissue around posed vertebrae (which are drawn on top later)."""
    tissue = np.full(grid.shape, int(Tissue.AIR), np.uint8)
    bone = np.full(grid.shape, -12.7, np.float32)
    views = [(t, TorsoView.onto(t, grid, axis, context.widen)) for t in context.torsos]
    neck, trunk = jittered(NECK, rng), jittered(TRUNK, rng)
    z = grid.origin_mm[2] + grid.spacing_mm[2] * np.arange(grid.shape[0])
    y = grid.origin_mm[1] + grid.spacing_mm[1] * np.arange(grid.shape[1])
    x = grid.origin_mm[0] + grid.spacing_mm[0] * np.arange(grid.shape[2])
    center_x, center_y = axis.center_at(z)
    levels = axis.level_at(z)
    for k, level in enumerate(levels):
        left, back = x - center_x[k], y - center_y[k]
        view = next((v for t, v in views if _reaches(t, level) and t.has_organs), None)
        if view is not None:
            tissue[k] = _torso_slice(view, k, (left, back), context.patient)
        else:
            tissue[k] = _numbers_slice(level, (left, back), axis.scale, context.patient)
        own = neck if level < NECK_BELOW_LEVEL else () if view is not None else trunk
        draw_tubes(tissue[k], level, (left, back), own, axis.scale)
        bones = next((v for t, v in views if _reaches(t, level)), None)
        if bones is not None:
            bone[k] = bones.linear(bones.atlas.bone, k, -127) * np.float32(DEPTH_STEP_MM)
    _add_canal(tissue, grid, axis, posed)
    for upper, lower in zip(posed[:-1], posed[1:], strict=True):
        _add_disc(tissue, grid, upper, lower)
    _marble_muscles(tissue, grid, context.patient, rng)
    return Surroundings(tissue, bone)


def _reaches(torso: TorsoAtlas, level: float) -> bool:
    low, high = torso.level_span
    return low <= level <= high


def _torso_slice(view: TorsoView, k: int, axes_mm: tuple[Array, Array], patient: Patient) -> Array:
    """Return tissue ids of one slice of a torso: labels where there are any, layers elsewhere."""
    left, back = axes_mm
    depth = view.linear(view.atlas.hull, k, -127)
    plane = _layers(depth, patient)
    behind = (back[:, None] > 2) & (np.abs(left)[None, :] < 95) & (depth > 0)
    plane[behind] = Tissue.MUSCLE
    ids = view.nearest(view.atlas.tissue, k, 0)
    np.copyto(plane, ids, where=ids > 0)
    return plane


def _numbers_slice(level: float, axes_mm: tuple[Array, Array], scale: float, patient: Patient) -> Array:
    """Return layers of the outline from numbers alone."""
    left, back = axes_mm
    depth = scale * outline_depth(level, left[None, :] / scale, back[:, None] / scale, patient.fat_mm)
    plane = _layers(depth, patient)
    if level < NECK_BELOW_LEVEL:
        plane[depth > 0] = Tissue.FAT if level > -0.7 else Tissue.BRAIN
        if level > -0.7:
            plane[(depth > 4) & (back[:, None] > 6)] = Tissue.MUSCLE
            plane[(depth > 0) & (depth < 4) & (back[:, None] > 0)] = Tissue.MUSCLE
    else:
        plane[(depth > 0) & (back[:, None] > 4)] = Tissue.MUSCLE
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
        half = [np.interp(level, CANAL_HALF_MM[:, 0], CANAL_HALF_MM[:, j]) * axis.scale for j in (1, 2)]
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
    slope = [(values[1] - values[0]) / max(z[1] - z[0], 5.0), (values[-1] - values[-2]) / max(z[-1] - z[-2], 5.0)]
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
        (np.arange(s.start, s.stop) * grid.spacing_mm[2 - j] + grid.origin_mm[2 - j] - center[2 - j])
        for j, s in enumerate(box)
    ]
    z, y, x = at[0][:, None, None], at[1][None, :, None], at[2][None, None, :]
    left, back, height = (axes[j, 0] * x + axes[j, 1] * y + axes[j, 2] * z for j in range(3))
    radius = (left / half[0]) ** 2 + (back / half[1]) ** 2
    inside = (radius <= 1) & (np.abs(height) <= gap / 2 + 4)
    tissue[box][inside] = Tissue.ANNULUS
    tissue[box][inside & ((left / half[0]) ** 2 + ((back - 0.1) / half[1]) ** 2 < 0.45)] = Tissue.NUCLEUS


def _marble_muscles(tissue: Array, grid: Grid, patient: Patient, rng: np.random.Generator) -> None:
    """Draw fat planes between muscles and fat streaks in them; strands in the inner fat."""
    spacing = grid.spacing_mm[::-1]
    muscle = tissue == Tissue.MUSCLE
    bundles = smooth_field(grid.shape, spacing, (28.0, 11.0, 11.0), rng)
    tissue[muscle & (np.abs(bundles) < 0.05 + 0.12 * patient.muscle_fat)] = Tissue.FAT
    streaks = smooth_field(grid.shape, spacing, (9.0, 2.6, 2.6), rng)
    muscle |= np.isin(tissue, list(range(80, 90)))
    limit = float(np.quantile(streaks[::7, ::7, ::7], 1 - 0.55 * patient.muscle_fat - 0.01))
    tissue[muscle & (streaks > limit)] = Tissue.FAT
    inner = tissue == Tissue.VISCERAL
    tissue[inner & (bundles > 0.9) & (streaks > -0.3)] = Tissue.MUSCLE
