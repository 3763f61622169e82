"""How well masks overlap: Dice and volume per vertebra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from payerseg.domain.volume import Volume
from payerseg.errors import GridMismatch
from payerseg.evaluation.surface_scores import (
    SURFACE_DICE_MM,
    SurfaceScores,
    score_surfaces,
)

MARGIN_VOXELS = 2
"""Background around the cut-out block: surfaces need one voxel, two spare a second thought."""


@dataclass(frozen=True, slots=True)
class MaskScores:
    """One label of one scan.

    Attributes:
        label: VerSe label.
        dice: 2 |A∩B| / (|A|+|B|); 0 where the prediction lacks the label, or the truth does.
        volume_ml: predicted volume.
        true_volume_ml: true volume.
        surfaces: distances; None where either mask is empty, for then none exist.
    """

    label: int
    dice: float
    volume_ml: float
    true_volume_ml: float
    surfaces: SurfaceScores | None

    @property
    def volume_error(self) -> float | None:
        """(predicted - true) / true volume; None for a label that the truth lacks."""
        if self.true_volume_ml == 0:
            return None
        return (self.volume_ml - self.true_volume_ml) / self.true_volume_ml


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Return 2 |A∩B| / (|A|+|B|) of two boolean arrays of one shape; 1 where both are empty."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 1.0 if total == 0 else 2 * np.count_nonzero(a & b) / total


def score_masks(
    predicted: Volume,
    truth: Volume,
    labels: tuple[int, ...],
    *,
    surfaces: bool = True,
    tolerances_mm: tuple[float, ...] = SURFACE_DICE_MM,
) -> list[MaskScores]:
    """Score each label of two label maps on one grid.

    Args:
        predicted: (z, y, x) label map.
        truth: (z, y, x) label map on the same grid.
        labels: which to score; a label in neither map is skipped.
        surfaces: False leaves the distances out, which is ten times as fast.
        tolerances_mm: of the surface Dice.

    Raises:
        GridMismatch: the grids differ; resample the prediction first.
    """
    if not predicted.grid.same_space_as(truth.grid):
        msg = (
            f"the prediction's grid {predicted.grid} is not the truth's {truth.grid}; "
            "resample the prediction onto the truth (--resample) or score it where it was made"
        )
        raise GridMismatch(msg)
    voxel_ml = abs(np.linalg.det(truth.grid.matrix[:3, :3])) / 1000
    scores = []
    for label in labels:
        block = _block_around((predicted.array == label) | (truth.array == label))
        if block is None:
            continue
        a, b = predicted.array[block] == label, truth.array[block] == label
        volumes = np.count_nonzero(a) * voxel_ml, np.count_nonzero(b) * voxel_ml
        measured = None
        if surfaces and a.any() and b.any():
            spacing_zyx = truth.grid.spacing_mm[::-1]
            pad = MARGIN_VOXELS
            measured = score_surfaces(np.pad(a, pad), np.pad(b, pad), spacing_zyx, tolerances_mm)
        scores.append(MaskScores(label, dice(a, b), *volumes, measured))
    return scores


def _block_around(mask: np.ndarray) -> tuple[slice, ...] | None:
    """Return the smallest block that holds a mask, None where it is empty."""
    block = []
    for axis in range(3):
        others = tuple(k for k in range(3) if k != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        if hit.size == 0:
            return None
        block.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(block)
