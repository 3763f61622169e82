"""Where each network looks."""

import numpy as np
import pytest

from payerseg.config.model_card import SamplingSpec
from payerseg.domain.grid import IDENTITY_DIRECTION, Grid
from payerseg.domain.spine_box import SpineBox
from payerseg.preprocess.frames import spine_frame, vertebra_frame, vertebrae_frame

COARSE = SamplingSpec(8.0, multiple=16)
FINE = SamplingSpec(3.0, multiple=8, margin_mm=(20.0, 20.0, 30.0))
CROP = SamplingSpec(1.0, size_xyz=(96, 80, 64), offset_mm=(0.0, 20.0, 0.0))


def world_box(grid):
    corners = grid.corners_mm()
    return corners.min(axis=0), corners.max(axis=0)


def test_the_spine_frame_holds_the_whole_scan(any_grid):
    frame = spine_frame(any_grid, COARSE)
    assert frame.contains(any_grid.corners_mm(), margin_mm=-1e-3).all()
    assert frame.direction == IDENTITY_DIRECTION
    assert all(n % 16 == 0 for n in frame.shape)
    middle = np.mean(world_box(any_grid), axis=0)
    np.testing.assert_allclose(np.mean(world_box(frame), axis=0), middle, atol=1e-9)


def test_a_tall_scan_is_never_cropped():
    tall = Grid((4000, 10, 10), (10.0, 10.0, 0.5))
    assert spine_frame(tall, COARSE).contains(tall.corners_mm()).all()


def test_the_vertebrae_frame_holds_the_grown_box():
    scan = Grid((200, 100, 100), (2.0, 2.0, 2.0))
    box = SpineBox((80.0, 80.0, 100.0), (120.0, 120.0, 300.0))
    frame = vertebrae_frame(scan, box, FINE)
    grown = box.expanded(FINE.margin_mm)
    assert frame.contains([grown.low_mm, grown.high_mm], margin_mm=-1e-6).all()
    assert all(n % 8 == 0 for n in frame.shape)


def test_the_vertebrae_frame_stays_near_the_scan():
    scan = Grid((100, 40, 40), (2.0, 2.0, 2.0))
    frame = vertebrae_frame(scan, SpineBox((-500.0,) * 3, (500.0,) * 3), FINE)
    low, high = world_box(frame)
    scan_low, scan_high = world_box(scan)
    slack = FINE.spacing_mm * FINE.multiple
    assert (low >= scan_low - slack).all()
    assert (high <= scan_high + slack).all()


def test_the_vertebra_frame_is_centred_on_the_shifted_point():
    frame = vertebra_frame((10.0, -20.0, 300.0), CROP)
    assert frame.shape == (64, 80, 96)
    np.testing.assert_allclose(np.mean(world_box(frame), axis=0), (10.0, 0.0, 300.0))


@pytest.mark.parametrize(("extent", "size"), [(1.0, 16), (128.0, 16), (128.1, 32), (256.0, 32)])
def test_sides_are_rounded_up(extent, size):
    scan = Grid((20, 20, 20), (extent / 20,) * 3)
    assert spine_frame(scan, COARSE).shape == (size,) * 3


def test_the_reference_cuts_what_is_larger_than_its_largest_size():
    reference = SamplingSpec(2.0, size_rule="reference")
    scan = Grid((10, 10, 10), (200.0, 20.0, 200.0))
    assert spine_frame(scan, reference).shape == (640, 128, 128)
