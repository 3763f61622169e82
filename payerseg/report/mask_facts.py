"""Plain facts about each vertebra's mask, from which findings are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume

AIR_HU = -300.0
METAL_HU = 2000.0
METAL_REACH_MM = 8.0
NEAR_FACE_MM = 2.0
"""Networks often leave out the last slices before a face."""
MIRROR_CELL_MM = 3.0
MIRROR_POINTS = 1000
MIRROR_SHIFTS_MM = tuple(range(-6, 7, 2))
MIRROR_TURNS_DEGREES = tuple(range(-20, 21, 5))
MIRROR_TILTS_DEGREES = (-10, -5, 0, 5, 10)


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """One mask.

    Attributes:
        volume_ml: of all its voxels.
        at_border: whether it comes within `NEAR_FACE_MM` of a face of the scan, so is probably cut.
        pieces_ml: volumes of its connected pieces, largest first.
        mirror_overlap: share of the mask that its mirror image covers, in the mirror plane that suits
            best, 0..1; perfectly symmetric = 1.
        air_share: part of it below `AIR_HU`.
        metal_ml: volume above `METAL_HU` in it and within `METAL_REACH_MM` of it.
        landmark_distance_mm: from its own centre mark to its nearest voxel; None without mark.
        foreign_centers: names of vertebrae whose centre it holds.
    """

    volume_ml: float
    at_border: bool
    pieces_ml: tuple[float, ...]
    mirror_overlap: float
    air_share: float
    metal_ml: float
    landmark_distance_mm: float | None
    foreign_centers: tuple[str, ...] = ()


def mask_facts(ct: Volume, labels: Volume, landmarks: Landmarks) -> dict[Vertebra, MaskFacts]:
    """Look at the mask of every vertebra in a label map.

    Args:
        ct: (z, y, x) HU on the labels' grid.
        labels: (z, y, x) VerSe labels.
        landmarks: centres.

    Returns:
        Facts, head to foot, of the vertebrae that have at least one voxel.
    """
    boxes = ndimage.find_objects(labels.array)
    facts = {}
    for vertebra in Vertebra:
        label = vertebra.verse_label
        box = boxes[label - 1] if label <= len(boxes) else None
        if box is not None:
            facts[vertebra] = _facts_of(vertebra, box, (ct, labels), landmarks)
    return facts


def _facts_of(
    vertebra: Vertebra,
    box: tuple[slice, slice, slice],
    volumes: tuple[Volume, Volume],
    landmarks: Landmarks,
) -> MaskFacts:
    ct, labels = volumes
    around = _grown(box, labels.grid)
    start = tuple(s.start for s in around)
    block = labels.cropped(start, tuple(s.stop for s in around))
    mask, hu = block.array == vertebra.verse_label, ct.array[around]
    voxel_ml = abs(float(np.linalg.det(labels.grid.matrix[:3, :3]))) / 1000
    pieces, n_pieces = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.sort(np.bincount(pieces.ravel())[1:])[::-1]
    faces = zip(box, labels.grid.shape, labels.grid.spacing_mm[::-1], strict=True)
    mark = landmarks.get(vertebra)
    return MaskFacts(
        volume_ml=float(sizes.sum()) * voxel_ml,
        at_border=any(min(s.start, n - s.stop) * mm <= NEAR_FACE_MM for s, n, mm in faces),
        pieces_ml=tuple((sizes[:n_pieces] * voxel_ml).tolist()),
        mirror_overlap=_mirror_overlap(block.with_array(mask), _up(vertebra, landmarks)),
        air_share=float(np.mean(hu[mask] < AIR_HU)),
        metal_ml=_metal_voxels(hu, mask, block.grid) * voxel_ml,
        landmark_distance_mm=_distance_mm(mask, block.grid, mark.position_mm) if mark else None,
        foreign_centers=_centers_within(vertebra, mask, block.grid, landmarks),
    )


def _grown(box: tuple[slice, slice, slice], grid: Grid) -> tuple[slice, ...]:
    reach = [int(np.ceil(METAL_REACH_MM / s)) for s in grid.spacing_mm[::-1]]
    return tuple(
        slice(max(s.start - r, 0), min(s.stop + r, n))
        for s, r, n in zip(box, reach, grid.shape, strict=True)
    )


def _metal_voxels(hu: np.ndarray, mask: np.ndarray, grid: Grid) -> int:
    metal = hu > METAL_HU
    if not metal.any():
        return 0
    distance = ndimage.distance_transform_edt(~mask, grid.spacing_mm[::-1])
    return int(np.count_nonzero(metal & (distance <= METAL_REACH_MM)))


def _distance_mm(mask: np.ndarray, grid: Grid, point_mm: tuple[float, float, float]) -> float:
    """Distance from a point to the surface of the nearest voxel's cube, 0 inside."""
    index = grid.map_world_to_indices(point_mm)[0]
    gap = np.maximum(np.abs(np.argwhere(mask) - index) - 0.5, 0) * grid.spacing_mm[::-1]
    return float(np.sqrt((gap**2).sum(axis=1).min()))


