"""Facts about each vertebra's mask, and what is suspicious about them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy import ndimage

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.report.case_facts import CaseFacts, Finding, Severity

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
    voxel_ml = labels.grid.voxel_mm3 / 1000
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


# Typical volumes, ml, arch and processes included: medians of 17 training spines (118 cervical, 63
# thoracic, 57 lumbar masks of VerSe, TotalSegmentator and atlases) after every spine was scaled to one
# size. What remains within one spine is 5-12 % (C1 22 %).
TYPICAL_ML = {
    "C1": 15.8, "C2": 19.1, "C3": 12.6, "C4": 12.3, "C5": 12.8, "C6": 13.9, "C7": 17.4,
    "T1": 22.3, "T2": 23.1, "T3": 22.5, "T4": 23.1, "T5": 25.4, "T6": 27.4, "T7": 29.8, "T8": 31.6,
    "T9": 34.9, "T10": 37.1, "T11": 40.5, "T12": 46.7, "T13": 49.0,
    "L1": 51.4, "L2": 58.5, "L3": 63.1, "L4": 65.0, "L5": 65.0, "L6": 65.0,
}  # fmt: skip
MIN_VERTEBRAE_FOR_SIZE = 3
USUAL_SIZES = (0.55, 1.6)
"""Of a whole person against the typical one; small children and giants lie beyond."""
SIZE_WARNING, SIZE_REVIEW = 1.45, 1.8
"""Volume over (or under) the expected one."""
OFF_LANDMARK_MM = 3.0
C1_OFF_LANDMARK_MM = 20.0
"""C1's centre is that of the dens, inside the ring, not in C1's bone."""
FRAGMENT_ML, FRAGMENT_SHARE = 0.5, 0.05
AIR_SHARE = 0.04
MIRROR_OVERLAP = 0.80
"""Masks of people and of good methods have 0.88 and more."""
METAL_ML = 0.15
"""A handful of dense voxels is calcium."""
MAY_HOLD_DENS = (Vertebra.C2, Vertebra.C1)
"""C1's centre lies in the dens of C2: that is how it is defined."""


def mask_findings(facts: CaseFacts, masks: Mapping[Vertebra, MaskFacts]) -> Iterator[Finding]:
    """Yield what is suspicious about the masks of a case.

    Args:
        facts: of the case.
        masks: of the vertebrae that have a mask.
    """
    own = [*_empty(facts, masks), *_sizes(masks)]
    for vertebra, mask in masks.items():
        own += _off_landmark(vertebra, mask)
        own += _leaks(vertebra, mask)
        own += _fragments(vertebra, mask)
        own += _asymmetry(vertebra, mask)
    told = {name for finding in own for name in finding.levels if finding.severity == "review"}
    yield from own
    yield from _told_by_segmentation(facts.mask_report, told)
    yield from _metal(masks)
    yield from _borders(masks)


def _empty(facts: CaseFacts, masks: Mapping[Vertebra, MaskFacts]) -> Iterator[Finding]:
    for vertebra in facts.landmarks:
        if vertebra not in masks:
            message = f"{vertebra.name} was found but its mask is empty."
            yield Finding("empty_mask", Severity.REVIEW, message, (vertebra.name,))
    for vertebra in masks:
        if vertebra not in facts.landmarks:
            message = f"{vertebra.name} has a mask but no centre in landmarks.csv."
            yield Finding("off_landmark", Severity.REVIEW, message, (vertebra.name,))


def _off_landmark(vertebra: Vertebra, mask: MaskFacts) -> Iterator[Finding]:
    distance = mask.landmark_distance_mm
    limit = C1_OFF_LANDMARK_MM if vertebra is Vertebra.C1 else OFF_LANDMARK_MM
    if distance is not None and distance > limit:
        message = (
            f"The mask of {vertebra.name} does not contain its centre: {distance:.0f} mm away."
        )
        # of a cut vertebra the part that holds the centre may lie outside
        severity = Severity.WARNING if mask.at_border else Severity.REVIEW
        yield Finding("off_landmark", severity, message, (vertebra.name,))


