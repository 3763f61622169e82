"""How well masks overlap and how far their surfaces are apart: Dice, volume, distances in mm, per vertebra.

The surface is that of marching cubes: it passes half-way between a voxel centre inside and one
outside. Each cell between eight voxel centres that it crosses is one surface element with the area
of its polygon, so that a fine slice direction or a slanted wall does not count twice. This is the
definition of the `surface-distance` package (Nikolov et al., "Clinically applicable segmentation of
head and neck anatomy", J. Med. Internet Res. 23, 2021); numbers agree with it (tests/golden).
`hausdorff_mm` is another thing: the distance between the sets of voxel centres, as SimpleITK's
filter and so the VerSe tables have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from payerseg.domain.volume import Volume
from payerseg.errors import GridMismatch

SURFACE_DICE_MM = (1.0, 2.0, 3.0)
HD95_PERCENT = 95.0

Spacing = tuple[float, float, float]

_CORNERS = tuple((z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1))
_FACES = tuple(
    (axis, side, tuple(k for k in range(3) if k != axis)) for axis in range(3) for side in (0, 1)
)


@dataclass(frozen=True, slots=True)
class SurfaceScores:
    """Distances between two surfaces.

    Attributes:
        hausdorff_mm: largest distance from a voxel of one mask to the other mask.
        hd95_mm: the larger of the two directions' area-weighted 95th percentiles.
        assd_mm: mean distance over both surfaces, weighted by area.
        surface_dice: tolerance in mm → share of both surfaces that lies within it of the other.
    """

    hausdorff_mm: float
    hd95_mm: float
    assd_mm: float
    surface_dice: dict[float, float]


def score_surfaces(
    a: np.ndarray,
    b: np.ndarray,
    spacing_zyx: Spacing,
    tolerances_mm: tuple[float, ...] = SURFACE_DICE_MM,
) -> SurfaceScores:
    """Measure the distances between the surfaces of two masks.

    Args:
        a: (z, y, x) bool; background on all faces, or the surface stays open there.
        b: the same shape.
        spacing_zyx: mm between voxels along (z, y, x); a shear of the grid is ignored.
        tolerances_mm: of the surface Dice.

    Returns:
        Scores, symmetric in `a` and `b`.

    Raises:
        ValueError: a mask is empty; distances to nothing do not exist, so the caller must decide
            what a missing mask means.
    """
    if not a.any() or not b.any():
        msg = "surface distances need two masks with voxels; one is empty"
        raise ValueError(msg)
    near_a, near_b = _elements(a, spacing_zyx), _elements(b, spacing_zyx)
    a_to_b = _distances_to(near_b[0], near_a[0], spacing_zyx)
    b_to_a = _distances_to(near_a[0], near_b[0], spacing_zyx)
    areas_a, areas_b = near_a[1], near_b[1]
    total = areas_a.sum() + areas_b.sum()
    within = {
        mm: float((areas_a[a_to_b <= mm].sum() + areas_b[b_to_a <= mm].sum()) / total)
        for mm in tolerances_mm
    }
    hd95 = max(
        _weighted_percentile(a_to_b, areas_a, HD95_PERCENT),
        _weighted_percentile(b_to_a, areas_b, HD95_PERCENT),
    )
    assd = float(((a_to_b * areas_a).sum() + (b_to_a * areas_b).sum()) / total)
    return SurfaceScores(hausdorff_mm(a, b, spacing_zyx), hd95, assd, within)


def hausdorff_mm(a: np.ndarray, b: np.ndarray, spacing_zyx: Spacing) -> float:
    """Return the largest distance from a voxel centre of one mask to the nearest of the other.

    Args:
        a: (z, y, x) bool, not empty.
        b: the same shape, not empty.
        spacing_zyx: mm between voxels along (z, y, x).
    """
    to_b = ndimage.distance_transform_edt(~b, spacing_zyx)[a]
    to_a = ndimage.distance_transform_edt(~a, spacing_zyx)[b]
    return float(max(to_b.max(), to_a.max()))


def _elements(mask: np.ndarray, spacing_zyx: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """Return the crossed cells, (z-1, y-1, x-1) bool, and their areas in the order of nonzero."""
    code = np.zeros(tuple(n - 1 for n in mask.shape), np.uint8)
    for bit, corner in enumerate(_CORNERS):
        block = tuple(slice(c, n - 1 + c) for c, n in zip(corner, mask.shape, strict=True))
        code |= mask[block].astype(np.uint8) << bit
    crossed = (code != 0) & (code != 255)
    return crossed, _areas_of_codes(tuple(float(s) for s in spacing_zyx))[code[crossed]]


def _distances_to(target: np.ndarray, source: np.ndarray, spacing_zyx: Spacing) -> np.ndarray:
    """Return mm from each source element to the nearest target element."""
    return ndimage.distance_transform_edt(~target, spacing_zyx)[source]


def _weighted_percentile(values: np.ndarray, weights: np.ndarray, percent: float) -> float:
    """Return the smallest value below which at least this share of the weight lies."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    k = int(np.searchsorted(reached, percent / 100.0))
    return float(values[order][min(k, len(values) - 1)])


@lru_cache(maxsize=64)
def _areas_of_codes(spacing_zyx: Spacing) -> np.ndarray:
    """Return (256,) mm²: area of the surface inside a cell, per pattern of its eight corners."""
    return np.array([_area_of_code(code, np.asarray(spacing_zyx)) for code in range(256)])


