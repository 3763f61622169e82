"""Candidates: sub-voxel local maxima of label heatmaps, in the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from payerseg.config.graph import DecoderSpec
from payerseg.domain.landmarks import Point
from payerseg.domain.volume import Volume

TRUNCATE_SIGMAS = 4.0
"""Where the sampled Gaussian ends, in sigmas (REFERENCE §4.1; scipy's own default)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place where one label's heatmap peaks.

    Attributes:
        channel: whose heatmap, 0..25.
        position_mm: LPS (x, y, z).
        value: smoothed heat of that channel there.
        channel_values: smoothed heat of all channels there; () when only peaks are known.
    """

    channel: int
    position_mm: Point
    value: float
    channel_values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PeakRule:
    """How maxima are found.

    Attributes:
        sigma_mm: Gaussian smoothing before the search.
        threshold: keep maxima whose smoothed value is larger.
        at_border: whether a voxel on the array's face can be a maximum.
        refine_raw: sub-voxel parabola through the unsmoothed heat and unbounded (REFERENCE §4.1, Q28);
            else through the smoothed heat and at most one voxel.
        with_channels: also note the heat of all channels at each maximum.
        peak_scale: values are multiplied by this. `ideal_peak_scale` makes a perfect target's peak 1,
            so that thresholds mean the same for every target width.
    """

    sigma_mm: float = 4.0
    threshold: float = 0.05
    at_border: bool = True
    refine_raw: bool = False
    with_channels: bool = True
    peak_scale: float = 1.0


REFERENCE_PEAKS = PeakRule(at_border=False, refine_raw=True, with_channels=False)


def ideal_peak_scale(target_sigma_mm: float, sigma_mm: float) -> float:
    """Return what undoes the smoothing's loss at the peak of a Gaussian target of height 1."""
    return float((1 + (sigma_mm / target_sigma_mm) ** 2) ** 1.5)


def peak_rule(spec: DecoderSpec, target_sigma_mm: float) -> PeakRule:
    """Return the rule of the default decoder for a network trained on targets of one width."""
    scale = ideal_peak_scale(target_sigma_mm, spec.candidate_sigma_mm)
    return PeakRule(spec.candidate_sigma_mm, spec.candidate_threshold, peak_scale=scale)


def heatmap_candidates(heatmaps: Volume, rule: PeakRule | None = None) -> list[Candidate]:
    """Find the candidates of every channel.

    Args:
        heatmaps: (z, y, x, channel), float.
        rule: how; left out = `PeakRule()`.

    Returns:
        By channel, strongest first.
    """
    rule = rule or PeakRule()
    sigma_zyx = rule.sigma_mm / np.asarray(heatmaps.grid.spacing_mm[::-1])
    threshold = rule.threshold / rule.peak_scale
    reach = np.floor(TRUNCATE_SIGMAS * sigma_zyx + 0.5).astype(int)
    found = []
    for channel, block in _blocks_above(heatmaps.array, threshold, 2 * reach + 2):
        for voxel, refined, value in _channel_peaks(heatmaps, channel, block, rule):
            others = _channels_at(heatmaps.array, voxel, sigma_zyx) if rule.with_channels else ()
            point = heatmaps.grid.map_indices_to_world(refined[None])[0]
            found.append(
                Candidate(
                    channel,
                    tuple(point.tolist()),
                    float(value * rule.peak_scale),
                    tuple(float(v * rule.peak_scale) for v in others),
                )
            )
    return found


Peak = tuple[np.ndarray, np.ndarray, float]


def _blocks_above(
    array: np.ndarray, threshold: float, margin_zyx: np.ndarray
) -> list[tuple[int, tuple[slice, slice, slice]]]:
    """Return (channel, block) for every channel with voxels above the threshold, with a margin.

    One pass over the memory for all channels: looking at them one by one reads it 26 times.
    """
    above = array > threshold
    rows = np.asarray(above.any(axis=2))
    hits_zyx = [
        np.asarray(hits) for hits in (rows.any(axis=1), rows.any(axis=0), above.any(axis=(0, 1)))
    ]
    blocks = []
    for channel in np.flatnonzero(hits_zyx[0].any(axis=0)):
        block = []
        for hits, margin in zip(hits_zyx, margin_zyx, strict=True):
            inside = np.flatnonzero(hits[:, channel])
            block.append(slice(max(0, int(inside[0]) - margin), int(inside[-1]) + 1 + margin))
        blocks.append((int(channel), tuple(block)))
    return blocks


def _channel_peaks(
    heatmaps: Volume, channel: int, block: tuple[slice, slice, slice], rule: PeakRule
) -> list[Peak]:
    """Return (voxel zyx, refined zyx, smoothed value) of one channel, strongest first.

    Only the block around voxels above the threshold is smoothed: a Gaussian average exceeds the
    threshold only where some voxel within its reach does.
    """
    sigma_zyx = rule.sigma_mm / np.asarray(heatmaps.grid.spacing_mm[::-1])
    start = np.array([axis.start for axis in block])
    raw = np.ascontiguousarray(heatmaps.array[(*block, channel)], dtype=np.float32)
    smooth = ndimage.gaussian_filter(raw, sigma_zyx, mode="nearest", truncate=TRUNCATE_SIGMAS)
    voxels = _strict_maxima(smooth, rule.threshold / rule.peak_scale)
    if not rule.at_border:
        last = np.array(heatmaps.grid.shape) - 1
        voxels = voxels[np.all((voxels + start > 0) & (voxels + start < last), axis=1)]
    values = smooth[tuple(voxels.T)]
    order = np.argsort(-values, kind="stable")
    source, limit = (raw, np.inf) if rule.refine_raw else (smooth, 1.0)
    return [
        (voxel + start, voxel + start + _parabola_shift(source, voxel, limit), float(value))
        for voxel, value in zip(voxels[order], values[order], strict=True)
    ]


def _strict_maxima(smooth: np.ndarray, threshold: float) -> np.ndarray:
    """Return (n, 3) voxels above the threshold and above all of their up to 26 neighbours."""
    neighbours = np.ones((3, 3, 3), bool)
    neighbours[1, 1, 1] = False
    highest = ndimage.maximum_filter(smooth, footprint=neighbours, mode="constant", cval=-np.inf)
    return np.argwhere((smooth > highest) & (smooth > threshold))


def _parabola_shift(values: np.ndarray, voxel: np.ndarray, limit: float) -> np.ndarray:
    """Return the offset (z, y, x) of the parabola's top through the neighbours along each axis."""
    shift = np.zeros(3)
    for axis in range(3):
        if not 0 < voxel[axis] < values.shape[axis] - 1:
            continue
        step = np.eye(3, dtype=int)[axis]
        before, here, after = (float(values[tuple(voxel + k * step)]) for k in (-1, 0, 1))
        bend = before - 2 * here + after
        if bend != 0:
            shift[axis] = np.clip(0.5 * (before - after) / bend, -limit, limit)
    return shift


def _channels_at(array: np.ndarray, voxel: np.ndarray, sigma_zyx: np.ndarray) -> np.ndarray:
    """Return the smoothed heat of every channel at one voxel, as `gaussian_filter` would give it."""
    patch = array
    weights = []
    for axis in range(3):
        reach = int(TRUNCATE_SIGMAS * sigma_zyx[axis] + 0.5)
        offsets = np.arange(-reach, reach + 1)
        weight = np.exp(-0.5 * (offsets / max(sigma_zyx[axis], 1e-6)) ** 2)
        inside = np.clip(voxel[axis] + offsets, 0, array.shape[axis] - 1)
        patch = np.take(patch, inside, axis=axis)
        weights.append(weight / weight.sum())
    return np.einsum("zyxc,z,y,x->c", patch, *weights, optimize=True)
