"""Masks that a person corrected: merged map and single masks brought in step, and what changed told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from payerseg.domain.grid import ROUNDED_VOXELS, Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import ArtifactError

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
    voxel_ml = abs(float(np.linalg.det(labels.grid.matrix[:3, :3]))) / 1000
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