def _area_of_code(code: int, spacing_zyx: np.ndarray) -> float:
    """Sum the areas of the polygons that part the inner from the outer corners of one cell."""
    if code.bit_count() > 4:
        code = 255 - code  # one surface, seen from the other side
    inside = {corner for bit, corner in enumerate(_CORNERS) if code >> bit & 1}
    segments: dict[tuple, list[tuple]] = {}
    for axis, side, plane in _FACES:
        for start, end in _face_segments(inside, axis, side, plane):
            segments.setdefault(start, []).append(end)
            segments.setdefault(end, []).append(start)
    area = 0.0
    while segments:
        area += _polygon_area(np.array(_take_loop(segments)), spacing_zyx)
    return area


def _face_segments(
    inside: set[tuple], axis: int, side: int, plane: tuple[int, ...]
) -> list[tuple[tuple, tuple]]:
    """Return the lines on one face of a cell, each between the middles of two of its edges.

    Where two diagonal corners are inside, each is cut off on its own: inner voxels that touch only
    across a face's diagonal are parted.
    """
    u, v = plane
    ring = []
    for du, dv in ((0, 0), (0, 1), (1, 1), (1, 0)):
        corner = [0, 0, 0]
        corner[axis], corner[u], corner[v] = side, du, dv
        ring.append(tuple(corner))
    middles = [
        tuple((p + q) / 2 for p, q in zip(ring[k], ring[(k + 1) % 4], strict=True))
        for k in range(4)
    ]
    cut = [k for k in range(4) if (ring[k] in inside) != (ring[(k + 1) % 4] in inside)]
    if len(cut) == 2:
        return [(middles[cut[0]], middles[cut[1]])]
    if len(cut) == 4:
        return [(middles[k - 1], middles[k]) for k in range(4) if ring[k] in inside]
    return []


def _take_loop(segments: dict[tuple, list[tuple]]) -> list[tuple]:
    """Remove one closed polygon from a graph in which every point has two neighbours."""
    start = next(iter(segments))
    loop, here = [start], segments[start][0]
    while here != start:
        before, (one, other) = loop[-1], segments[here]
        loop.append(here)
        here = other if one == before else one
    for point in loop:
        del segments[point]
    return loop


def _polygon_area(points: np.ndarray, spacing_zyx: np.ndarray) -> float:
    """Return the area in mm² of a closed polygon of (n, 3) points of the unit cell.

    Some polygons do not lie in a plane; the fan of triangles with the largest area in the unit cell
    is the common triangulation of marching cubes.
    """
    fans = [np.roll(points, -apex, axis=0) for apex in range(len(points))]
    chosen = max(fans, key=_fan_area)
    return _fan_area(chosen * spacing_zyx)


def _fan_area(points: np.ndarray) -> float:
    """Return the area of the triangles between the first and each two neighbouring points."""
    spokes = points[1:] - points[0]
    return float(np.linalg.norm(np.cross(spokes[:-1], spokes[1:]), axis=1).sum() / 2)


MARGIN_VOXELS = 2
"""Background around the cut-out block: surfaces need one voxel, two spare a second thought."""


@dataclass(frozen=True, slots=True)
class MaskScores:
    """One label of one scan.

    Attributes:
        label: VerSe label.
        dice: 2 |A∩B| / (|A|+|B|); 0 where the prediction lacks the label, or the truth does.
        volume_ml: predicted volume.
        true_volume_ml: true volume.
        surfaces: distances; None where either mask is empty, for then none exist.
    """

    label: int
    dice: float
    volume_ml: float
    true_volume_ml: float
    surfaces: SurfaceScores | None

    @property
    def volume_error(self) -> float | None:
        """(predicted - true) / true volume; None for a label that the truth lacks."""
        if self.true_volume_ml == 0:
            return None
        return (self.volume_ml - self.true_volume_ml) / self.true_volume_ml


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Return 2 |A∩B| / (|A|+|B|) of two boolean arrays of one shape; 1 where both are empty."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 1.0 if total == 0 else 2 * np.count_nonzero(a & b) / total


def score_masks(
    predicted: Volume,
    truth: Volume,
    labels: tuple[int, ...],
    *,
    surfaces: bool = True,
    tolerances_mm: tuple[float, ...] = SURFACE_DICE_MM,
) -> list[MaskScores]:
    """Score each label of two label maps on one grid.

    Args:
        predicted: (z, y, x) label map.
        truth: (z, y, x) label map on the same grid.
        labels: which to score; a label in neither map is skipped.
        surfaces: False leaves the distances out, which is ten times as fast.
        tolerances_mm: of the surface Dice.

    Raises:
        GridMismatch: the grids differ; resample the prediction first.
    """
    if not predicted.grid.same_space_as(truth.grid):
        msg = (
            f"the prediction's grid {predicted.grid} is not the truth's {truth.grid}; "
            "resample the prediction onto the truth (--resample) or score it where it was made"
        )
        raise GridMismatch(msg)
    voxel_ml = truth.grid.voxel_mm3 / 1000
    scores = []
    for label in labels:
        block = _block_around((predicted.array == label) | (truth.array == label))
        if block is None:
            continue
        a, b = predicted.array[block] == label, truth.array[block] == label
        volumes = np.count_nonzero(a) * voxel_ml, np.count_nonzero(b) * voxel_ml
        measured = None
        if surfaces and a.any() and b.any():
            spacing_zyx = truth.grid.spacing_mm[::-1]
            pad = MARGIN_VOXELS
            measured = score_surfaces(np.pad(a, pad), np.pad(b, pad), spacing_zyx, tolerances_mm)
        scores.append(MaskScores(label, dice(a, b), *volumes, measured))
    return scores


def _block_around(mask: np.ndarray) -> tuple[slice, ...] | None:
    """Return the smallest block that holds a mask, None where it is empty."""
    block = []
    for axis in range(3):
        others = tuple(k for k in range(3) if k != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        if hit.size == 0:
            return None
        block.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(block)
