import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.synthesis.scanner import Scanner, rounded, scan, smooth_field


@pytest.mark.parametrize("spacing", [0.5, 1.0, 3.0])
def test_fields_are_standardised_at_any_spacing(spacing):
    field = smooth_field((40, 50, 60), (spacing,) * 3, (6.0, 6.0, 6.0), np.random.default_rng(1))
    assert field.shape == (40, 50, 60)
    assert field.dtype == np.float32
    assert 0.5 < field.std() < 1.3
    assert abs(field.mean()) < 0.6


def test_lengths_decide_how_fast_a_field_varies():
    rng = np.random.default_rng(2)
    field = smooth_field((60, 60, 60), (1.0, 1.0, 1.0), (20.0, 3.0, 3.0), rng)
    along_z = np.abs(np.diff(field, axis=0)).mean()
    along_x = np.abs(np.diff(field, axis=2)).mean()
    assert along_z < 0.4 * along_x


GRID = Grid((40, 48, 48), (1.0, 1.0, 1.0))


def edge():
    hu = np.zeros(GRID.shape, np.float32)
    hu[:, :, 24:] = 400
    return hu


def test_noise_has_the_strength_asked_for():
    for sharpen in (0.0, 1.0):
        image = scan(np.zeros(GRID.shape, np.float32), GRID, Scanner(noise_hu=20, sharpen=sharpen),
                     np.random.default_rng(0))  # fmt: skip
        assert image.std() == pytest.approx(20, rel=0.15)


def test_a_sharp_kernel_overshoots_and_a_soft_one_does_not():
    rng = np.random.default_rng(0)
    soft = scan(edge(), GRID, Scanner(blur_mm=0.8, noise_hu=0), rng)
    sharp = scan(edge(), GRID, Scanner(blur_mm=0.2, sharpen=1.0, noise_hu=0), rng)
    assert soft.max() <= 401
    assert sharp.max() > 440


def test_thick_slices_blur_along_z_only():
    hu = np.zeros(GRID.shape, np.float32)
    hu[20] = 1000
    image = scan(hu, GRID, Scanner(blur_mm=0.0, noise_hu=0, slice_mm=5.0), np.random.default_rng(0))
    assert image.max() < 450
    assert np.ptp(image[20]) < 1e-3


def test_rounding_clips_to_what_scanners_store():
    out = rounded(np.array([-5000.0, 0.4, 9000.0]))
    assert out.dtype == np.int16
    assert out.tolist() == [-1024, 0, 3071]
