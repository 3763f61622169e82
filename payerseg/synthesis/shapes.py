"""Shapes of real vertebrae: signed depth on a small grid, with the body's frame.

A signed depth (positive inside, mm) can be sampled linearly at any pose without stairs, also when it
came from a mask with 3 mm thick sagittal slices; a thin cortical shell can be drawn from it exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.imaging.body_centers import VertebraBody, locate_bodies

Array = np.ndarray
SHAPE_SPACING_MM = 0.9
DEPTH_STEP_MM = 0.1
"""Depths are kept as int8 in tenths of a millimetre: exact to 0.05 mm within 12.7 mm of the surface."""
SMOOTH_MM = 0.55
"""Takes the stairs off a surface; thinner laminae than 1 mm would suffer."""
EDGE_MM = 4.0
"""How far outside the surface a shape still tells its depth when drawn."""
CUT_FACE_MM2 = 60.0
"""A vertebra with more bone on the map's face was cut by the scan and is no whole shape; less is the
tip of a transverse process."""


@dataclass(frozen=True, slots=True, eq=False)
class VertebraShape:
    """One vertebra of one person.

    Attributes:
        vertebra: the level it was measured at.
        source: the label map it is from.
        depth: (z, y, x) int8 signed depth, `DEPTH_STEP_MM` per unit, positive inside.
        grid: world-aligned grid of `depth` in the source's LPS.
        body: centre, axes, half sizes and canal in the source's LPS.
    """

    vertebra: Vertebra
    source: str
    depth: Array
    grid: Grid
    body: VertebraBody

    def hull_points_mm(self) -> Array:
        """Return (n, 3) points (left, back, up from the body's centre) that span the shape's surroundings."""
        near = self.depth > -round(EDGE_MM / DEPTH_STEP_MM)
        spans = []
        for axis in range(3):
            lines = near.any(axis=axis)
            first = near.argmax(axis=axis)[lines]
            last = near.shape[axis] - 1 - np.flip(near, axis).argmax(axis=axis)[lines]
            across = np.argwhere(lines)
            spans += [np.insert(across, axis, end, axis=1)[::5] for end in (first, last)]
        world = self.grid.map_indices_to_world(np.concatenate(spans))
        return (world - self.body.center_mm) @ self.body.axes.T


@dataclass(frozen=True, slots=True, eq=False)
class SpineShapes:
    """All whole vertebrae of one label map."""

    source: str
    shapes: dict[Vertebra, VertebraShape]

    def offset_mm(self, upper: Vertebra, lower: Vertebra) -> Array | None:
        """Return centre(lower) - centre(upper) in the upper one's axes, None if one is absent."""
        if upper not in self.shapes or lower not in self.shapes:
            return None
        a, b = self.shapes[upper].body, self.shapes[lower].body
        return a.axes @ (b.center_mm - a.center_mm)


def measure_spine(source: str, labels: Volume) -> SpineShapes:
    """Cut a label map (VerSe values, any grid) into shapes; vertebrae cut by the map's face drop out.

    Args:
        source: a name for where the shapes are from.
        labels: (z, y, x) VerSe labels.
    """
    labels = _thinned(labels)
    boxes = ndimage.find_objects(labels.array.astype(np.int32, copy=False))
    shapes = {}
    for vertebra, body in whole_bodies(labels).items():
        box = boxes[vertebra.verse_label - 1]
        depth, grid = signed_depth(labels, vertebra.verse_label, box)
        shapes[vertebra] = VertebraShape(vertebra, source, depth, grid, body)
    return SpineShapes(source, shapes)


def whole_bodies(labels: Volume) -> dict[Vertebra, VertebraBody]:
    """Return the bodies of vertebrae that the map's faces do not cut."""
    boxes = ndimage.find_objects(labels.array.astype(np.int32, copy=False))
    return {
        vertebra: body
        for vertebra, body in locate_bodies(labels).items()
        if _plausible(body)
        and not _touches_face(labels, vertebra.verse_label, boxes[vertebra.verse_label - 1])
    }


def _thinned(labels: Volume) -> Volume:
    """Drop voxels that are finer than the shapes' own grid needs (EDTs cost by the voxel)."""
    steps = [max(1, int(0.75 / s)) for s in labels.grid.spacing_mm[::-1]]
    array = labels.array[tuple(slice(None, None, n) for n in steps)]
    spacing = tuple(s * n for s, n in zip(labels.grid.spacing_mm, steps[::-1], strict=True))
    return Volume(array, Grid(array.shape, spacing, labels.grid.origin_mm, labels.grid.direction))


def signed_depth(labels: Volume, value: int, box: tuple[slice, ...]) -> tuple[Array, Grid]:
    """Return the smoothed int8 signed depth of one label on a world-aligned grid.

    Args:
        labels: (z, y, x) label map.
        value: the label.
        box: its bounding slices, as of `scipy.ndimage.find_objects`.
    """
    margin = np.ceil(5.0 / np.asarray(labels.grid.spacing_mm[::-1])).astype(int)
    start = [max(s.start - m, 0) for s, m in zip(box, margin, strict=True)]
    stop = [min(s.stop + m, n) for s, m, n in zip(box, margin, labels.array.shape, strict=True)]
    part = labels.cropped(tuple(start), tuple(stop))
    mask = _largest(part.array == value)
    before = [(max(m - s.start, 0), 0) for s, m in zip(box, margin, strict=True)]
    mask = np.pad(mask, [(b, int(m)) for (b, _), m in zip(before, margin, strict=True)])
    source_grid = part.grid.window(tuple(-b for b, _ in before), mask.shape)
    step = source_grid.spacing_mm[::-1]
    depth = distance_inside(mask, step)
    low = source_grid.corners_mm().min(axis=0)
    size = source_grid.corners_mm().max(axis=0) - low
    shape = np.ceil(size / SHAPE_SPACING_MM).astype(int)[::-1]
    grid = Grid(tuple(shape.tolist()), (SHAPE_SPACING_MM,) * 3, tuple(low + SHAPE_SPACING_MM / 2))
    depth = ndimage.gaussian_filter(depth, [0.35 * max(s / 1.0 - 1.0, 0.0) for s in step])
    matrix = np.linalg.solve(source_grid.matrix, grid.matrix)
    flip = np.eye(3)[::-1]
    depth = ndimage.affine_transform(
        depth,
        flip @ matrix[:3, :3] @ flip,
        matrix[:3, 3][::-1],
        grid.shape,
        order=1,
        mode="nearest",
    )
    depth = ndimage.gaussian_filter(depth, SMOOTH_MM / SHAPE_SPACING_MM)
    return np.clip(np.round(depth / DEPTH_STEP_MM), -127, 127).astype(np.int8), grid


def distance_inside(mask: Array, step_zyx: tuple[float, ...]) -> Array:
    """Return the float32 signed distance to a mask's surface, positive inside, mm."""
    inside = ndimage.distance_transform_edt(mask, step_zyx)
    outside = ndimage.distance_transform_edt(~mask, step_zyx)
    half = min(step_zyx) / 2
    return np.where(mask, inside - half, half - outside).astype(np.float32)


def _largest(mask: Array) -> Array:
    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count <= 1:
        return mask
    return parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))


def _touches_face(labels: Volume, value: int, box: tuple[slice, ...]) -> bool:
    """Tell whether a label has more than `CUT_FACE_MM2` on one of the map's six faces."""
    spacing = np.asarray(labels.grid.spacing_mm[::-1])
    for axis in range(3):
        ends = (0, labels.array.shape[axis] - 1)
        reached = [index for index in ends if box[axis].start <= index < box[axis].stop]
        counts = [np.count_nonzero(np.take(labels.array, k, axis=axis) == value) for k in reached]
        if max(counts, default=0) * np.prod(np.delete(spacing, axis)) > CUT_FACE_MM2:
            return True
    return False


def _plausible(body: VertebraBody) -> bool:
    """Tell whether a body has a body's size (half extents in mm of children up to large adults)."""
    return bool(
        np.all(body.half_size_mm > (5.5, 4.0, 2.5)) and np.all(body.half_size_mm < (34, 26, 21))
    )
