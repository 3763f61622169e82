"""Upsampling against scipy, and in every way a graph may call it."""

import keras
import numpy as np
import pytest
from scipy import ndimage

from payerseg.networks.layers import (
    InterpolatedUpsampling3D,
    _dynamic_matrix,
    interpolation_matrix,
    kernel_weights,
)

X = np.random.default_rng(1).normal(size=(2, 5, 4, 3, 2)).astype("float32")


def upsample(x, factor=2, kernel="linear", dtype="float32"):
    layer = InterpolatedUpsampling3D(factor, kernel, dtype=dtype)
    return keras.ops.convert_to_numpy(keras.ops.cast(layer(x), "float32"))


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_linear_equals_scipy_at_half_pixel_centres(factor):
    grid = [(np.arange(n * factor) + 0.5) / factor - 0.5 for n in X.shape[1:4]]
    at = np.meshgrid(*grid, indexing="ij")
    found = upsample(X, factor)
    for b in range(2):
        for c in range(2):
            expected = ndimage.map_coordinates(X[b, ..., c], at, order=1, mode="nearest")
            np.testing.assert_allclose(found[b, ..., c], expected, atol=1e-6)


@pytest.mark.parametrize("kernel", ["linear", "cubic"])
@pytest.mark.parametrize("size", [1, 2, 3, 9])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_constant_stays_and_the_dynamic_matrix_agrees(kernel, size, factor):
    matrix = interpolation_matrix(kernel, factor, size)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    dynamic = keras.ops.convert_to_numpy(_dynamic_matrix(kernel, factor, size))
    np.testing.assert_allclose(dynamic, matrix, atol=1e-7)


def test_cubic_kernel_is_keys():
    """Interpolates (1 at 0, 0 at other whole numbers) and reproduces a parabola inside."""
    np.testing.assert_allclose(kernel_weights("cubic", np.array([0, 1, 2, -1])), [1, 0, 0, 0])
    places = (np.arange(40) + 0.5) / 4 - 0.5
    found = interpolation_matrix("cubic", 4, 10) @ (np.arange(10.0) ** 2).astype("float32")
    inside = (places > 1) & (places < 8)
    np.testing.assert_allclose(found[inside], places[inside] ** 2, rtol=1e-5)


def test_any_size_in_one_model_and_its_config():
    inputs = keras.Input((None, None, None, 2))
    model = keras.Model(inputs, InterpolatedUpsampling3D(2, "cubic", name="up")(inputs))
    assert model.output_shape == (None, None, None, None, 2)
    for shape in [(1, 2, 3, 4, 2), (2, 6, 1, 5, 2)]:
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        np.testing.assert_allclose(model.predict_on_batch(x), upsample(x, 2, "cubic"), atol=1e-6)
    again = InterpolatedUpsampling3D.from_config(model.get_layer("up").get_config())
    assert (again.factor, again.kernel, again.name) == (2, "cubic", "up")


def test_bfloat16_stays_close_and_nonsense_is_refused():
    assert np.abs(upsample(X, dtype="mixed_bfloat16") - upsample(X)).max() < 0.03
    with pytest.raises(ValueError, match="expected at least 1"):
        InterpolatedUpsampling3D(0)
