"""The three networks' inputs. Stages, training and evaluation use these; there is no second path."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from payerseg.config.model_card import SamplingSpec
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks, Point
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.volume import Volume
from payerseg.imaging.resample import crop_to_cover, resample, sample_smoothly
from payerseg.preprocess.frames import spine_frame, vertebra_frame, vertebrae_frame
from payerseg.preprocess.intensity import normalize_ct, smooth_in_steps

_REACH_SIGMAS = 8.0
_REFERENCE_REACH_SIGMAS = 2.5


def spine_input(ct: Volume, sampling: SamplingSpec) -> Volume:
    """Return stage 1's input (z, y, x), float32: the whole scan, coarse."""
    return network_input(ct, spine_frame(ct.grid, sampling), sampling)


def vertebrae_input(ct: Volume, box: SpineBox, sampling: SamplingSpec) -> Volume:
    """Return stage 2's input (z, y, x), float32: the spine box with its margin."""
    return network_input(ct, vertebrae_frame(ct.grid, box, sampling), sampling)


def vertebra_input(ct: Volume, point_mm: Point, sampling: SamplingSpec) -> Volume:
    """Return stage 3's input (z, y, x, 2), float32: the crop and the point heatmap, in that order."""
    image = network_input(ct, vertebra_frame(point_mm, sampling), sampling)
    reach = _REFERENCE_REACH_SIGMAS if sampling.size_rule == "reference" else np.inf
    heat = point_heatmap(image.grid, point_mm, sampling.sigma_mm, reach_sigmas=reach)
    return Volume(np.stack([image.array, heat], axis=-1), image.grid)


def vertebra_inputs(ct: Volume, landmarks: Landmarks, sampling: SamplingSpec) -> Iterator[Volume]:
    """Yield stage 3's input for each landmark, head to foot."""
    for mark in landmarks.values():
        yield vertebra_input(ct, mark.position_mm, sampling)


def network_input(ct: Volume, frame: Grid, sampling: SamplingSpec) -> Volume:
    """Sample HU onto a frame as the card says and normalise, float32."""
    if sampling.smoothing_mm:
        ct = _smoothed_where_seen(ct, frame, sampling.smoothing_mm)
    sample = sample_smoothly if sampling.antialias == "box" else resample
    return normalize_ct(sample(ct, frame, outside=sampling.outside_hu), sampling.window)


def _smoothed_where_seen(ct: Volume, frame: Grid, sigmas_mm: tuple[float, ...]) -> Volume:
    """Smooth only the block that the frame sees; beyond `_REACH_SIGMAS` a Gaussian is below 1e-12."""
    reach_mm = _REACH_SIGMAS * sum(sigmas_mm)
    reach_voxels = int(np.ceil(reach_mm / min(ct.grid.spacing_mm))) + 2
    block = crop_to_cover(ct, frame, reach_voxels)
    return ct if block is None else smooth_in_steps(block, sigmas_mm)


def point_heatmap(
    grid: Grid, point_mm: Point, sigma_mm: float, *, reach_sigmas: float = np.inf
) -> np.ndarray:
    """Return a Gaussian of peak 1 at a point, (z, y, x) float32, on an axis-aligned grid.

    Args:
        grid: where; its voxels need not hold the point.
        point_mm: LPS (x, y, z), not rounded to a voxel.
        sigma_mm: of the Gaussian.
        reach_sigmas: zero outside a box of so many sigmas to each side, bounds truncated to whole
            voxels (REFERENCE §3, stage 3).
    """
    centre = grid.map_world_to_indices(np.array([point_mm]))[0]
    sigma = sigma_mm / np.asarray(grid.spacing_mm[::-1])
    axes = []
    for n, c, s in zip(grid.shape, centre, sigma, strict=True):
        index = np.arange(n)
        seen = (index >= np.trunc(c - reach_sigmas * s)) & (index < np.trunc(c + reach_sigmas * s))
        axes.append(np.where(seen, np.exp(-0.5 * ((index - c) / s) ** 2), 0.0))
    return (axes[0][:, None, None] * axes[1][:, None] * axes[2]).astype(np.float32)
