"""The input of a stage-3 network that answers all classes at once: image and landmark maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from payerseg.config.model_card import SamplingSpec
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.volume import Volume
from payerseg.preprocess.frames import vertebrae_frame
from payerseg.preprocess.inputs import network_input
from payerseg.preprocess.landmark_maps import closeness_maps, grid_axes


def labels_frame(scan: Grid, landmarks: Landmarks, sampling: SamplingSpec) -> Grid:
    """Return the grid on which all vertebrae are segmented at once.

    The box around the landmarks (a person may have moved them), grown by the card's margin and
    clipped to the scan. Patches of the network's size cover it.

    Args:
        scan: the prepared scan's grid.
        landmarks: at least one.
        sampling: of the stage-3 card.
    """
    points = landmarks.positions_mm
    box = SpineBox(tuple(points.min(axis=0)), tuple(points.max(axis=0)))
    return vertebrae_frame(scan, box, sampling)


def patch_inputs(
    ct: Volume,
    frames: Iterable[Grid],
    landmarks: Landmarks,
    sampling: SamplingSpec,
    n_maps: int,
) -> Iterator[Volume]:
    """Yield the network's input on each frame, in their order."""
    for frame in frames:
        yield patch_input(ct, frame, landmarks, sampling, n_maps)


def patch_input(
    ct: Volume, frame: Grid, landmarks: Landmarks, sampling: SamplingSpec, n_maps: int
) -> Volume:
    """Return the network's input on a frame (z, y, x, 1 + n_maps), float32: image, landmark maps."""
    image = network_input(ct, frame, sampling)
    maps = landmark_maps(image.grid, landmarks, n_maps)
    return Volume(np.concatenate([image.array[..., None], maps], axis=-1), image.grid)


def landmark_maps(grid: Grid, landmarks: Landmarks, n_maps: int) -> np.ndarray:
    """Return `closeness_maps` on an axis-aligned isotropic grid, (z, y, x, n_maps)."""
    axes = grid_axes(grid.origin_mm, grid.shape, grid.spacing_mm[0])
    channels = np.array([vertebra.channel for vertebra in landmarks], int)
    return closeness_maps(channels, landmarks.positions_mm, axes, n_maps)
