"""A labelled torso of a real person, carried around another spine.

A target slice looks up the torso's slice of the same level; in the plane it is shifted to the spine's
centre and scaled. Everything is separable, so a whole torso costs a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.imaging.body_centers import locate_bodies
from payerseg.synthesis.shapes import DEPTH_STEP_MM, distance_inside, whole_bodies
from payerseg.synthesis.spine_axis import SpineAxis

Array = np.ndarray
SACRUM_IDS = (25, 26)
S1_ID = 26
VERTEBRA_IDS = range(27, 51)
LEFT_RIB_IDS, RIGHT_RIB_IDS = range(92, 104), range(104, 116)
BONE_IDS = (*SACRUM_IDS, *range(69, 79), 91, *LEFT_RIB_IDS, *RIGHT_RIB_IDS, 116)
"""TotalSegmentator v2 ids of bones other than vertebrae: sacrum, shoulders, arms, hips, legs, skull, ribs,
sternum."""
ARM_IDS = (69, 70)
CARTILAGE_ID = 117
PAD_MM = 45.0
"""Room for skin and fat around a label map that was cropped to its labels."""


@dataclass(frozen=True, slots=True, eq=False)
class TorsoAtlas:
    """A torso's tissue labels, its bones' depth and the depth below its inner hull.

    Attributes:
        source: the label map it is from.
        tissue: (z, y, x) uint8 TotalSegmentator v2 ids without vertebrae and bones.
        bone: (z, y, x) int8 signed depth of all other bones, `DEPTH_STEP_MM` per unit.
        hull: (z, y, x) int8 signed depth (mm) below the hull around bones, muscles and organs.
        ribs: (z, y, x) uint8 TotalSegmentator v2 ids of ribs and of what lies within 3 mm of them.
        grid: LPS-aligned grid of all four.
        axis: the person's spine.
        has_organs: whether soft tissue is labelled (a skeleton's is not).
        s1_mm: centre of the first sacral body, None without a sacrum.
    """

    source: str
    tissue: Array
    bone: Array
    hull: Array
    ribs: Array
    grid: Grid
    axis: SpineAxis
    has_organs: bool
    s1_mm: Array | None

    @property
    def level_span(self) -> tuple[float, float]:
        """Lowest and highest level (top, bottom) inside the atlas, a little inside its faces."""
        z = self.grid.map_indices_to_world(np.array([[2, 0, 0], [self.grid.shape[0] - 3, 0, 0]]))[
            :, 2
        ]
        level = self.axis.level_at(z)
        return float(level.min()), float(level.max())


def build_torso(source: str, ids: Volume, vertebrae: Volume) -> TorsoAtlas:
    """Prepare a torso from TotalSegmentator ids and a VerSe label map of the same person.

    Args:
        source: a name.
        ids: (z, y, x) TotalSegmentator v2 ids, axes along LPS, isotropic.
        vertebrae: (z, y, x) VerSe labels of the same person, any grid.
    """
    bodies = whole_bodies(vertebrae)
    axis = SpineAxis.of(Landmarks(Landmark(v, tuple(b.center_mm)) for v, b in bodies.items()))
    pad = round(PAD_MM / ids.grid.spacing_mm[0])
    array = np.pad(ids.array, ((0, 0), (pad, pad), (pad, pad)))
    grid = ids.grid.window((0, -pad, -pad), array.shape)
    bones = np.isin(array, BONE_IDS)
    step = ids.grid.spacing_mm[::-1]
    bone = ndimage.gaussian_filter(distance_inside(bones, step), 0.5)
    tissue = np.where(bones | np.isin(array, list(VERTEBRA_IDS)), 0, array).astype(np.uint8)
    has_organs = bool(np.count_nonzero(tissue) > 0.02 * tissue.size)
    ribs = np.where(np.isin(array, (*LEFT_RIB_IDS, *RIGHT_RIB_IDS)), array, 0).astype(np.uint8)
    beside = np.where(bones, 0, ndimage.maximum_filter(ribs, 5))
    return TorsoAtlas(
        source,
        tissue,
        np.clip(np.round(bone / DEPTH_STEP_MM), -127, 127).astype(np.int8),
        _hull(array, step),
        np.where(ribs > 0, ribs, beside).astype(np.uint8),
        grid,
        axis,
        has_organs,
        _s1_center(Volume(array, grid), bodies[Vertebra.L5].center_mm)
        if Vertebra.L5 in bodies
        else None,
    )


def _s1_center(ids: Volume, l5_mm: Array) -> Array | None:
    """Return the centre of the first sacral body, found as a vertebra's in the top of the sacrum."""
    at = np.argwhere(ids.array == S1_ID)
    if not len(at):
        at = np.argwhere(ids.array == SACRUM_IDS[0])
    if not len(at):
        return None
    world = ids.grid.map_indices_to_world(at)
    top = world[:, 2] > world[:, 2].max() - 42.0
    body = np.zeros(ids.array.shape, np.uint8)
    body[tuple(at[top & (np.abs(world[:, 0] - l5_mm[0]) < 30.0)].T)] = Vertebra.L5.verse_label
    found = locate_bodies(ids.with_array(body))
    return found[Vertebra.L5].center_mm if found else None


def _hull(ids: Array, step_zyx: tuple[float, ...]) -> Array:
    """Return the int8 depth (mm) below the in-plane convex outline of everything but the arms."""
    coarse = ((ids > 0) & ~np.isin(ids, ARM_IDS))[:, ::2, ::2]
    rows, columns = np.mgrid[: coarse.shape[1], : coarse.shape[2]]
    hulls = np.zeros(coarse.shape, bool)
    for plane, out in zip(coarse, hulls, strict=True):
        points = np.argwhere(plane)
        if len(points) < 20 or np.any(np.ptp(points, axis=0) < 3):
            continue
        for a, b, c in ConvexHull(points).equations:
            np.logical_or(out, a * rows + b * columns + c > 1e-6, out=out)
        np.logical_not(out, out=out)
    step = (step_zyx[0], 2 * step_zyx[1], 2 * step_zyx[2])
    depth = ndimage.gaussian_filter(distance_inside(hulls, step), (3.0, 1.5, 1.5))
    depth = np.repeat(np.repeat(depth, 2, axis=1), 2, axis=2)[:, : ids.shape[1], : ids.shape[2]]
    return np.clip(depth, -127, 127).astype(np.int8)


@dataclass(frozen=True, slots=True, eq=False)
class TorsoView:
    """An atlas seen from a target's grid: slice by slice nearest or linear samples."""

    atlas: TorsoAtlas
    axis: SpineAxis
    scale: float
    plane_z: Array
    rows_y: Array
    columns_x: Array

    @classmethod
    def onto(cls, atlas: TorsoAtlas, grid: Grid, axis: SpineAxis, widen: float) -> TorsoView:
        """Match slices by level and centre; `widen` stretches the torso in the plane."""
        count_z, count_y, count_x = grid.shape
        z = grid.origin_mm[2] + grid.spacing_mm[2] * np.arange(count_z)
        y = grid.origin_mm[1] + grid.spacing_mm[1] * np.arange(count_y)
        x = grid.origin_mm[0] + grid.spacing_mm[0] * np.arange(count_x)
        atlas_z = atlas.axis.z_at(axis.level_at(z))
        here, there = axis.center_at(z), atlas.axis.center_at(atlas_z)
        scale = axis.scale / atlas.axis.scale * widen
        origin, step = atlas.grid.origin_mm, atlas.grid.spacing_mm
        columns = (there[0][:, None] + (x - here[0][:, None]) / scale - origin[0]) / step[0]
        rows = (there[1][:, None] + (y - here[1][:, None]) / scale - origin[1]) / step[1]
        return cls(atlas, axis, scale, (atlas_z - origin[2]) / step[2], rows, columns)

    def carried(self, point_mm: Array) -> Array:
        """Return where a point of the atlas lies in the target, mm."""
        z = self.axis.z_at(self.atlas.axis.level_at(point_mm[2:]))
        here, there = self.axis.center_at(z), self.atlas.axis.center_at(point_mm[2:])
        x, y = (h + (p - t) * self.scale for h, p, t in zip(here, point_mm, there, strict=False))
        return np.concatenate([x, y, z])

    def nearest(self, array: Array, k: int, outside: int) -> Array:
        """Return slice `k` of the target, nearest sampling."""
        z = round(float(self.plane_z[k]))
        y, x = np.rint(self.rows_y[k]).astype(int), np.rint(self.columns_x[k]).astype(int)
        return _pick(array, z, y, x, outside)

    def linear(self, array: Array, k: int, outside: int) -> Array:
        """Return slice `k` of the target as float32, trilinear sampling."""
        low = int(np.floor(self.plane_z[k]))
        share = np.float32(self.plane_z[k] - low)
        y, x = np.floor(self.rows_y[k]).astype(int), np.floor(self.columns_x[k]).astype(int)
        wy = (self.rows_y[k] - y).astype(np.float32)[:, None]
        wx = (self.columns_x[k] - x).astype(np.float32)
        out = np.zeros((len(y), len(x)), np.float32)
        for z, weight in ((low, 1 - share), (low + 1, share)):
            if weight > 0:
                left = _rows(array, z, (y, wy), x, outside)
                right = _rows(array, z, (y, wy), x + 1, outside)
                out += weight * (left * (1 - wx) + right * wx)
        return out


def _rows(array: Array, z: int, rows: tuple[Array, Array], x: Array, outside: int) -> Array:
    y, wy = rows
    a = _pick(array, z, y, x, outside).astype(np.float32)
    b = _pick(array, z, y + 1, x, outside).astype(np.float32)
    return a * (1 - wy) + b * wy


def _pick(array: Array, z: int, y: Array, x: Array, outside: int) -> Array:
    """Return array[z][y][:, x] with `outside` where an index leaves the array."""
    count_z, count_y, count_x = array.shape
    if not 0 <= z < count_z:
        return np.full((len(y), len(x)), outside, array.dtype)
    plane = array[z][np.clip(y, 0, count_y - 1)][:, np.clip(x, 0, count_x - 1)]
    bad_y, bad_x = (y < 0) | (y >= count_y), (x < 0) | (x >= count_x)
    if bad_y.any():
        plane[bad_y] = outside
    if bad_x.any():
        plane[:, bad_x] = outside
    return plane
