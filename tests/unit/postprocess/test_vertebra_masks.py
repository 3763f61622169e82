import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.postprocess.vertebra_masks import (
    MaskRule,
    VertebraProbability,
    clean_mask,
    merge_masks,
)

SCAN = Grid((60, 70, 70), (1.5, 1.5, 2.0), (-50.0, 20.0, 700.0))


def ball(vertebra, center_mm, radius_mm=14.0, size=48, height=0.95, specks=()):
    """A soft ball of probability on a 1 mm crop around its centre."""
    origin = np.asarray(center_mm) - (size - 1) / 2
    grid = Grid((size, size, size), (1.0, 1.0, 1.0), tuple(origin))
    world = grid.map_indices_to_world(np.indices(grid.shape).reshape(3, -1).T)
    distance = np.linalg.norm(world - center_mm, axis=1).reshape(grid.shape)
    probability = height / (1 + np.exp((distance - radius_mm) / 0.7))
    for block in specks:
        probability[block] = 0.9
    return VertebraProbability(
        vertebra, Volume(probability.astype(np.float32), grid), tuple(center_mm)
    )


UPPER, LOWER = (0.0, 70.0, 735.0), (0.0, 72.0, 790.0)


def test_volume_and_place_survive_the_resampling():
    merged = merge_masks([ball(Vertebra.T9, UPPER)], SCAN)
    (report,) = merged.reports
    assert report.problems == ()
    assert report.volume_ml == pytest.approx(4 / 3 * np.pi * 1.4**3, rel=0.05)
    inside = SCAN.map_indices_to_world(np.argwhere(merged.labels.array == 16))
    np.testing.assert_allclose(inside.mean(axis=0), UPPER, atol=0.3)
    assert merged.labels.array.dtype == np.uint8


def test_far_specks_are_dropped_and_counted():
    items = [ball(Vertebra.T9, UPPER, specks=[np.s_[0:4, 0:4, 0:4]])]
    merged = merge_masks(items, SCAN)
    assert 0 < merged.reports[0].dropped_part < 0.02
    clean = merge_masks([ball(Vertebra.T9, UPPER)], SCAN)
    assert np.mean(merged.labels.array != clean.labels.array) < 1e-4


def test_the_surer_vertebra_wins_an_overlap_whatever_the_order():
    sure = ball(Vertebra.T10, np.add(UPPER, (0, 0, 18)), height=0.99)
    unsure = ball(Vertebra.T9, UPPER, height=0.8)
    forward = merge_masks([sure, unsure], SCAN)
    assert np.array_equal(forward.labels.array, merge_masks([unsure, sure], SCAN).labels.array)
    middle = SCAN.map_world_to_indices(np.add(UPPER, (0, 0, 9))[None]).round().astype(int)[0]
    assert forward.labels.array[tuple(middle)] == Vertebra.T10.verse_label
    assert forward.reports[0].lost_part > 0.03


def test_equal_probabilities_go_to_the_smaller_label_whatever_the_order():
    twins = [ball(Vertebra.L1, UPPER), ball(Vertebra.T13, UPPER)]
    for items in (twins, twins[::-1]):
        merged = merge_masks(items, SCAN)
        assert set(np.unique(merged.labels.array)) == {0, 20}
        lost = next(r for r in merged.reports if r.vertebra is Vertebra.T13)
        assert lost.problems == ("everything was taken by its neighbours",)


def test_the_last_wins_only_on_request():
    twins = [ball(Vertebra.L1, UPPER), ball(Vertebra.T13, UPPER)]
    merged = merge_masks(twins, SCAN, MaskRule(conflicts="last"))
    assert set(np.unique(merged.labels.array)) == {0, 28}


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (ball(Vertebra.T9, UPPER, height=0.2), "empty"),
        (ball(Vertebra.T9, (500.0, 70.0, 735.0)), "empty"),
        (ball(Vertebra.L2, UPPER, radius_mm=4), "expected 12 to"),
        (ball(Vertebra.C3, UPPER, radius_mm=23), "expected 2 to 40"),
    ],
)
def test_an_implausible_mask_is_reported_not_dropped(item, said):
    (report,) = merge_masks([item], SCAN).reports
    assert said in report.problems[0]


def test_a_small_mask_cut_by_the_scan_is_no_problem():
    (report,) = merge_masks([ball(Vertebra.L2, (0.0, 70.0, 692.0))], SCAN).reports
    assert 0 < report.volume_ml < 12
    assert report.problems == ()


def test_skull_that_was_rightly_dropped_asks_for_nobody():
    """C1 with nearly as much skull apart from it: the larger piece stays, which is worth a remark."""
    item = ball(Vertebra.C1, LOWER, radius_mm=11, size=64, specks=[np.s_[0:16, 0:16, 0:16]])
    (report,) = merge_masks([item], SCAN).reports
    assert report.dropped_part > 0.3
    assert report.problems == ()
    assert "lay apart and was dropped" in report.remarks[0]


def test_a_mask_far_from_its_landmark_is_reported():
    item = ball(Vertebra.T9, UPPER)
    away = VertebraProbability(item.vertebra, item.probability, LOWER)
    assert "from its landmark" in merge_masks([away], SCAN).reports[0].problems[0]


def test_reports_go_head_to_foot():
    items = [ball(Vertebra.L1, LOWER), ball(Vertebra.T13, UPPER)]
    assert [r.vertebra for r in merge_masks(items, SCAN).reports] == [Vertebra.T13, Vertebra.L1]


def test_oblique_scan_grids_are_met():
    c, s = np.cos(0.35), np.sin(0.35)
    turned = Grid(SCAN.shape, SCAN.spacing_mm, (-80.0, 20.0, 690.0), (1, 0, 0, 0, c, -s, 0, s, c))
    center = tuple(turned.map_indices_to_world(np.array([[30, 35, 35]]))[0])
    (report,) = merge_masks([ball(Vertebra.T9, center)], turned).reports
    assert report.volume_ml == pytest.approx(4 / 3 * np.pi * 1.4**3, rel=0.05)


def test_only_the_crops_block_of_the_scan_is_computed():
    mask = clean_mask(ball(Vertebra.T9, UPPER, radius_mm=8), SCAN)
    assert max(np.multiply(mask.probability.shape, SCAN.spacing_mm[::-1])) < 35


def test_the_component_about_the_landmark_is_kept_though_another_is_larger():
    item = ball(Vertebra.C1, UPPER, radius_mm=8.0, size=96)
    skull = ball(Vertebra.C1, UPPER, radius_mm=11.0, size=96)
    shifted = np.roll(skull.probability.array, 36, axis=0)
    both = np.maximum(item.probability.array, np.where(shifted > 0.5, shifted, 0))
    whole = VertebraProbability(Vertebra.C1, item.probability.with_array(both), item.landmark_mm)
    about = MaskRule(component="landmark")
    (report,) = merge_masks([whole], SCAN, about).reports
    assert report.volume_ml == pytest.approx(4 / 3 * np.pi * 0.8**3, rel=0.1)
    assert report.dropped_part > 0.6
    nameless = VertebraProbability(Vertebra.C1, whole.probability)
    for items, rule in (([nameless], about), ([whole], MaskRule())):
        assert merge_masks(items, SCAN, rule).reports[0].volume_ml > 2 * report.volume_ml
