import keras
import numpy as np

from payerseg.domain.levels import LEVELS, N_OUTPUTS, N_TARGETS, UNKNOWN
from payerseg.training.level_loss import LevelLoss


def rows_of(
    rank=UNKNOWN, left=UNKNOWN, right=UNKNOWN, sacrum=UNKNOWN, whole=UNKNOWN, vertebra=UNKNOWN
):
    return np.array([[[rank, left, right, sacrum, whole, vertebra]]], "float32")


def loss_of(rows, logits):
    return float(keras.ops.convert_to_numpy(LevelLoss()(rows, logits)))


def test_what_is_not_known_costs_nothing():
    logits = np.random.default_rng(0).normal(0, 5, (2, 4, N_OUTPUTS)).astype("float32")
    rows = np.full((2, 4, N_TARGETS), float(UNKNOWN), "float32")
    assert loss_of(rows, logits) == 0.0


def test_a_wrong_name_costs_as_much_as_a_missing_one():
    """Heat in a wrong channel was 23 times cheaper than missing heat; a choice has no such way out."""
    logits = np.zeros((1, 1, N_OUTPUTS), "float32")
    unsure = loss_of(rows_of(rank=10), logits)
    assert abs(unsure - np.log(len(LEVELS))) < 1e-3
    both = logits.copy()
    both[..., 10] = both[..., 11] = 8.0
    right = logits.copy()
    right[..., 10] = 8.0
    wrong = logits.copy()
    wrong[..., 11] = 8.0
    assert loss_of(rows_of(rank=10), right) < 0.7 < loss_of(rows_of(rank=10), both)
    assert loss_of(rows_of(rank=10), wrong) > 6


def test_each_fact_is_read_from_its_own_answer():
    for column, fact in enumerate(("rank", "left", "right", "sacrum", "whole", "vertebra")):
        rows = rows_of(**{fact: 1})
        logits = np.zeros((1, 1, N_OUTPUTS), "float32")
        base = loss_of(rows, logits)
        n = len(LEVELS)
        answer = {0: 1, 1: n + 1, 2: n + 4, 3: n + 6, 4: n + 7, 5: n + 8}[column]
        logits[..., answer] = 4.0
        assert loss_of(rows, logits) < base - 0.2, fact
        logits[..., answer] = -4.0
        assert loss_of(rows, logits) > base + 0.2, fact
