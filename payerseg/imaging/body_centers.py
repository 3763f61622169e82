"""Vertebral body centres from masks: what a landmark is where only a label map is at hand.

A landmark is the centre of the vertebral body, not of the mask (processes pull a mask's centroid
10-20 mm backwards). C1 has no body: its point is the centre of the dens at the height of C1's anterior
arch; C2's point is the body below the dens. numpy and scipy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume

Array = np.ndarray
STEP_MM = 1.0
"""Masks are looked at on a world-aligned grid of this spacing."""
MIN_MASK_MM3 = 300.0
"""Smaller specks are no vertebra (a C1 has about 8000 mm3, a child's half of it)."""
REACH_MM = 34.0
BUNDLE_MM = (-4.0, -2.0, 0.0, 2.0, 4.0)
C2_HEIGHT_IN_DEPTHS = 1.05
"""C2's centre above its lower endplate, in half depths of its body (about 8 mm in an adult)."""
DENS_BEHIND_ARCH_MM = 8.5
CANAL_BEHIND_DENS_MM = 16.0


@dataclass(frozen=True, slots=True)
class VertebraBody:
    """Where a vertebra is and which way it looks.

    Attributes:
        center_mm: the landmark, LPS (x, y, z).
        axes: (3, 3), rows are unit vectors to the patient's left, to the back, and up.
        half_size_mm: half extents of the body to the left, to the back, and up.
        canal_mm: centre of the spinal canal at this level, LPS.
    """

    center_mm: Array
    axes: Array
    half_size_mm: Array
    canal_mm: Array


def landmarks_from_labels(labels: Volume) -> Landmarks:
    """Return the body centre of every vertebra in a label map (VerSe values, 0 = background)."""
    bodies = locate_bodies(labels)
    return Landmarks(Landmark(v, tuple(body.center_mm)) for v, body in bodies.items())


def locate_bodies(labels: Volume) -> dict[Vertebra, VertebraBody]:
    """Find body, canal and orientation of every vertebra in a label map.

    Args:
        labels: (z, y, x) VerSe labels on any grid; other values (26 = sacrum) are left out.

    Returns:
        One entry per vertebra of at least `MIN_MASK_MM3`, head to foot.
    """
    array, voxel_mm3 = labels.array, labels.grid.voxel_mm3
    boxes = ndimage.find_objects(array.astype(np.int32, copy=False))
    blocks = {}
    for vertebra in Vertebra:
        value = vertebra.verse_label
        box = boxes[value - 1] if value <= len(boxes) else None
        if box is None or np.count_nonzero(array[box] == value) * voxel_mm3 < MIN_MASK_MM3:
            continue
        blocks[vertebra] = _Block.cut(labels, value, box)
    starts = {vertebra: block.rough_body() for vertebra, block in blocks.items()}
    bodies: dict[Vertebra, VertebraBody] = {}
    for _ in range(2):
        bodies = {v: _measure(v, blocks[v], starts[v], _axes(v, starts)) for v in blocks}
        starts = {v: (body.center_mm, body.canal_mm) for v, body in bodies.items()}
    if Vertebra.C1 in bodies:
        bodies[Vertebra.C1] = _dens_point(blocks, bodies)
    return bodies


@dataclass(frozen=True, slots=True)
class _Block:
    """One vertebra's occupancy (z, y, x) on a world-aligned grid of `STEP_MM`."""

    occupancy: Array
    grid: Grid

    @classmethod
    def cut(cls, labels: Volume, value: int, box: tuple[slice, ...]) -> _Block:
        start = tuple(max(s.start - 2, 0) for s in box)
        stop = tuple(min(s.stop + 2, n) for s, n in zip(box, labels.array.shape, strict=True))
        part = labels.cropped(start, stop)
        mask = (part.array == value).astype(np.float32)
        sigma = [0.5 * max(STEP_MM / s - 1.0, 0.0) for s in part.grid.spacing_mm[::-1]]
        mask = ndimage.gaussian_filter(mask, sigma)
        corners = part.grid.corners_mm()
        low = np.floor(corners.min(axis=0)) - STEP_MM
        shape = np.ceil((corners.max(axis=0) - low) / STEP_MM).astype(int) + 2
        grid = Grid(tuple(shape[::-1].tolist()), (STEP_MM,) * 3, tuple(low))
        return cls(_sample(mask, part.grid, grid), grid)

    def value_at(self, xyz_mm: Array) -> Array:
        """Sample the occupancy at (..., 3) LPS points."""
        flat = self.grid.map_world_to_indices(xyz_mm.reshape(-1, 3))
        return ndimage.map_coordinates(self.occupancy, flat.T, order=1).reshape(xyz_mm.shape[:-1])

    def rough_body(self) -> tuple[Array, Array]:
        """Return a point well inside the body and the middle of the canal, LPS mm."""
        mask = self.occupancy > 0.5
        thick = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1.5)
        canal = _hole_center(mask)
        if canal is None:
            inside = np.array(np.unravel_index(np.argmax(thick), thick.shape))
            whole = np.argwhere(mask).mean(axis=0)
            canal = np.array([inside[0], max(whole[1], inside[1]) + 4.0, inside[2]])
        z, y, x = np.ogrid[tuple(slice(n) for n in mask.shape)]
        ahead = (y < canal[1] - 4) & (np.abs(x - canal[2]) < 9) & (np.abs(z - canal[0]) < 26)
        allowed = thick * ahead
        if allowed.max() <= 0.5:
            allowed = thick
        inside = np.array(np.unravel_index(np.argmax(allowed), thick.shape), float)
        both = self.grid.map_indices_to_world(np.stack([inside, canal]))
        return both[0], both[1]