def _leaks(vertebra: Vertebra, mask: MaskFacts) -> Iterator[Finding]:
    foreign = [
        name
        for name in mask.foreign_centers
        if not {vertebra, Vertebra[name]} <= set(MAY_HOLD_DENS)
    ]
    if foreign:
        message = f"The mask of {vertebra.name} reaches over the centre of {', '.join(foreign)}."
        yield Finding("leak", Severity.REVIEW, message, (vertebra.name, *foreign))
    if mask.air_share > AIR_SHARE:
        message = f"{mask.air_share:.0%} of the mask of {vertebra.name} lie in air or lung."
        yield Finding("leak", Severity.REVIEW, message, (vertebra.name,))


def _fragments(vertebra: Vertebra, mask: MaskFacts) -> Iterator[Finding]:
    apart = [piece for piece in mask.pieces_ml[1:] if piece >= FRAGMENT_ML]
    if not apart:
        return
    total = sum(apart)
    severe = total > FRAGMENT_SHARE * mask.volume_ml and not mask.at_border
    message = (
        f"The mask of {vertebra.name} is in {len(apart) + 1} pieces; "
        f"{total:.1f} ml lie apart from the largest."
    )
    severity = Severity.REVIEW if severe else Severity.WARNING
    yield Finding("fragments", severity, message, (vertebra.name,))


def _asymmetry(vertebra: Vertebra, mask: MaskFacts) -> Iterator[Finding]:
    if mask.mirror_overlap < MIRROR_OVERLAP and not mask.at_border:
        message = (
            f"Left and right of {vertebra.name} differ: its mirror image covers only "
            f"{mask.mirror_overlap:.0%} of the mask."
        )
        yield Finding("asymmetry", Severity.WARNING, message, (vertebra.name,))


def _sizes(masks: Mapping[Vertebra, MaskFacts]) -> Iterator[Finding]:
    """Compare volumes with the typical ones at this person's size; cut vertebrae do not count."""
    ratios = {
        vertebra: mask.volume_ml / TYPICAL_ML[vertebra.name]
        for vertebra, mask in masks.items()
        if not mask.at_border
    }
    if not ratios:
        return
    median = float(np.median(list(ratios.values())))
    if not USUAL_SIZES[0] <= median <= USUAL_SIZES[1]:
        message = f"All vertebrae together have {median:.2f} times the volume of an adult's."
        yield Finding("size", Severity.WARNING, message)
    size = median if len(ratios) >= MIN_VERTEBRAE_FOR_SIZE else 1.0
    for vertebra, ratio in ratios.items():
        factor = max(ratio / size, size / ratio)
        if factor < SIZE_WARNING:
            continue
        severity = Severity.REVIEW if factor >= SIZE_REVIEW else Severity.WARNING
        usual = TYPICAL_ML[vertebra.name] * size
        message = (
            f"{vertebra.name} has {masks[vertebra].volume_ml:.1f} ml; "
            f"about {usual:.0f} ml fit its neighbours."
        )
        yield Finding("size", severity, message, (vertebra.name,))


def _told_by_segmentation(report: Any, told: Collection[str]) -> Iterator[Finding]:
    """Pass on the problems that stage 3 saw, of vertebrae that nothing else was said about."""
    for name, entry in (report or {}).items():
        problems = entry.get("problems", ())
        if problems and name not in told:
            message = f"The segmentation says of {name}: {'; '.join(problems)}."
            yield Finding("segmentation", Severity.REVIEW, message, (name,))
        if remarks := entry.get("remarks", ()):
            message = f"The segmentation notes of {name}: {'; '.join(remarks)}."
            yield Finding("segmentation", Severity.INFO, message, (name,))


def _metal(masks: Mapping[Vertebra, MaskFacts]) -> Iterator[Finding]:
    names = [v.name for v, mask in masks.items() if mask.metal_ml > METAL_ML]
    if names:
        message = f"Metal or cement at {_listed(names)}: HU and borders there are not reliable."
        yield Finding("metal", Severity.WARNING, message, tuple(names))


def _borders(masks: Mapping[Vertebra, MaskFacts]) -> Iterator[Finding]:
    names = [v.name for v, mask in masks.items() if mask.at_border]
    if names:
        verb = "is" if len(names) == 1 else "are"
        message = f"{_listed(names)} {verb} cut by the edge of the scan and not measured whole."
        yield Finding("border", Severity.INFO, message, tuple(names))


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
