"""Losses of the default recipe; keras.ops only, so one definition serves every backend.

The reference's and the remake's losses are in `losses`.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from payerseg.training.examples import PRESENT, SIGMA, WEIGHT, X, Y, Z
from payerseg.training.losses import common

SPIKE_GUARD_VOXELS = 150.0
"""Added to the sum of targets a loss is divided by: a block with few vertebrae must not weigh most."""
UNKNOWN_SIGMAS = 2.0
"""Where a cut or unmarked vertebra lies its channel does not count, so many times as wide as its Gaussian;
further away, above all on its neighbours, its heat is wrong."""


@keras.saving.register_keras_serializable("payerseg")
class PointHeatmapLoss(keras.losses.Loss):
    """Weighted squared error between heatmaps and Gaussians made from point rows.

    Sum over voxels and channels of w (1 + focus t)(p - t)^2, divided by the sum of t plus a constant.
    The weight (1 + focus t) makes the few voxels near a vertebra count from the first step on.

    Args:
        focus: extra weight at a peak.
    """

    def __init__(self, focus: float = 40.0, name: str = "point_heatmap") -> None:
        super().__init__(name=name, reduction="sum_over_batch_size")
        self.focus = focus

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Compare (b, channel, 6) rows of `examples.vertebrae_example` with (b, z, y, x, channel)."""
        y_pred = ops.cast(y_pred, "float32")
        known = y_true[:, None, None, None, :, WEIGHT]
        target = gaussian_heatmaps(y_true, ops.shape(y_pred)) * known
        weight = known + (1.0 - known) * self._away(y_true, ops.shape(y_pred))
        error = weight * (1.0 + self.focus * target) * ops.square(y_pred - target)
        total = ops.sum(error, axis=(1, 2, 3, 4))
        return total / (ops.sum(target * weight, axis=(1, 2, 3, 4)) + SPIKE_GUARD_VOXELS)

    @staticmethod
    def _away(rows: Any, shape: Any) -> Any:
        """Return 1 far from a row's place and 0 on it; 0 everywhere where it has no place."""
        widen = np.where(np.arange(6) == SIGMA, UNKNOWN_SIGMAS, 1.0).astype("float32")
        near = gaussian_heatmaps(rows * widen, shape)
        return rows[:, None, None, None, :, PRESENT] * (1.0 - near)


def gaussian_heatmaps(rows: Any, shape: Any) -> Any:
    """Return (b, z, y, x, channel) Gaussians of peak 1 for (b, channel, 6) rows; absent ones are 0."""
    profiles = []
    for column, size in ((Z, shape[1]), (Y, shape[2]), (X, shape[3])):
        index = ops.cast(ops.arange(size), "float32")
        distance = (index[None, :, None] - rows[:, None, :, column]) / rows[:, None, :, SIGMA]
        profiles.append(ops.exp(-0.5 * ops.square(distance)))
    z, y, x = profiles
    present = rows[:, None, None, None, :, PRESENT]
    return z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :] * present


def sigmoid_cross_entropy(target: Any, logits: Any) -> Any:
    """Return the cross-entropy per voxel, stable for large logits of either sign."""
    return ops.relu(logits) - logits * target + ops.softplus(-ops.abs(logits))


@keras.saving.register_keras_serializable("payerseg")
class WeightedCrossEntropy(keras.losses.Loss):
    """Binary cross-entropy of a heatmap from logits, weighted where told and towards the target.

    Logits, because a clipped sigmoid has no gradient left once it says 0 everywhere.

    Args:
        focus: extra weight at a peak.
    """

    def __init__(self, focus: float = 10.0, name: str = "weighted_cross_entropy") -> None:
        super().__init__(name=name, reduction="sum_over_batch_size")
        self.focus = focus

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Compare (b, z, y, x, 2) target and weight with (b, z, y, x, 1) logits."""
        target, weight = y_true[..., :1], y_true[..., 1:]
        weight = weight * (1.0 + self.focus * target)
        entropy = sigmoid_cross_entropy(target, ops.cast(y_pred, "float32"))
        return ops.sum(weight * entropy, axis=(1, 2, 3, 4)) / ops.sum(weight, axis=(1, 2, 3, 4))


@keras.saving.register_keras_serializable("payerseg")
class LogitDiceLoss(keras.losses.Loss):
    """Binary cross-entropy plus soft Dice of one mask, from logits."""

    def __init__(self, name: str = "logit_dice") -> None:
        super().__init__(name=name, reduction="sum_over_batch_size")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Compare (b, z, y, x, 1) masks, which may be soft, with logits of the same shape."""
        y_pred = ops.cast(y_pred, "float32")
        axes = (1, 2, 3, 4)
        entropy = sigmoid_cross_entropy(y_true, y_pred)
        p = ops.sigmoid(y_pred)
        overlap = 2 * ops.sum(common(y_true, p), axis=axes) + 50.0
        dice = overlap / (ops.sum(p, axis=axes) + ops.sum(y_true, axis=axes) + 50.0)
        return 4.0 * ops.mean(entropy, axis=axes) + (1.0 - dice)
