"""Surfaces whose area and distance are known on paper."""

import numpy as np
import pytest

from payerseg.evaluation.mask_scores import _elements, score_surfaces


def ball(radius_mm, spacing_zyx=(1.0, 1.0, 1.0), shape=(50, 50, 50)):
    centre = (np.array(shape) - 1) / 2
    where = (np.moveaxis(np.indices(shape), 0, -1) - centre) * spacing_zyx
    return np.linalg.norm(where, axis=-1) < radius_mm


def area_mm2(mask, spacing_zyx):
    return _elements(np.pad(mask, 1), spacing_zyx)[1].sum()


@pytest.mark.parametrize("spacing", [(1, 1, 1), (2.0, 1, 1), (0.8, 1.2, 1.0)])
def test_area_of_a_ball(spacing):
    """Marching cubes on a binary ball overestimates by up to 10 %: its steps are real."""
    area = area_mm2(ball(15, spacing), spacing)
    assert 1.0 < area / (4 * np.pi * 15**2) < 1.12


def test_area_of_a_slab_is_exact_inside():
    mask = np.zeros((20, 40, 40), bool)
    mask[5:15, 5:35, 5:35] = True
    area = area_mm2(mask, (3.0, 1.0, 1.0))
    assert area == pytest.approx(2 * 30 * 30 + 4 * 30 * 30, rel=0.04)


def test_concentric_balls():
    scores = score_surfaces(ball(12), ball(16), (1.0, 1.0, 1.0))
    # the cells that a surface crosses are up to 1.7 mm thick, and the nearest one counts
    assert scores.assd_mm == pytest.approx(4.0, abs=0.6)
    assert scores.hd95_mm == pytest.approx(4.0, abs=0.6)
    assert scores.surface_dice[3.0] < 0.2


def test_symmetric():
    a, b = ball(12), np.roll(ball(10), 3, axis=0)
    one, other = score_surfaces(a, b, (1, 1, 2)), score_surfaces(b, a, (1, 1, 2))
    assert one.hausdorff_mm == other.hausdorff_mm
    assert one.hd95_mm == other.hd95_mm
    assert one.assd_mm == pytest.approx(other.assd_mm)
    assert one.surface_dice == pytest.approx(other.surface_dice)


def test_tolerance_is_inclusive():
    a = np.zeros((12, 12, 12), bool)
    a[4:8, 4:8, 4:8] = True
    scores = score_surfaces(a, np.roll(a, 1, axis=0), (1.0, 1.0, 1.0))
    assert scores.surface_dice[1.0] == pytest.approx(1.0)


def test_empty_mask_is_refused():
    with pytest.raises(ValueError, match="one is empty"):
        score_surfaces(np.zeros((3, 3, 3), bool), ball(3), (1, 1, 1))
