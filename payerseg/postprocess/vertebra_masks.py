"""Probabilities of single vertebrae to one label map: clean each, let the highest probability win."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Point
from payerseg.domain.vertebra import Region, Vertebra
from payerseg.domain.volume import Volume
from payerseg.imaging.regions import Connectivity, bounding_block, largest_component
from payerseg.imaging.resample import Interpolation, resample

PLAUSIBLE_ML = {
    Region.CERVICAL: (2.0, 40.0),
    Region.THORACIC: (4.0, 90.0),
    Region.LUMBAR: (12.0, 150.0),
}
"""Volumes of whole vertebrae from a small child's to a tall man's, with room for osteophytes."""
NEAR_LANDMARK_MM = 10.0
"""A mask whose nearest voxel is further from its own centre point belongs to something else."""
LARGE_PART = 0.3
"""More of a mask than this, dropped or lost to neighbours, is worth a look."""
REACH_VOXELS = 1
OWN_MM = 20.0
"""SD of the weight by which the component about the landmark is chosen: a vertebra's bone lies 18-24 mm from
its centre (median), skull that looks like C1 40 mm and more, and may be the larger component."""


@dataclass(frozen=True, slots=True)
class MaskRule:
    """How probabilities become masks.

    Attributes:
        threshold: value from which a voxel is vertebra.
        connectivity: of the one component that is kept.
        clean_first: keep the largest component on the network's own grid and zero all else, before
            resampling (PSR); False cleans on the scan's grid and keeps the soft rim (V20).
        component: which is kept: the one about the landmark, or the largest (V20; also where no landmark
            is known).
        interpolation: from the network's grid to the scan's.
        conflicts: "highest" = the highest probability wins, whatever the order, the smaller label
            among equals; "last" = the later vertebra overwrites.
    """

    threshold: float = 0.5
    connectivity: Connectivity = 18
    clean_first: bool = False
    component: Literal["landmark", "largest"] = "largest"
    interpolation: Interpolation = "cubic"
    conflicts: Literal["highest", "last"] = "highest"


VERSE2020_MASKS = MaskRule()
PAYERSEG_MASKS = MaskRule(0.5, 26, clean_first=True, interpolation="linear", conflicts="last")
"""PSR's rule; feed it logits, as it does (REFERENCE §5, Q2): masks come out a quarter too thin."""


@dataclass(frozen=True, slots=True)
class VertebraProbability:
    """What the network says about one vertebra.

    Attributes:
        vertebra: which.
        probability: (z, y, x) on the network's crop.
        landmark_mm: the centre the crop was made for, if known.
    """

    vertebra: Vertebra
    probability: Volume
    landmark_mm: Point | None = None


@dataclass(frozen=True, slots=True)
class MaskReport:
    """What became of one vertebra's mask.

    Attributes:
        vertebra: which.
        n_voxels: in the final label map.
        volume_ml: of these.
        dropped_part: of the voxels above the threshold, the part outside the largest component.
        lost_part: of the cleaned mask, the part that other vertebrae won.
        mean_probability: over the final voxels; 0 without any.
        problems: plain sentences that ask for a look; empty = plausible.
        remarks: plain sentences that do not.
    """

    vertebra: Vertebra
    n_voxels: int
    volume_ml: float
    dropped_part: float = 0.0
    lost_part: float = 0.0
    mean_probability: float = 0.0
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CleanMask:
    """One vertebra's probability on a block of the scan's grid.

    Attributes:
        vertebra: which.
        start_zyx: where the block starts in the scan.
        probability: (z, y, x) of the block; below the threshold outside the kept component.
        dropped_part: see `MaskReport`.
    """

    vertebra: Vertebra
    start_zyx: tuple[int, int, int]
    probability: np.ndarray
    dropped_part: float


@dataclass(frozen=True, slots=True)
class MergedMasks:
    """The label map (uint8, VerSe labels) on the scan's grid, and a report per vertebra, head to foot."""

    labels: Volume
    reports: tuple[MaskReport, ...]


