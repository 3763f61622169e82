"""Losses by name, for the kinds of targets that examples have.

kind "heat":   (b, z, y, x, 2), heatmap and weight              (stage 1)
kind "rows":   (b, channel, 6), see `examples.vertebrae_example`  (stage 2)
kind "mask":   (b, z, y, x, 1), 0 or 1                           (stage 3)
kind "labels": (b, z, y, x, 1), class numbers, 0 = background     (stage 3, all classes)
               or (b, z, y, x, class), the share of each class
kind "levels": (b, place, fact), see `level_examples.level_example` (stage 2's second network)

What a kind becomes on a coarser grid is in `loss_networks`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from payerseg.errors import ConfigError
from payerseg.training import losses
from payerseg.training.examples import PRESENT, SIGMA, WEIGHT, X, Z
from payerseg.training.level_loss import LevelLoss
from payerseg.training.losses import (
    LogitDiceLoss,
    PointHeatmapLoss,
    WeightedCrossEntropy,
    gaussian_heatmaps,
)

TARGET_KINDS = {
    "spine_line": "heat",
    "spine_reference": "heat",
    "rows": "rows",
    "mask": "mask",
    "labels": "labels",
    "levels": "levels",
}
SUMMED_OVER_VOXELS = ("spine_heatmap_l2",)
"""Losses of dense maps that are sums: an eighth as large on a grid of half as many voxels per axis."""
LEARNABLE_SIGMA = "learnable_sigma"
"""Not in the table: it has weights of its own, see `loss_networks`."""


@keras.saving.register_keras_serializable("payerseg")
class TensorLoss(keras.losses.Loss):
    """One of the losses of `losses`, on targets of one kind.

    Args:
        kind: of the targets.
        function: (target, prediction, weight) → scalar.
        name: of the loss.
    """

    def __init__(self, kind: str, function: Callable[..., Any], name: str) -> None:
        super().__init__(name=name, reduction="sum")
        self.kind = kind
        self.function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Unpack the target and compare."""
        y_pred = ops.cast(y_pred, "float32")
        match self.kind:
            case "heat":
                target, weight = y_true[..., :1], y_true[..., 1:]
            case "rows":
                rows = y_true[:, : y_pred.shape[-1]]
                points, sigmas, present = rows[..., Z : X + 1], rows[..., SIGMA], rows[..., PRESENT]
                target = gaussian_heatmaps(points, sigmas, present, ops.shape(y_pred))
                weight = rows[:, None, None, None, :, WEIGHT]
            case "labels":
                target, weight = class_shares(y_true, y_pred.shape[-1]), None
            case _:
                target, weight = y_true, None
        return self.function(target, y_pred, weight)


def class_shares(y_true: Any, n_classes: int) -> Any:
    """Return (b, z, y, x, class) shares of class numbers, or of what holds shares already."""
    if y_true.shape[-1] == n_classes:
        return y_true
    return ops.one_hot(ops.cast(y_true[..., 0], "int32"), n_classes, dtype="float32")


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("heat", "spine_heatmap_l2"): losses.spine_heatmap_l2,
    ("heat", "soft_dice_mse"): losses.soft_dice_and_mse,
    ("rows", "heatmap_l2"): losses.heatmap_l2,
    ("rows", "soft_dice_mse"): losses.soft_dice_and_point_mse,
    ("mask", "sigmoid_cross_entropy"): losses.mean_sigmoid_cross_entropy,
    ("mask", "sigmoid_ce_dice"): losses.sigmoid_cross_entropy_and_dice,
    ("labels", "ce_dice"): losses.categorical_cross_entropy_and_dice,
}
_CLASSES: dict[tuple[str, str], type[keras.losses.Loss]] = {
    ("heat", "weighted_cross_entropy"): WeightedCrossEntropy,
    ("rows", "point_heatmap"): PointHeatmapLoss,
    ("mask", "logit_dice"): LogitDiceLoss,
    ("levels", "levels"): LevelLoss,
}


def loss_named(name: str, target: str) -> keras.losses.Loss:
    """Return a loss for a recipe's target.

    Raises:
        ConfigError: no such loss for that kind of target; names those that exist.
    """
    key = (TARGET_KINDS[target], name)
    if key in _CLASSES:
        return _CLASSES[key]()
    if key in _FUNCTIONS:
        return TensorLoss(key[0], _FUNCTIONS[key], name)
    known = loss_names(target)
    msg = f"no loss {name!r} for targets of kind {key[0]!r}; known are {', '.join(known)}"
    raise ConfigError(msg)


def loss_names(target: str) -> list[str]:
    """Return the losses that a recipe's target can be trained with."""
    kind = TARGET_KINDS[target]
    names = {name for k, name in [*_FUNCTIONS, *_CLASSES] if k == kind}
    return sorted(names | ({LEARNABLE_SIGMA} if kind == "rows" else set()))
