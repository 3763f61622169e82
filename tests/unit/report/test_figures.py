"""The straightened views show each vertebra where its centre is, on any grid."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from payerseg.domain.colors import RIM_COLOR, color_of
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.report.figures import (
    LINE_ALPHA,
    OVERLAY_FACTOR,
    RIM_ALPHA,
    curved_views,
    spine_curve,
    thumbnail,
)


def test_every_vertebra_lies_at_its_mark(make_facts, synthetic_spine, any_grid):
    facts = make_facts(synthetic_spine(any_grid))
    views = curved_views(facts.ct, facts.labels, facts.landmarks)
    assert [view.name for view in views] == ["sagittal", "coronal"]
    for view in views:
        assert view.overlay.shape[:2] == tuple(OVERLAY_FACTOR * n for n in view.grey.shape)
        for name, (row, column) in view.marks.items():
            red, green, blue, alpha = view.overlay[
                round(OVERLAY_FACTOR * (row + 0.5)), round(OVERLAY_FACTOR * (column + 0.5))
            ]
            assert (red, green, blue) == color_of(Vertebra[name].verse_label), (view.name, name)
            assert alpha > 0
            assert view.grey[round(row), round(column)] > 120  # bone


def test_rows_and_columns_lead_back_to_the_world(make_facts, synthetic_spine, any_grid):
    facts = make_facts(synthetic_spine(any_grid))
    for view in curved_views(facts.ct, facts.labels, facts.landmarks):
        for vertebra, mark in facts.landmarks.items():
            row, column = view.marks[vertebra.name]
            along = (column - view.middle) * view.curve.step_mm
            place = view.curve.points_mm[round(row)] + along * view.axes[round(row)]
            assert np.linalg.norm(place - mark.position_mm) < 1.0


def test_front_and_right_are_on_the_left(make_facts, synthetic_spine):
    facts = make_facts(synthetic_spine())
    array = facts.ct.array.copy()
    grid = facts.ct.grid
    middle = facts.landmarks[Vertebra.T12].position_mm
    bright = {"sagittal": (0, -30, 0), "coronal": (-30, 0, 0)}
    for offset in bright.values():
        z, y, x = np.rint(grid.map_world_to_indices(np.add(middle, offset))[0]).astype(int)
        array[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] = 2000
    for view in curved_views(facts.ct.with_array(array), facts.labels, facts.landmarks):
        row = round(view.marks["T12"][0])
        column = np.flatnonzero(view.grey[row] == 255).mean()
        expected = view.middle - 30 / view.curve.step_mm
        assert abs(column - expected) < 5, view.name


def test_dark_outlines_have_a_light_rim_outside_the_mask(facts):
    sagittal, coronal = curved_views(facts.ct, facts.labels, facts.landmarks)
    dark = np.array(color_of(Vertebra.T10.verse_label))
    for view in (sagittal, coronal):
        rim = (view.overlay == (*RIM_COLOR, RIM_ALPHA)).all(axis=2)
        line = (view.overlay == (*dark, LINE_ALPHA)).all(axis=2)
        beside = ndimage.binary_dilation(line) & (view.overlay[..., 3] == 0)
        assert rim.any(), view.name
        assert not beside.any(), "an outline of T10 without a rim"
    plain = [
        replace(v, overlay=v.overlay * (v.overlay[..., 3:] != RIM_ALPHA))
        for v in (sagittal, coronal)
    ]
    brighter = thumbnail((sagittal, coronal)).astype(int) - thumbnail(tuple(plain))
    assert brighter.max() > 60


def test_thumbnail_is_small_and_coloured(facts):
    picture = thumbnail(curved_views(facts.ct, facts.labels, facts.landmarks))
    assert picture.dtype == np.uint8
    assert picture.shape[0] <= 340
    assert picture.shape[2] == 3
    assert (picture.max(axis=2) - picture.min(axis=2) > 40).any()


def test_the_curve_is_even_and_upright_along_a_bend():
    angles = np.linspace(0, np.pi / 2, 7)
    arc = 150 * np.stack([np.zeros(7), 1 - np.cos(angles), -np.sin(angles)], axis=1)
    marks = Landmarks(
        Landmark(v, tuple(p)) for v, p in zip(list(Vertebra)[10:17], arc, strict=True)
    )
    curve = spine_curve(marks, 1.0, 20.0)
    steps = np.linalg.norm(np.diff(curve.points_mm, axis=0), axis=1)
    np.testing.assert_allclose(steps, 1.0, atol=0.01)
    assert len(steps) == pytest.approx(150 * np.pi / 2 + 40, abs=2)
    np.testing.assert_allclose(curve.lefts, np.tile([1.0, 0, 0], (len(curve.lefts), 1)), atol=1e-6)
    downs = np.gradient(curve.points_mm, axis=0)
    assert np.abs((curve.backs * downs).sum(axis=1)).max() < 1e-6
    assert (np.cross(curve.lefts, curve.backs)[:, 2] > -1e-9).all()  # left, back, up: right-handed


@pytest.mark.parametrize("offsets", [[0], [0, 0.5], [0, -30], [0, 1, -25]])
def test_few_or_doubled_centres_still_give_a_curve(offsets):
    marks = Landmarks(
        Landmark(v, (5.0, 6.0, 7.0 + o)) for v, o in zip(list(Vertebra)[5:], offsets, strict=False)
    )
    curve = spine_curve(marks, 0.8, 40.0)
    assert np.isfinite(curve.points_mm).all()
    assert curve.points_mm[0, 2] > curve.points_mm[-1, 2]
    row, left, back = curve.place_of((5.0, 6.0, 7.0))
    assert 0 < row < len(curve.points_mm)
    assert abs(left) < 1e-6
    assert abs(back) < 1e-6


def test_a_centre_gone_astray_sideways_does_not_break_the_curve():
    places = {"T1": (0, 0, 100), "T2": (200, 0, 100), "T3": (0, 0, 60)}
    curve = spine_curve(Landmarks(Landmark(Vertebra[n], p) for n, p in places.items()), 1.0, 10.0)
    np.testing.assert_allclose(np.linalg.norm(curve.lefts, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(curve.backs, axis=1), 1, atol=1e-6)