def merge_masks(
    probabilities: Iterable[VertebraProbability], grid: Grid, rule: MaskRule | None = None
) -> MergedMasks:
    """Clean and merge the vertebrae of one scan.

    Args:
        probabilities: may be a generator; one is held at a time.
        grid: the scan's. Work and memory follow the crops, not the scan.
        rule: left out = V20's.

    Returns:
        The same labels for every order of the vertebrae, unless the rule says "last".
    """
    rule = rule or VERSE2020_MASKS
    labels = np.zeros(grid.shape, np.uint8)
    best = np.zeros(grid.shape, np.float32)
    cleaned: dict[Vertebra, _Cleaned] = {}
    for item in probabilities:
        mask = clean_mask(item, grid, rule)
        if mask is None:
            cleaned[item.vertebra] = _Cleaned(None, 0, 0.0, item.landmark_mm)
            continue
        inside = mask.probability > rule.threshold
        block = _block(mask.start_zyx, mask.probability.shape)
        n_voxels = int(np.count_nonzero(inside))
        cleaned[item.vertebra] = _Cleaned(block, n_voxels, mask.dropped_part, item.landmark_mm)
        _write(labels[block], best[block], mask, inside, rule)
    merged = Volume(labels, grid)
    reports = (_report(merged, best, v, cleaned[v]) for v in sorted(cleaned))
    return MergedMasks(merged, tuple(reports))


def clean_mask(
    item: VertebraProbability, grid: Grid, rule: MaskRule | None = None
) -> CleanMask | None:
    """Bring one probability to the scan's grid and keep one component.

    Args:
        item: on its crop.
        grid: the scan's; only the block the crop covers is computed.
        rule: left out = V20's.

    Returns:
        None where the crop does not meet the scan or nothing exceeds the threshold.
    """
    rule = rule or VERSE2020_MASKS
    crop, dropped = item.probability, 0.0
    if rule.clean_first:
        kept, dropped = _largest(crop.array > rule.threshold, rule.connectivity)
        crop = crop.with_array(np.where(kept, crop.array, 0).astype(np.float32))
    window = _window(crop, grid, rule.threshold)
    if window is None:
        return None
    start, shape = window
    sampled = resample(crop, grid.window(start, shape), interpolation=rule.interpolation)
    probability = np.asarray(sampled.array, np.float32)
    above = probability > rule.threshold
    if not above.any():
        return None
    if not rule.clean_first:
        near = None
        if rule.component == "landmark" and item.landmark_mm is not None:
            near = _near(above, grid.window(start, shape), item.landmark_mm)
        kept, dropped = _largest(above, rule.connectivity, near)
        probability = np.where(above & ~kept, 0, probability)
    return CleanMask(item.vertebra, start, probability, dropped)


def _near(mask: np.ndarray, grid: Grid, landmark_mm: Point) -> np.ndarray:
    """Return how much each voxel of a mask counts for the vertebra about a landmark, float32."""
    points = grid.map_indices_to_world(np.argwhere(mask))
    square = np.sum((points - np.asarray(landmark_mm)) ** 2, axis=1)
    weights = np.zeros(mask.shape, np.float32)
    weights[mask] = np.exp(-square / (2 * OWN_MM**2))
    return weights


