"""What stage 3 hands on: which rule, one mask per vertebra, a record, and what a person must know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from payerseg.config.model_card import ModelCard
from payerseg.config.schema import VertebraeSegmentationConfig
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.postprocess.vertebra_masks import (
    PAYERSEG_MASKS,
    MaskRule,
    MergedMasks,
    VertebraProbability,
)


def mask_rule(config: VertebraeSegmentationConfig, card: ModelCard) -> MaskRule:
    """Return how probabilities become masks, with the threshold fitted to the weights unless asked."""
    if config.mask_rule == "reference":
        return PAYERSEG_MASKS
    threshold = card.mask_threshold if config.threshold is None else config.threshold
    return MaskRule(threshold, component=config.component, interpolation=config.interpolation)


def with_landmarks(
    probabilities: Iterable[Volume], landmarks: Landmarks
) -> Iterator[VertebraProbability]:
    """Join predictions with the landmarks they were made for, in the same order."""
    for mark, probability in zip(landmarks.values(), probabilities, strict=True):
        yield VertebraProbability(mark.vertebra, probability, mark.position_mm)


def single_masks(labels: Volume, extent: Literal["cropped", "full"]) -> dict[Vertebra, Volume]:
    """Return one 0/1 mask per vertebra that has voxels, cropped to it or on the whole grid."""
    masks = {}
    # One pass finds all blocks; comparing the whole scan once per vertebra takes seconds and gigabytes.
    boxes = ndimage.find_objects(labels.array)
    for vertebra in Vertebra:
        label = vertebra.verse_label
        box = boxes[label - 1] if label <= len(boxes) else None
        if box is None:
            continue
        inside = (labels.array[box] == label).astype(np.uint8)
        if extent == "full":
            whole = np.zeros(labels.grid.shape, np.uint8)
            whole[box] = inside
            masks[vertebra] = labels.with_array(whole)
        else:
            grid = labels.grid.window(tuple(axis.start for axis in box), inside.shape)
            masks[vertebra] = Volume(inside, grid)
    return masks


def masks_record(merged: MergedMasks) -> dict[str, Any]:
    """Return size, cleaning and problems of every mask as plain JSON values."""
    return {
        report.vertebra.name: {
            "label": report.vertebra.verse_label,
            "n_voxels": report.n_voxels,
            "volume_ml": round(report.volume_ml, 3),
            "dropped_part": round(report.dropped_part, 4),
            "lost_part": round(report.lost_part, 4),
            "mean_probability": round(report.mean_probability, 4),
            "problems": list(report.problems),
            "remarks": list(report.remarks),
        }
        for report in merged.reports
    }


def mask_warnings(merged: MergedMasks) -> list[str]:
    """Return what is wrong with the masks, one sentence each."""
    return [
        f"{report.vertebra.name}: {problem}"
        for report in merged.reports
        for problem in report.problems
    ]
