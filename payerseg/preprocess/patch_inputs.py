"""The input of a stage-3 network that answers all classes at once: image and landmark maps."""

from __future__ import annotations

import numpy as np

from payerseg.config.model_card import SamplingSpec
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks, Point
from payerseg.domain.volume import Volume
from payerseg.preprocess.frames import vertebra_frame
from payerseg.preprocess.inputs import network_input
from payerseg.preprocess.landmark_maps import closeness_maps, grid_axes


def patch_input(
    ct: Volume, point_mm: Point, landmarks: Landmarks, sampling: SamplingSpec, n_maps: int
) -> Volume:
    """Return a patch around a point (z, y, x, 1 + n_maps), float32: image, then landmark maps."""
    image = network_input(ct, vertebra_frame(point_mm, sampling), sampling)
    maps = landmark_maps(image.grid, landmarks, n_maps)
    return Volume(np.concatenate([image.array[..., None], maps], axis=-1), image.grid)


def landmark_maps(grid: Grid, landmarks: Landmarks, n_maps: int) -> np.ndarray:
    """Return `closeness_maps` on an axis-aligned isotropic grid, (z, y, x, n_maps)."""
    axes = grid_axes(grid.origin_mm, grid.shape, grid.spacing_mm[0])
    channels = np.array([vertebra.channel for vertebra in landmarks], int)
    return closeness_maps(channels, landmarks.positions_mm, axes, n_maps)