def _largest(
    mask: np.ndarray, connectivity: Connectivity, weights: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Return the largest (or weightiest) component and the part of the mask outside it."""
    kept = largest_component(mask, connectivity, weights)
    total = int(np.count_nonzero(mask))
    return kept, 1 - int(np.count_nonzero(kept)) / total if total else 0.0


def _window(
    crop: Volume, grid: Grid, threshold: float
) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    """Return start and shape of the scan's block around everything in the crop that could be mask.

    Interpolated values exceed the threshold only near voxels that do; a cubic spline may overshoot by
    a little, which half the threshold and a margin of voxels leave room for.
    """
    block = bounding_block(crop.array > 0.5 * threshold, margin_voxels=2)
    if block is None:
        return None
    part = crop.grid.window(block[0], tuple(b - a for a, b in zip(*block, strict=True)))
    corners = grid.map_world_to_indices(part.corners_mm())
    low = np.floor(corners.min(axis=0)).astype(int) - REACH_VOXELS
    high = np.ceil(corners.max(axis=0)).astype(int) + REACH_VOXELS + 1
    low, high = np.maximum(low, 0), np.minimum(high, grid.shape)
    if np.any(low >= high):
        return None
    return tuple(low.tolist()), tuple((high - low).tolist())


def _write(
    labels: np.ndarray, best: np.ndarray, mask: CleanMask, inside: np.ndarray, rule: MaskRule
) -> None:
    """Write one mask into views of the label map and of the best probability so far."""
    bounds = bounding_block(inside)
    if bounds is None:
        return
    part = tuple(slice(a, b) for a, b in zip(*bounds, strict=True))
    labels, best, inside = labels[part], best[part], inside[part]
    value, probability = mask.vertebra.verse_label, mask.probability[part]
    wins = inside
    if rule.conflicts == "highest":
        equal = (probability == best) & (value < labels)
        wins = inside & ((probability > best) | equal)
    np.copyto(labels, value, where=wins)
    np.copyto(best, probability, where=wins)


def _block(start_zyx: tuple[int, int, int], shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(start_zyx, shape, strict=True))


@dataclass(frozen=True, slots=True)
class _Cleaned:
    """One vertebra before the others took their part: its block of the scan, voxels, loss, centre."""

    block: tuple[slice, ...] | None
    n_voxels: int
    dropped_part: float
    landmark_mm: Point | None


def _report(merged: Volume, best: np.ndarray, vertebra: Vertebra, cleaned: _Cleaned) -> MaskReport:
    """Measure one vertebra in the final label map."""
    if cleaned.block is None:
        return MaskReport(vertebra, 0, 0.0, problems=("the mask is empty",))
    mask = merged.array[cleaned.block] == vertebra.verse_label
    n_voxels = int(np.count_nonzero(mask))
    if not n_voxels:
        problem = "everything was taken by its neighbours"
        return MaskReport(vertebra, 0, 0.0, cleaned.dropped_part, 1.0, problems=(problem,))
    voxel_ml = merged.grid.voxel_mm3 / 1000
    report = MaskReport(
        vertebra,
        n_voxels,
        n_voxels * voxel_ml,
        cleaned.dropped_part,
        1 - n_voxels / cleaned.n_voxels,
        float(best[cleaned.block][mask].astype(np.float64).mean()),
    )
    points_zyx = np.argwhere(mask) + [axis.start for axis in cleaned.block]
    problems, remarks = _problems(report, merged.grid, points_zyx, cleaned)
    return replace(report, problems=problems, remarks=remarks)


def _problems(
    report: MaskReport, grid: Grid, points_zyx: np.ndarray, cleaned: _Cleaned
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what a person should look at, and what is merely worth knowing.

    A vertebra that a face of the scan cuts is never whole, and of C1 a piece of skull is rightly dropped;
    nothing can be done about either.
    """
    problems, remarks = [], []
    low, high = PLAUSIBLE_ML[report.vertebra.region]
    cut = bool(np.any(points_zyx == 0) or np.any(points_zyx == np.array(grid.shape) - 1))
    if report.volume_ml > high or (report.volume_ml < low and not cut):
        problems.append(f"{report.volume_ml:.1f} ml, expected {low:g} to {high:g} ml")
    if report.dropped_part > LARGE_PART:
        remarks.append(f"{report.dropped_part:.0%} of the mask lay apart and was dropped")
    if report.lost_part > LARGE_PART:
        told = remarks if cut else problems
        told.append(f"{report.lost_part:.0%} of the mask went to its neighbours")
    if cleaned.landmark_mm is not None:
        points = grid.map_indices_to_world(points_zyx)
        distance = float(np.linalg.norm(points - cleaned.landmark_mm, axis=1).min())
        if distance > NEAR_LANDMARK_MM:
            told = remarks if cut else problems
            told.append(f"the mask begins {distance:.0f} mm from its landmark")
    return tuple(problems), tuple(remarks)
