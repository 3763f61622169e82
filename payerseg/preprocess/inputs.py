"""The three networks' inputs: a scan sampled onto each network's frame, then `channels`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from payerseg.config.model_card import SamplingSpec
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks, Point
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.volume import Volume
from payerseg.imaging.regions import smooth_mm
from payerseg.imaging.resample import crop_to_cover, resample, sample_smoothly
from payerseg.preprocess.channels import (
    heat_reach_sigmas,
    normalized,
    with_closeness_maps,
    with_point_heatmap,
)
from payerseg.preprocess.frames import spine_frame, vertebra_frame, vertebrae_frame

REFERENCE_CLAMP_HU = (-1024, 8192)


def smooth_in_steps(ct: Volume, sigmas_mm: tuple[float, ...]) -> Volume:
    """Smooth as the reference does (REFERENCE §1): all but the last step are kept as files there.

    A file step smooths, truncates toward zero to int16, then clamps to [-1024, 8192]. The last step
    clamps below at -1024, smooths, and stays float32.

    Args:
        ct: (z, y, x) HU.
        sigmas_mm: one per step; () returns the CT as it is.
    """
    if not sigmas_mm:
        return ct
    for sigma in sigmas_mm[:-1]:
        ct = smooth_to_file(ct, sigma)
    raised = np.maximum(ct.array, ct.array.dtype.type(REFERENCE_CLAMP_HU[0]))
    return smooth_mm(ct.with_array(raised), sigmas_mm[-1])


def smooth_to_file(ct: Volume, sigma_mm: float) -> Volume:
    """Return the reference's pre-processed image: smoothed, truncated toward zero, clamped, int16."""
    truncated = np.trunc(smooth_mm(ct, sigma_mm).array)
    return ct.with_array(np.clip(truncated, *REFERENCE_CLAMP_HU).astype(np.int16))


_REACH_SIGMAS = 8.0


def spine_input(ct: Volume, sampling: SamplingSpec) -> Volume:
    """Return stage 1's input (z, y, x), float32: the whole scan, coarse."""
    return network_input(ct, spine_frame(ct.grid, sampling), sampling)


def vertebrae_input(ct: Volume, box: SpineBox, sampling: SamplingSpec) -> Volume:
    """Return stage 2's input (z, y, x), float32: the spine box with its margin."""
    return network_input(ct, vertebrae_frame(ct.grid, box, sampling), sampling)


def vertebra_input(ct: Volume, point_mm: Point, sampling: SamplingSpec) -> Volume:
    """Return stage 3's input (z, y, x, 2), float32: the crop and the point heatmap, in that order."""
    image = network_input(ct, vertebra_frame(point_mm, sampling), sampling)
    return with_point_heatmap(image, point_mm, sampling.sigma_mm, heat_reach_sigmas(sampling))


def vertebra_inputs(ct: Volume, landmarks: Landmarks, sampling: SamplingSpec) -> Iterator[Volume]:
    """Yield stage 3's input for each landmark, head to foot."""
    for mark in landmarks.values():
        yield vertebra_input(ct, mark.position_mm, sampling)


def network_input(ct: Volume, frame: Grid, sampling: SamplingSpec) -> Volume:
    """Sample HU onto a frame as the card says and normalise, float32."""
    if sampling.smoothing_mm:
        ct = _smoothed_where_seen(ct, frame, sampling.smoothing_mm)
    sample = sample_smoothly if sampling.antialias == "box" else resample
    sampled = sample(ct, frame, outside=sampling.outside_hu)
    return sampled.with_array(normalized(sampled.array, sampling.window))


def _smoothed_where_seen(ct: Volume, frame: Grid, sigmas_mm: tuple[float, ...]) -> Volume:
    """Smooth only the block that the frame sees; beyond `_REACH_SIGMAS` a Gaussian is below 1e-12."""
    reach_mm = _REACH_SIGMAS * sum(sigmas_mm)
    reach_voxels = int(np.ceil(reach_mm / min(ct.grid.spacing_mm))) + 2
    block = crop_to_cover(ct, frame, reach_voxels)
    return ct if block is None else smooth_in_steps(block, sigmas_mm)


def labels_frame(scan: Grid, landmarks: Landmarks, sampling: SamplingSpec) -> Grid:
    """Return the grid on which all vertebrae are segmented at once.

    The box around the landmarks (a person may have moved them), grown by the card's margin and
    clipped to the scan. Patches of the network's size cover it.

    Args:
        scan: the prepared scan's grid.
        landmarks: at least one.
        sampling: of the stage-3 card.
    """
    return vertebrae_frame(scan, SpineBox.around(landmarks.positions_mm), sampling)


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
    channels = np.array([vertebra.channel for vertebra in landmarks], int)
    image = network_input(ct, frame, sampling)
    return with_closeness_maps(image, channels, landmarks.positions_mm, n_maps)