def _centers_within(
    own: Vertebra, mask: np.ndarray, grid: Grid, landmarks: Mapping
) -> tuple[str, ...]:
    found = []
    for vertebra, mark in landmarks.items():
        index = np.rint(grid.map_world_to_indices(mark.position_mm)[0]).astype(int)
        inside = np.all((index >= 0) & (index < mask.shape))
        if vertebra is not own and inside and mask[tuple(index)]:
            found.append(vertebra.name)
    return tuple(found)


def _up(vertebra: Vertebra, landmarks: Landmarks) -> np.ndarray:
    """(3,) LPS unit vector along the spine at a vertebra, up where there are no two neighbours."""
    near = [v for v in landmarks if abs(v.rank - vertebra.rank) <= 1]
    ends = [np.asarray(landmarks[v].position_mm) for v in (near[:1] + near[-1:])]
    along = ends[0] - ends[1] if len(near) > 1 else np.zeros(3)
    length = np.linalg.norm(along)
    return along / length if length > 1 else np.array([0.0, 0.0, 1.0])


def _mirror_overlap(mask: Volume, up: np.ndarray) -> float:
    """Search the plane in which the mask is most symmetric; share of its mirror image it covers."""
    places = mask.grid.map_indices_to_world(np.argwhere(mask.array))
    left = np.array([1.0, 0.0, 0.0]) - up[0] * up
    left /= max(float(np.linalg.norm(left)), 1e-6)
    own = (places - places.mean(axis=0)) @ np.stack([left, np.cross(up, left), up]).T
    cell_mm = max(MIRROR_CELL_MM, *mask.grid.spacing_mm)
    low = own.min(axis=0) - cell_mm
    size = ((own.max(axis=0) - low) / cell_mm).astype(int) + 2
    framed = np.zeros(size + 2, bool)
    framed[tuple(((own - low) / cell_mm).astype(int).T + 1)] = True
    chosen = own[:: max(1, len(own) // MIRROR_POINTS)]
    shifts = np.array(MIRROR_SHIFTS_MM)[:, None, None]
    best = 0.0
    for turn, tilt in product(MIRROR_TURNS_DEGREES, MIRROR_TILTS_DEGREES):
        normal = _turned_left(turn, tilt)
        mirrored = chosen - 2 * ((chosen @ normal)[:, None] - shifts) * normal
        best = max(best, float(_inside(framed, (mirrored - low) / cell_mm).mean(axis=1).max()))
    return best


def _turned_left(turn_degrees: float, tilt_degrees: float) -> np.ndarray:
    """(3,) unit normal of a mirror plane in (left, back, up)."""
    turn, tilt = np.radians([turn_degrees, tilt_degrees])
    return np.array([np.cos(turn) * np.cos(tilt), np.sin(turn) * np.cos(tilt), np.sin(tilt)])


def _inside(framed: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Tell for (..., 3) continuous cells whether they are filled.

    Args:
        framed: filled cells, with one empty cell around them that stands for all beyond.
        cells: counted without that frame.
    """
    # Beyond the frame's empty cells lies the frame itself; truncation is floor for what is above 0.
    index = np.clip(cells + 1, 0, np.array(framed.shape) - 0.5).astype(np.intp)
    _, n_back, n_up = framed.shape
    return framed.ravel()[(index[..., 0] * n_back + index[..., 1]) * n_up + index[..., 2]]
