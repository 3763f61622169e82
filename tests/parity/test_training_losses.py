"""P14: the reference's losses from its recorded inputs."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from payerseg.training import losses

GOLDEN = Path(__file__).parents[1] / "golden" / "data" / "heatmap_target_and_losses.npz"
CASES = ("0", "1", "2", "4")


def channels_last(array: np.ndarray) -> Any:
    return keras.ops.convert_to_tensor(np.moveaxis(array.astype(np.float32), 1, -1))


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as golden:
        start = request.param + "/"
        return {key[len(start) :]: golden[key] for key in golden if key.startswith(start)}


def check(ours: object, expected: np.ndarray) -> None:
    assert float(keras.ops.convert_to_numpy(ours)) == pytest.approx(float(expected), rel=1e-5)


def test_heatmap_l2(case: dict[str, np.ndarray]) -> None:
    target, prediction = channels_last(case["plain"]), channels_last(case["pred"])
    check(losses.heatmap_l2(target, prediction), case["loss_l2"])
    check(losses.spine_heatmap_l2(target, prediction), case["loss_spine"])


def test_learnable_sigma(case: dict[str, np.ndarray]) -> None:
    marks = keras.ops.convert_to_tensor(case["landmarks_valid_zyx"])
    sigmas = keras.ops.convert_to_tensor(case["sigmas"])
    heights = losses.density_heights(marks[..., 0], sigmas, 1000.0)
    shape = np.moveaxis(case["norm1000"], 1, -1).shape
    drawn = keras.ops.convert_to_numpy(
        losses.gaussian_heatmaps(marks[..., 1:], sigmas[None], heights, shape)
    )
    np.testing.assert_allclose(drawn, np.moveaxis(case["norm1000"], 1, -1), atol=1e-5)
    peak_one = drawn * ((2 * np.pi) ** 1.5 * case["sigmas"] ** 3 / 1000.0)
    np.testing.assert_allclose(peak_one, np.moveaxis(case["plain"], 1, -1), atol=1e-5)
    check(losses.sigma_penalty(marks[..., 0], sigmas), case["loss_sigma_x100"])


def test_cross_entropy(case: dict[str, np.ndarray]) -> None:
    label, logits = channels_last(case["ce_label"]), channels_last(case["ce_logits"])
    check(losses.mean_sigmoid_cross_entropy(label, logits), case["loss_ce"])
