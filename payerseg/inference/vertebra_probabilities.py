"""Stage 3's network over one scan: a probability for each vertebra that the landmarks name.

26 classes over a whole spine at 1 mm are gigabytes; a slab as high as one patch is not. Patches come
in the order of `plan_patches`, from the region's first slice on; what no later patch reaches is final.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from payerseg.config.model_card import ModelCard
from payerseg.config.schema import VertebraeSegmentationConfig
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.volume import Volume
from payerseg.errors import BundleError
from payerseg.inference.predictor import Predictor
from payerseg.inference.tiles import Zyx, plan_tiles, tile_size, tile_weights
from payerseg.postprocess.label_probabilities import label_probabilities
from payerseg.postprocess.mask_results import with_landmarks
from payerseg.postprocess.vertebra_masks import VertebraProbability
from payerseg.preprocess.inputs import labels_frame, patch_inputs, vertebra_inputs


def plan_patches(
    predictor: Predictor, region: Grid, patch_zyx: Zyx, overlap: float = 0.25
) -> list[Grid]:
    """Return equal-sized windows that cover a region.

    Args:
        predictor: of the network; its memory bound may make patches smaller.
        region: sides are multiples of the network's multiple.
        patch_zyx: largest patch, voxels.
        overlap: least part of a patch shared with the next one along an axis.
    """
    largest = tuple(min(n, p) for n, p in zip(region.shape, patch_zyx, strict=True))
    patch = tile_size(largest, predictor.max_voxels, predictor.multiple)
    starts = plan_tiles(region.shape, patch, overlap, predictor.multiple)
    return [region.window(start, patch) for start in starts]


def blend_in_slabs(patches: Iterable[Volume], region: Grid) -> Iterator[Volume]:
    """Average overlapping patches with smooth weights and hand out what is final.

    Args:
        patches: predictions (z, y, x, channel) on the windows of `plan_patches`, in their order.
        region: which they cover.

    Yields:
        Slabs of the region without overlap, from its first slice to its last, float32.
    """
    total: np.ndarray | None = None
    first = 0
    for patch in patches:
        size, channels = patch.array.shape[:3], patch.array.shape[3]
        if total is None:
            window = tile_weights(size)[..., None]
            total = np.zeros((size[0], *region.shape[1:], channels + 1), np.float32)
        start = np.rint(region.map_world_to_indices(np.array([patch.grid.origin_mm]))[0])
        z, y, x = start.astype(int)
        if z > first:
            yield _slab(total[: z - first], region, first)
            _move_up(total, z - first)
            first = z
        place = total[:, y : y + size[1], x : x + size[2]]
        place[..., :-1] += patch.array * window
        place[..., -1:] += window
    if total is not None:
        yield _slab(total, region, first)


def _move_up(total: np.ndarray, n_slices: int) -> None:
    """Drop the first slices in place: a copy would double the memory."""
    kept = total.shape[0] - n_slices
    for i in range(kept):
        total[i] = total[i + n_slices]
    total[kept:] = 0


def _slab(total: np.ndarray, region: Grid, first: int) -> Volume:
    grid = region.window((first, 0, 0), total.shape[:3])
    return Volume(total[..., :-1] / total[..., -1:], grid)


TrackProgress = Callable[[Iterable[Volume], int], Iterable[Volume]]
"""Hands predictions on and may report how many of how many there are."""


def without_progress(predicted: Iterable[Volume], total: int) -> Iterable[Volume]:
    """Report nothing."""
    del total
    return predicted


def vertebra_probabilities(
    predictor: Predictor,
    card: ModelCard,
    config: VertebraeSegmentationConfig,
    ct: Volume,
    landmarks: Landmarks,
    track_progress: TrackProgress = without_progress,
) -> Iterator[VertebraProbability]:
    """Predict each vertebra in a crop of its own, or all at once, as the weights' card says.

    Args:
        predictor: of the card's network.
        card: says what the network puts out.
        config: batch and overlap of patches.
        ct: HU, canonical order.
        landmarks: at least one.
        track_progress: see `TrackProgress`.

    Yields:
        One probability for each landmark; only a few are in memory at a time.

    Raises:
        OutOfResources: the device's memory is too small.
    """
    if card.output == "label_probability":
        return _all_at_once(predictor, card, config, ct, landmarks, track_progress)
    crops = vertebra_inputs(ct, landmarks, card.sampling)
    predicted = predictor.predict_each(crops, config.batch)
    return with_landmarks(track_progress(predicted, len(landmarks)), landmarks)


def _all_at_once(
    predictor: Predictor,
    card: ModelCard,
    config: VertebraeSegmentationConfig,
    ct: Volume,
    landmarks: Landmarks,
    track_progress: TrackProgress,
) -> Iterator[VertebraProbability]:
    """Predict all classes in patches over the spine; they come apart afterwards."""
    sampling, channels = card.sampling, card.channels
    region = labels_frame(ct.grid, landmarks, sampling)
    if sampling.size_xyz is None:
        msg = f"the card of {card.stage} names no size_xyz; expected that of its patches"
        raise BundleError(msg)
    frames = plan_patches(predictor, region, sampling.size_xyz[::-1], config.patch_overlap)
    inputs = patch_inputs(ct, frames, landmarks, sampling, len(channels) - 1)
    predicted = track_progress(predictor.predict_each(inputs, config.batch), len(frames))
    return label_probabilities(blend_in_slabs(predicted, region), region, landmarks, channels)
