"""Losses: what a weight of zero means, and where they vanish."""

from collections.abc import Callable

import keras
import numpy as np
import pytest

from payerseg.training import losses
from payerseg.training.losses import PointHeatmapLoss

RNG = np.random.default_rng(7)
SHAPE = (2, 5, 6, 7, 3)
TARGET = (RNG.random(SHAPE) > 0.6).astype(np.float32)
LOGITS = RNG.normal(size=SHAPE).astype(np.float32)


def value(loss: Callable[..., object], *arrays: np.ndarray | None) -> float:
    """Call a loss with tensors of the backend, as training does."""
    tensors = [None if a is None else keras.ops.convert_to_tensor(a) for a in arrays]
    return float(keras.ops.convert_to_numpy(loss(*tensors)))


WEIGHTED = {
    "heatmap_l2": losses.heatmap_l2,
    "spine_heatmap_l2": losses.spine_heatmap_l2,
    "sigmoid_cross_entropy": losses.mean_sigmoid_cross_entropy,
    "soft_dice": losses.soft_dice,
    "soft_dice_and_mse": losses.soft_dice_and_mse,
    "soft_dice_and_point_mse": losses.soft_dice_and_point_mse,
    "sigmoid_cross_entropy_and_dice": losses.sigmoid_cross_entropy_and_dice,
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_what_is_not_known_does_not_teach(name: str) -> None:
    """Changing the answer where the weight is 0 changes nothing."""
    weight = np.ones((*SHAPE[:4], 1), np.float32)
    weight[:, :, :, 4:] = 0
    other = np.where(weight > 0, LOGITS, LOGITS + 3)
    given = value(WEIGHTED[name], TARGET, LOGITS, weight)
    assert value(WEIGHTED[name], TARGET, other, weight) == pytest.approx(given, rel=1e-6)
    assert value(WEIGHTED[name], TARGET, other) != pytest.approx(given, rel=1e-3)


@pytest.mark.parametrize("name", WEIGHTED)
def test_all_known_is_no_weight(name: str) -> None:
    weight = np.ones((*SHAPE[:4], 1), np.float32)
    given = value(WEIGHTED[name], TARGET, LOGITS)
    assert value(WEIGHTED[name], TARGET, LOGITS, weight) == pytest.approx(given, rel=1e-5)


def test_perfect_answers_cost_nothing() -> None:
    soft = RNG.random(SHAPE).astype(np.float32)
    assert value(losses.heatmap_l2, soft, soft) == 0
    assert value(losses.soft_dice_and_mse, soft, soft) == pytest.approx(0, abs=1e-5)
    assert value(losses.soft_dice, TARGET, TARGET) == pytest.approx(0, abs=1e-5)
    sure = (TARGET * 2 - 1) * 50
    assert value(losses.sigmoid_cross_entropy_and_dice, TARGET, sure) < 1e-4


def test_overlap_of_hard_targets_is_the_product() -> None:
    probability = 1 / (1 + np.exp(-LOGITS))
    hard = keras.ops.convert_to_numpy(losses.common(TARGET, probability))
    np.testing.assert_array_equal(hard, TARGET * probability)


@pytest.mark.parametrize("name", ["soft_dice", "categorical_cross_entropy_and_dice"])
def test_a_soft_target_is_best_met_by_itself(name: str) -> None:
    """A product would ask for an answer sharper than the target."""
    target = RNG.random((1, 4, 4, 4, 3)).astype(np.float32) + 0.2
    target /= target.sum(axis=-1, keepdims=True)
    loss = getattr(losses, name)
    least = value(loss, target, target)
    for power in (0.7, 1.5, 4.0):
        other = target**power
        other /= other.sum(axis=-1, keepdims=True)
        assert value(loss, target, other) > least + 1e-3
    if name == "soft_dice":
        assert least == pytest.approx(0, abs=1e-5)


def test_an_absent_level_is_cheaper_the_lower_its_heatmap() -> None:
    """Without the guard any height costs the same, and a step down would be as good as one up."""
    blob = np.zeros((1, 8, 8, 8, 1), np.float32)
    blob[0, 2:6, 2:6, 2:6] = 1
    costs = [value(losses.soft_dice_and_mse, 0 * blob, p * blob) for p in (0.9, 0.5, 0.1, 0.01)]
    assert costs[0] > costs[1] + 0.1 > costs[2] + 0.2
    assert costs[3] < 1e-3


def test_heatmaps_of_points_do_not_start_in_a_saddle() -> None:
    """An answer that does not know where yet is better than none: only then does it grow."""
    blob = np.zeros((1, 32, 32, 32, 1), np.float32)
    blob[0, 14:18, 14:18, 14:18] = 1
    none, some = np.zeros_like(blob), np.full_like(blob, 0.02)
    assert value(losses.soft_dice_and_point_mse, blob, some) < (
        value(losses.soft_dice_and_point_mse, blob, none) - 0.1
    )
    assert value(losses.soft_dice_and_mse, blob, some) > (
        value(losses.soft_dice_and_mse, blob, none)
    )
    assert value(losses.soft_dice_and_point_mse, blob, blob) == pytest.approx(0, abs=1e-5)


def test_cross_entropy_survives_huge_logits() -> None:
    huge = np.array([[[[[1e4], [-1e4]]]]], np.float32)
    right = np.array([[[[[1.0], [0.0]]]]], np.float32)
    assert value(losses.mean_sigmoid_cross_entropy, right, huge) == 0
    assert value(losses.mean_sigmoid_cross_entropy, 1 - right, huge) == pytest.approx(1e4)


def test_softmax_loss_ignores_absent_classes() -> None:
    labels = RNG.integers(0, 3, SHAPE[:4])
    onehot = np.eye(26, dtype=np.float32)[labels]
    right = 0.98 * onehot + 0.02 / 26
    wrong = np.roll(right, 1, axis=-1)
    good = value(losses.categorical_cross_entropy_and_dice, onehot, right)
    assert good < 0.06
    assert value(losses.categorical_cross_entropy_and_dice, onehot, wrong) > 3


def test_sigma_penalty_counts_valid_points_only() -> None:
    sigmas = np.array([2.0, 3.0], np.float32)
    assert value(losses.sigma_penalty, np.array([[1.0, 0.0]], np.float32), sigmas) == 200


def test_a_cut_vertebra_silences_its_channel_only_where_it_is() -> None:
    """Heat of an unmarked level costs nothing on it, and as much as any false heat on its neighbour."""
    rows = np.zeros((1, 2, 6), np.float32)
    rows[0, 0] = (12, 12, 12, 2, 1, 1)  # marked: place z, y, x, sigma, present, weight
    rows[0, 1] = (30, 12, 12, 2, 1, 0)  # cut: its place is known, its look is not
    heat = np.zeros((1, 40, 24, 24, 2), np.float32)
    loss = PointHeatmapLoss()
    empty = value(loss, rows, heat)
    costs = []
    for z in (30, 12):
        wrong = heat.copy()
        wrong[0, z, 12, 12, 1] = 1
        costs.append(value(loss, rows, wrong) - empty)
    assert costs[0] == pytest.approx(0, abs=1e-6)
    known = rows.copy()
    known[0, 1, 4:] = (0, 1)  # not in the scan at all
    wrong = heat.copy()
    wrong[0, 12, 12, 12, 1] = 1
    assert costs[1] == pytest.approx(value(loss, known, wrong) - value(loss, known, heat), rel=1e-3)
    rows[0, 1, 4] = 0  # it may be anywhere
    assert value(loss, rows, wrong) == pytest.approx(empty, rel=1e-5)
