"""What stage 3 writes of its masks, and what it takes over of masks that a person corrected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from payerseg.config.model_card import ModelCard
from payerseg.config.schema import VertebraeSegmentationConfig
from payerseg.domain.grid import ROUNDED_VOXELS, Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import ArtifactError
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


Slices = tuple[slice, ...]


def on_grid(labels: Volume, grid: Grid) -> Volume:
    """Return a label map that a person's program may have written, on the prepared CT's grid.

    Raises:
        ArtifactError: it lies elsewhere.
    """
    if grid.voxels_apart(labels.grid) > ROUNDED_VOXELS:
        msg = (
            f"the edited label map lies on {labels.grid}, not on the scan's {grid}; save it on the scan's "
            "grid, or delete it and run again"
        )
        raise ArtifactError(msg)
    return Volume(labels.array.astype(np.uint8), grid)


def differing(labels: Volume, masks: Mapping[Vertebra, Volume]) -> dict[Vertebra, Slices]:
    """Return the vertebrae whose single mask is not what the map holds, with their mask's block.

    A vertebra without a single mask does not differ: a file that is gone is no correction.

    Raises:
        ArtifactError: a mask does not lie on the grid of the map.
    """
    found = {}
    for vertebra, mask in masks.items():
        block = _block(labels.grid, mask, vertebra)
        own = labels.array == vertebra.verse_label
        same = np.array_equal(own[block], mask.array != 0)
        if not same or np.count_nonzero(own) != np.count_nonzero(mask.array):
            found[vertebra] = block
    return found


def with_masks(
    labels: Volume, masks: Mapping[Vertebra, Volume], blocks: Mapping[Vertebra, Slices]
) -> Volume:
    """Return the map with the single masks of some vertebrae in place of what it held of them.

    Args:
        labels: (z, y, x) VerSe labels.
        masks: of 0 and 1.
        blocks: which vertebrae, and where their masks lie, as `differing` gives them.

    Raises:
        ArtifactError: two of the masks overlap.
    """
    array, taken = labels.array.copy(), np.zeros(labels.array.shape, bool)
    for vertebra in blocks:
        array[labels.array == vertebra.verse_label] = 0
    for vertebra, block in blocks.items():
        inside = masks[vertebra].array != 0
        if np.any(taken[block] & inside):
            msg = f"the edited mask of {vertebra.name} overlaps with another one; take one of them back"
            raise ArtifactError(msg)
        array[block][inside] = vertebra.verse_label
        taken[block] |= inside
    return labels.with_array(array)


def edited_record(
    record: Mapping[str, Any], labels: Volume, changed: frozenset[Vertebra]
) -> dict[str, Any]:
    """Return the content of masks.json for an edited map: what a person changed is theirs, and sure.

    Args:
        record: as it was.
        labels: the map now; a vertebra that it lacks is taken out.
        changed: known to have changed; others are if their number of voxels did.
    """
    counts = np.bincount(labels.array.ravel(), minlength=256)
    voxel_ml = labels.grid.voxel_mm3 / 1000
    entries = {}
    for vertebra in Vertebra:
        n_voxels, entry = int(counts[vertebra.verse_label]), record.get(vertebra.name)
        if n_voxels == 0:
            continue
        if entry is not None and vertebra not in changed and entry.get("n_voxels") == n_voxels:
            entries[vertebra.name] = entry
            continue
        entries[vertebra.name] = {
            "label": vertebra.verse_label,
            "n_voxels": n_voxels,
            "volume_ml": round(n_voxels * voxel_ml, 3),
            "dropped_part": 0.0,
            "lost_part": 0.0,
            "mean_probability": 1.0,
            "problems": [],
            "by_hand": True,
        }
    return entries


def _block(grid: Grid, mask: Volume, vertebra: Vertebra) -> Slices:
    """Return where a mask's block lies in the grid of the map."""
    start = grid.map_world_to_indices(mask.grid.origin_mm)[0]
    low = np.rint(start).astype(int)
    high = low + mask.grid.shape
    window = grid.window(tuple(low), mask.grid.shape)
    inside = np.all(low >= 0) and np.all(high <= grid.shape)
    if not inside or window.voxels_apart(mask.grid) > ROUNDED_VOXELS:
        msg = f"the mask of {vertebra.name} does not lie on the voxels of the label map beside it"
        raise ArtifactError(msg)
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))
