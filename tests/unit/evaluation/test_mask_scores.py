"""Overlap per label on known shapes."""

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.errors import GridMismatch
from payerseg.evaluation.mask_scores import dice, score_masks

GRID = Grid((20, 20, 20), (1.0, 1.0, 2.0))


def boxes(**spans):
    array = np.zeros(GRID.shape, np.uint8)
    for name, (low, high) in spans.items():
        array[low:high, 5:15, 5:15] = int(name[1:])
    return Volume(array, GRID)


def test_dice_volume_and_surfaces_of_boxes():
    truth, predicted = boxes(l20=(2, 10)), boxes(l20=(4, 12))
    (score,) = score_masks(predicted, truth, (19, 20, 21))
    assert score.dice == pytest.approx(0.75)
    assert score.true_volume_ml == pytest.approx(8 * 100 * 2 / 1000)
    assert score.volume_error == 0
    assert score.surfaces.hausdorff_mm == pytest.approx(4.0)
    assert score.surfaces.surface_dice[1.0] < 1


def test_label_missing_on_one_side():
    missing, invented = score_masks(boxes(l21=(1, 5)), boxes(l20=(1, 5)), (20, 21))
    assert (missing.label, missing.dice, missing.surfaces) == (20, 0.0, None)
    assert missing.volume_error == -1
    assert (invented.dice, invented.volume_error) == (0.0, None)


def test_surfaces_can_be_left_out():
    (score,) = score_masks(boxes(l20=(1, 5)), boxes(l20=(1, 5)), (20,), surfaces=False)
    assert (score.dice, score.surfaces) == (1.0, None)


def test_mask_at_the_face_of_the_scan_has_a_closed_surface():
    (score,) = score_masks(boxes(l20=(0, 20)), boxes(l20=(0, 20)), (20,))
    assert score.surfaces.hd95_mm == 0


def test_other_grid_is_refused():
    moved = Volume(boxes(l20=(1, 5)).array, Grid(GRID.shape, GRID.spacing_mm, (5, 0, 0)))
    with pytest.raises(GridMismatch, match="--resample"):
        score_masks(moved, boxes(l20=(1, 5)), (20,))


def test_dice_of_two_empty_masks_is_one():
    empty = np.zeros((2, 2, 2), bool)
    assert dice(empty, empty) == 1.0
