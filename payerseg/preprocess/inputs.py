"""The three networks' inputs. Stages, training and evaluation of networks use these; there is no second path."""

from __future__ import annotations

import numpy as np

from payerseg.config.model_card import SamplingSpec
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Point
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.volume import Volume
from payerseg.imaging.resample import resample, sample_smoothly
from payerseg.preprocess.frames import spine_frame, vertebra_frame, vertebrae_frame
from payerseg.preprocess.intensity import normalize_ct


def spine_input(ct: Volume, sampling: SamplingSpec) -> Volume:
    """Return stage 1's input (z, y, x), float32: the whole scan, coarse."""
    return network_input(ct, spine_frame(ct.grid, sampling), sampling)


def vertebrae_input(ct: Volume, box: SpineBox, sampling: SamplingSpec) -> Volume:
    """Return stage 2's input (z, y, x), float32: the spine box with its margin."""
    return network_input(ct, vertebrae_frame(ct.grid, box, sampling), sampling)


def vertebra_input(ct: Volume, point_mm: Point, sampling: SamplingSpec) -> Volume:
    """Return stage 3's input (z, y, x, 2), float32: the crop and the point heatmap, in that order."""
    image = network_input(ct, vertebra_frame(point_mm, sampling), sampling)
    heat = point_heatmap(image.grid, point_mm, sampling.sigma_mm)
    return Volume(np.stack([image.array, heat], axis=-1), image.grid)


def network_input(ct: Volume, frame: Grid, sampling: SamplingSpec) -> Volume:
    """Sample HU onto a frame as the card says and normalise, float32."""
    sample = sample_smoothly if sampling.antialias == "box" else resample
    return normalize_ct(sample(ct, frame, outside=sampling.outside_hu), sampling.window)


def point_heatmap(grid: Grid, point_mm: Point, sigma_mm: float) -> np.ndarray:
    """Return a Gaussian of peak 1 at a point, (z, y, x) float32, on an axis-aligned grid."""
    centre = grid.map_world_to_indices(np.array([point_mm]))[0]
    sigma = sigma_mm / np.asarray(grid.spacing_mm[::-1])
    axes = [
        np.exp(-0.5 * ((np.arange(n) - c) / s) ** 2)
        for n, c, s in zip(grid.shape, centre, sigma, strict=True)
    ]
    return (axes[0][:, None, None] * axes[1][:, None] * axes[2]).astype(np.float32)
