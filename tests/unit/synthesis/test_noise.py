import numpy as np
import pytest

from payerseg.synthesis.noise import smooth_field


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
