"""The loss of the level network: it must choose, so a wrong name costs as much as a missing one."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from payerseg.domain.levels import LEVELS, LevelAnswer, Rib
from payerseg.training.level_examples import LEFT, RANK, RIGHT, SACRUM, VERTEBRA, WHOLE
from payerseg.training.losses import sigmoid_cross_entropy

NEIGHBOUR_SHARE = 0.04
"""Share of a level's target that each neighbour gets: marks are read by people."""


@keras.saving.register_keras_serializable("payerseg")
class LevelLoss(keras.losses.Loss):
    """Cross-entropy of level, ribs by side, sacrum, whole and vertebra, each over the rows that know it."""

    def __init__(self, name: str = "levels") -> None:
        super().__init__(name=name, reduction="sum_over_batch_size")
        n = len(LEVELS)
        soft = np.eye(n) * (1 - 2 * NEIGHBOUR_SHARE)
        soft += NEIGHBOUR_SHARE * (np.eye(n, k=1) + np.eye(n, k=-1))
        self._soft = (soft / soft.sum(axis=1, keepdims=True)).astype("float32")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Compare (b, n, `N_TARGETS`) rows of `level_example` with (b, n, `N_OUTPUTS`) logits."""
        answer = LevelAnswer(ops.cast(y_pred, "float32"))
        told = ops.cast(y_true, "float32")
        parts = [
            _chosen(told[..., RANK], answer.level, self._soft),
            _chosen(told[..., LEFT], answer.left_rib, np.eye(len(Rib), dtype="float32")),
            _chosen(told[..., RIGHT], answer.right_rib, np.eye(len(Rib), dtype="float32")),
            0.5 * _yes_or_no(told[..., SACRUM], answer.sacrum),
            0.5 * _yes_or_no(told[..., WHOLE], answer.whole),
            0.5 * _yes_or_no(told[..., VERTEBRA], answer.vertebra),
        ]
        return ops.broadcast_to(sum(parts), (ops.shape(y_pred)[0],))


def _mean_where_known(values: Any, told: Any) -> Any:
    known = ops.cast(told >= 0, "float32")
    return ops.sum(values * known) / ops.maximum(ops.sum(known), 1.0)


def _chosen(told: Any, logits: Any, table: np.ndarray) -> Any:
    index = ops.cast(ops.maximum(told, 0.0), "int32")
    target = ops.take(ops.convert_to_tensor(table), index, axis=0)
    return _mean_where_known(-ops.sum(target * ops.log_softmax(logits, axis=-1), axis=-1), told)


def _yes_or_no(told: Any, logit: Any) -> Any:
    target = ops.cast(told > 0.5, "float32")
    return _mean_where_known(sigmoid_cross_entropy(target, logit), told)