def _sample(array: Array, grid: Grid, onto: Grid) -> Array:
    """Sample linearly at the voxel centres of another grid (numpy's answer to `resample`)."""
    step = np.linalg.solve(grid.matrix, onto.matrix)
    flip = np.eye(3)[::-1]
    return ndimage.affine_transform(
        array, flip @ step[:3, :3] @ flip, step[:3, 3][::-1], onto.shape, order=1
    )


def _hole_center(mask: Array) -> Array | None:
    """Return the (z, y, x) centre of the largest hole seen in axial slices, closed arches assumed."""
    closed = ndimage.binary_closing(np.pad(mask, 3), np.ones((3, 3, 3)), iterations=2)
    closed = closed[3:-3, 3:-3, 3:-3]
    cross = np.zeros((3, 3, 3), bool)
    cross[1, 1, :] = cross[1, :, 1] = True
    holes = ndimage.binary_fill_holes(closed, structure=cross) & ~closed
    parts, count = ndimage.label(holes)
    if not count:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    best = int(np.argmax(sizes))
    if sizes[best] < 60:
        return None
    return np.argwhere(parts == best + 1).mean(axis=0)


def _axes(vertebra: Vertebra, starts: dict[Vertebra, tuple[Array, Array]]) -> Array:
    """Return rows left, back, up: up along the chain of neighbours, back towards the canal."""
    near = [v for v in starts if abs(v.rank - vertebra.rank) <= 2 and v is not Vertebra.C1]
    near = [v for v in near if abs(v.rank - vertebra.rank) <= 1] if len(near) > 2 else near
    here, canal = starts[vertebra]
    up = np.array([0.0, 0.0, 1.0])
    if len(near) >= 2:
        chain = np.array([starts[v][0] for v in near])
        up = chain[0] - chain[-1]
    up = up / np.linalg.norm(up)
    back = np.array([0.0, 1.0, 0.0]) if vertebra is Vertebra.C1 else canal - here
    back = back - up * (back @ up)
    if np.linalg.norm(back) < 4.0 or back[1] <= 0.3 * np.linalg.norm(back):
        back = np.array([0.0, 1.0, 0.0]) - up * up[1]
    back = back / np.linalg.norm(back)
    return np.stack([np.cross(back, up), back, up])


def _measure(
    vertebra: Vertebra, block: _Block, start: tuple[Array, Array], axes: Array
) -> VertebraBody:
    """Centre a start point between the walls of the body."""
    center, canal = start
    half = np.array([12.0, 8.0, 7.0])
    if vertebra is Vertebra.C1:
        return VertebraBody(center, axes, half, canal)
    for _ in range(4):
        for axis in (2, 1, 0):
            low, high = _walls(block, center, axes, axis)
            if vertebra is Vertebra.C2 and axis == 2:
                high = 2 * C2_HEIGHT_IN_DEPTHS * half[1] + low
            center = center + axes[axis] * (low + high) / 2
            half[axis] = (high - low) / 2
    canal = canal - axes[2] * ((canal - center) @ axes[2])
    return VertebraBody(center, axes, half, canal)


def _walls(block: _Block, center: Array, axes: Array, axis: int) -> tuple[float, float]:
    """Return where (mm, negative and positive) a bundle of rays along one axis leaves the bone."""
    others = [k for k in range(3) if k != axis]
    u, v = np.meshgrid(BUNDLE_MM, BUNDLE_MM, indexing="ij")
    base = center + u[..., None] * axes[others[0]] + v[..., None] * axes[others[1]]
    steps = np.arange(0.0, REACH_MM, 0.5)
    ends = []
    for sign in (-1.0, 1.0):
        ray = base[:, :, None, :] + (sign * steps)[:, None] * axes[axis]
        outside = block.value_at(ray) < 0.5
        first = np.where(outside.any(axis=-1), outside.argmax(axis=-1), len(steps) - 1)
        starts_inside = ~outside[..., 0]
        reach = steps[first[starts_inside]] if starts_inside.any() else np.array([0.0])
        ends.append(float(sign * np.median(reach)))
    return ends[0], ends[1]


def _dens_point(
    blocks: dict[Vertebra, _Block], bodies: dict[Vertebra, VertebraBody]
) -> VertebraBody:
    """Return C1's point: the dens (a part of C2) at the height of C1's anterior arch."""
    block, first = blocks[Vertebra.C1], bodies[Vertebra.C1]
    points = block.grid.map_indices_to_world(np.argwhere(block.occupancy > 0.5))
    middle_x = (points[:, 0].min() + points[:, 0].max()) / 2
    middle = points[np.abs(points[:, 0] - middle_x) < 4.0]
    middle = middle if len(middle) else points
    arch = middle[middle[:, 1] < middle[:, 1].min() + 7.0].mean(axis=0)
    center = arch + np.array([0.0, DENS_BEHIND_ARCH_MM, 0.0])
    if Vertebra.C2 in blocks:
        second = blocks[Vertebra.C2]
        bone = second.grid.map_indices_to_world(np.argwhere(second.occupancy > 0.5))
        near = (np.abs(bone[:, 2] - arch[2]) < 3.0) & (np.abs(bone[:, 0] - arch[0]) < 9.0)
        near &= (bone[:, 1] > arch[1]) & (bone[:, 1] < arch[1] + 20.0)
        if near.sum() > 50:
            center = bone[near].mean(axis=0)
    axes = bodies[Vertebra.C2].axes if Vertebra.C2 in bodies else first.axes
    return VertebraBody(center, axes, first.half_size_mm, center + CANAL_BEHIND_DENS_MM * axes[1])
