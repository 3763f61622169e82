"""Stage 3's network over one scan: a probability for each vertebra that the landmarks name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from payerseg.config.model_card import ModelCard
from payerseg.config.schema import VertebraeSegmentationConfig
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.volume import Volume
from payerseg.errors import BundleError
from payerseg.inference.predictor import Predictor
from payerseg.inference.slabs import blend_in_slabs, plan_patches
from payerseg.postprocess.label_probabilities import label_probabilities
from payerseg.postprocess.mask_results import with_landmarks
from payerseg.postprocess.vertebra_masks import VertebraProbability
from payerseg.preprocess.inputs import vertebra_inputs
from payerseg.preprocess.patch_inputs import labels_frame, patch_inputs

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
