"""From the coarse spine heatmap to the box around the spine."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from payerseg.config.schema import SpineLocalizationConfig
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.volume import Volume
from payerseg.errors import SpineNotFound
from payerseg.imaging.regions import bounding_block, largest_component

MIN_VOLUME_ML = 8.0
"""Less than half of one small vertebra's heat (16 voxels of 8 mm) is not a spine."""

METAL_HU = 2400
"""Hardly any bone is brighter (enamel is); titanium is, and what is brighter than a scanner's range."""
METAL_ML = 1.0


@dataclass(frozen=True, slots=True)
class BoxRule:
    """How the heatmap becomes a box.

    Attributes:
        threshold: part of the heatmap's peak that belongs to the spine.
        min_peak: a heatmap that peaks below holds no spine.
        min_volume_ml: a spine takes at least this much of the thresholded heatmap.
        join_part: further components of at least this part of the largest one's size belong to the
            spine too (an implant may cut its heat in two); a box too large costs time, one too small
            costs vertebrae. Infinity keeps the largest only.
        whole_voxels: the box reaches to the voxels' outer faces; else to their centres, one voxel
            short, as the reference's (REFERENCE §3).
    """

    threshold: float = 0.3
    min_peak: float = 0.2
    min_volume_ml: float = MIN_VOLUME_ML
    join_part: float = 0.25
    whole_voxels: bool = True


REFERENCE_BOX = BoxRule(0.5, min_peak=0.0, min_volume_ml=0.0, join_part=np.inf, whole_voxels=False)


def box_rule(config: SpineLocalizationConfig) -> BoxRule:
    """Return how the user wants the heatmap to become a box."""
    rule = REFERENCE_BOX if config.box == "reference" else BoxRule()
    return replace(rule, threshold=config.threshold, min_peak=config.min_peak)


def find_spine_box(
    heatmap: Volume, threshold: float = 0.3, min_peak: float = 0.2, *, rule: BoxRule | None = None
) -> SpineBox:
    """Return the box around the heat's large connected parts.

    Args:
        heatmap: (z, y, x), any grid; peak 1 for a spine the network is sure of.
        threshold: part of the peak that belongs to the spine.
        min_peak: smallest peak of a spine.
        rule: all settings at once, instead of the two above; `REFERENCE_BOX` for the reference's.

    Raises:
        SpineNotFound: the heat is not finite, too low, or too small a region; says the numbers.
    """
    rule = rule or BoxRule(threshold, min_peak)
    heat = heatmap.array
    peak = float(np.max(heat)) if np.all(np.isfinite(heat)) else float("nan")
    if not (peak > 0 and peak >= rule.min_peak):
        msg = (
            f"the spine heatmap peaks at {peak:.3g}, expected more than 0 and at least "
            f"{rule.min_peak:g}; "
            "is the scan a CT in Hounsfield units that shows a spine?"
        )
        raise SpineNotFound(msg)
    spine = _large_components(heat > rule.threshold * peak, rule.join_part)
    volume_ml = float(spine.sum()) * heatmap.grid.voxel_mm3 / 1000
    block = bounding_block(spine)
    if block is None or volume_ml < rule.min_volume_ml:
        msg = (
            f"the spine heatmap (peak {peak:.3g}) marks {volume_ml:.1f} ml, expected at least "
            f"{rule.min_volume_ml:g} ml; is there a vertebra in the scan?"
        )
        raise SpineNotFound(msg)
    start, stop = block
    pad = 0.5 if rule.whole_voxels else 0.0
    return _box_of(heatmap, np.array(start, float), np.array(stop, float) - 1, pad)


def why_unnamed(ct: Volume, box: SpineBox) -> tuple[str, ...]:
    """Say why a spine that was seen and not named is for a person to look at.

    Args:
        ct: (z, y, x) HU, the prepared CT.
        box: around what was seen.
    """
    reasons = ["a spine was seen in the scan, but no vertebra of it could be named"]
    corners = ct.grid.map_world_to_indices(np.stack([box.low_mm, box.high_mm]))
    low, high = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
    part = ct.array[tuple(slice(max(a, 0), b + 1) for a, b in zip(low, high, strict=True))]
    voxel_ml = ct.grid.voxel_mm3 / 1000
    metal_ml = np.count_nonzero(part >= METAL_HU) * voxel_ml
    if metal_ml >= METAL_ML:
        reasons.append(f"{metal_ml:.0f} ml of metal (from {METAL_HU} HU) hide it")
    return tuple(reasons)


def _large_components(mask: np.ndarray, join_part: float) -> np.ndarray:
    spine = largest_component(mask, 26)
    least = join_part * np.count_nonzero(spine)
    rest = mask & ~spine
    while np.any(rest):
        component = largest_component(rest, 26)
        if np.count_nonzero(component) < least:
            break
        spine |= component
        rest &= ~component
    return spine


def _box_of(
    heatmap: Volume, first_zyx: np.ndarray, last_zyx: np.ndarray, pad_voxels: float
) -> SpineBox:
    """Return the world box around the block of voxels `first_zyx` to `last_zyx`, both inside."""
    ends = zip(first_zyx - pad_voxels, last_zyx + pad_voxels, strict=True)
    corners_zyx = np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1).T
    corners = heatmap.grid.map_indices_to_world(corners_zyx)
    return SpineBox(tuple(corners.min(axis=0)), tuple(corners.max(axis=0)))
