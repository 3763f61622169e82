"""Losses; keras.ops only, so that they are one function on three backends.

Tensors are channels-last: (batch, z, y, x, channel).
`weight` broadcasts against them; 0 means "not known here": it neither teaches nor counts.
The functions are the reference's and the remake's, the classes the default recipe's.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from payerseg.training.examples import PRESENT, SIGMA, WEIGHT, X, Z

SPINE_DIVISOR = 1024.0
"""The reference divides the stage-1 loss by this."""
DICE_EPSILON = 1e-5
HEATMAP_DICE_GUARD = 30.0
"""Added to both sides of a heatmap's Dice, in voxels; a fifth of one Gaussian of 3 voxels.

With next to nothing there, a false heatmap of an absent level costs the same at any height, and the
only way down is to 0 everywhere, where a sigmoid has no gradient left.
"""

Tensor = Any


def heatmap_l2(target: Tensor, prediction: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return half the sum of squared errors, divided by the batch size (REFERENCE.md section 6)."""
    squared = ops.square(prediction - target)
    if weight is not None:
        squared = squared * weight
    return 0.5 * ops.sum(squared) / ops.cast(ops.shape(target)[0], squared.dtype)


def spine_heatmap_l2(target: Tensor, prediction: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the stage-1 loss of the reference: `heatmap_l2` / 1024."""
    return heatmap_l2(target, prediction, weight) / SPINE_DIVISOR


def gaussian_heatmaps(points_zyx: Tensor, sigmas: Tensor, heights: Tensor, shape: Any) -> Tensor:
    """Draw one Gaussian per channel, heights * exp(-|x - p|^2 / (2 sigma^2)), with full support.

    Args:
        points_zyx: (batch, n, 3) continuous indices z, y, x.
        sigmas: (batch, n), or (1, n) for all, in voxels; they may be learned.
        heights: (batch, n) at the points; 0 where there is none.
        shape: of the maps, (batch, z, y, x, n).
    """
    profiles = []
    for axis in range(3):
        index = ops.cast(ops.arange(shape[axis + 1]), "float32")
        distance = (index[None, :, None] - points_zyx[:, None, :, axis]) / sigmas[:, None, :]
        profiles.append(ops.exp(-0.5 * ops.square(distance)))
    z, y, x = profiles
    drawn = z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]
    return drawn * heights[:, None, None, None, :]


def density_heights(valid: Tensor, sigmas: Tensor, scale: float) -> Tensor:
    """Return what a Gaussian of integral `scale` is at its point: scale / ((2 pi)^1.5 sigma^3).

    Args:
        valid: (batch, n), 0 or 1.
        sigmas: (n,), in voxels.
        scale: gamma, 1000 in the reference (REFERENCE.md section 6).
    """
    return valid * scale / ((2 * math.pi) ** 1.5 * sigmas**3)


def sigma_penalty(valid: Tensor, sigmas: Tensor, factor: float = 100.0) -> Tensor:
    """Return factor * half the sum of sigma^2 over the valid points, divided by the batch size.

    Without it the learned sigmas would grow until every target is flat (alpha in REFERENCE.md).

    Args:
        valid: (batch, n), 0 or 1.
        sigmas: (n,), in voxels.
        factor: alpha, 100 in the reference.
    """
    total = ops.sum(valid * ops.square(sigmas))
    return factor * 0.5 * total / ops.cast(ops.shape(valid)[0], total.dtype)


def sigmoid_cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """Return the cross-entropy of each voxel against 0/1 (or soft) targets, in stable form."""
    return ops.relu(logits) - logits * target + ops.softplus(-ops.abs(logits))


def mean_sigmoid_cross_entropy(
    target: Tensor, logits: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Return the mean of `sigmoid_cross_entropy` over the voxels that are known."""
    entropy = sigmoid_cross_entropy(target, logits)
    if weight is None:
        return ops.mean(entropy)
    weight = ops.broadcast_to(weight, ops.shape(entropy))
    return ops.sum(entropy * weight) / (ops.sum(weight) + DICE_EPSILON)


def common(target: Tensor, probability: Tensor) -> Tensor:
    """Return what target and answer share in each voxel, min(p, t): Dice's overlap.

    For targets of 0 and 1 it is the usual product, value and gradient. For soft ones (a mask
    averaged to a coarser grid) the product would be least wrong with an answer sharper than the
    target; the minimum is with p = t (Wang et al. 2023, Dice semimetric losses).
    """
    return ops.minimum(target, probability)


def soft_dice(target: Tensor, probability: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return 1 - Dice of probabilities, per batch item and channel, then averaged.

    Dice = (2 sum min(p, t) + e) / (sum p + sum t + e): an empty target met by an empty answer
    costs nothing.
    """
    if weight is not None:
        target, probability = target * weight, probability * weight
    space = (1, 2, 3)
    overlap = ops.sum(common(target, probability), axis=space)
    total = ops.sum(target, axis=space) + ops.sum(probability, axis=space)
    return 1 - ops.mean((2 * overlap + DICE_EPSILON) / (total + DICE_EPSILON))


def soft_dice_and_mse(target: Tensor, prediction: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return soft Dice plus mean squared error: the heatmap loss of the PyTorch remake.

    The Dice denominator is sum p^2 + sum t^2, so that an exact heatmap reaches 0 (with sums of
    first powers a Gaussian would not): 1 - Dice = sum (p - t)^2 / (sum p^2 + sum t^2 + guard).
    """
    squared = ops.square(prediction - target)
    if weight is not None:
        weight = ops.broadcast_to(weight, ops.shape(squared))
        target, prediction, squared = target * weight, prediction * weight, squared * weight
    space = (1, 2, 3)
    overlap = ops.sum(target * prediction, axis=space)
    total = ops.sum(ops.square(target), axis=space) + ops.sum(ops.square(prediction), axis=space)
    dice = ops.mean((2 * overlap + HEATMAP_DICE_GUARD) / (total + HEATMAP_DICE_GUARD))
    return 1 - dice + ops.mean(squared)


def soft_dice_and_point_mse(
    target: Tensor, prediction: Tensor, weight: Tensor | None = None, focus: float = 40.0
) -> Tensor:
    """Return soft Dice plus squared error for heatmaps of points, whose voxels are nearly all empty.

    A mean over all voxels would make the squared error vanish beside Dice, and Dice alone starts in
    a saddle: answers that do not know where yet are best near 0, where a product of sigmoids has next
    to no gradient. So each voxel counts 1 + focus * t and the sum is divided by the sum of t.
    """
    if weight is None:
        weight = ops.ones_like(target[..., :1])
    error = weight * (1.0 + focus * target) * ops.square(prediction - target)
    mean_error = ops.sum(error) / (ops.sum(weight * target) + HEATMAP_DICE_GUARD)
    return soft_dice_and_mse(target, prediction, weight) + mean_error


def sigmoid_cross_entropy_and_dice(
    target: Tensor, logits: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Return cross-entropy plus soft Dice for a network of one logit per voxel."""
    entropy = mean_sigmoid_cross_entropy(target, logits, weight)
    return entropy + soft_dice(target, ops.sigmoid(logits), weight)


def categorical_cross_entropy_and_dice(
    onehot: Tensor, probability: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Return cross-entropy plus soft Dice for softmax output: the remake's segmentation loss.

    The target may be soft: shares of classes that sum to 1.
    The Dice part averages over the classes that the target holds (channel 0, background, left
    out); a class that is nowhere in the crop would otherwise drown the others.
    """
    entropy = -ops.sum(onehot * ops.log(ops.maximum(probability, 1e-7)), axis=-1, keepdims=True)
    if weight is None:
        mean_entropy = ops.mean(entropy)
    else:
        weight = ops.broadcast_to(weight, ops.shape(entropy))
        mean_entropy = ops.sum(entropy * weight) / (ops.sum(weight) + DICE_EPSILON)
        onehot, probability = onehot * weight, probability * weight
    space = (0, 1, 2, 3)
    overlap = ops.sum(common(onehot, probability), axis=space)[1:]
    size = ops.sum(onehot, axis=space)[1:]
    total = size + ops.sum(probability, axis=space)[1:]
    present = ops.cast(size > 0, total.dtype)
    dice = (2 * overlap + DICE_EPSILON) / (total + DICE_EPSILON)
    mean_dice = (ops.sum(dice * present) + DICE_EPSILON) / (ops.sum(present) + DICE_EPSILON)
    return mean_entropy + 1 - mean_dice


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
        shape, known = ops.shape(y_pred), y_true[:, None, None, None, :, WEIGHT]
        points, sigmas, present = y_true[..., Z : X + 1], y_true[..., SIGMA], y_true[..., PRESENT]
        target = gaussian_heatmaps(points, sigmas, present, shape) * known
        # an unknown vertebra's channel counts far from its place, and nowhere where it has no place
        near = gaussian_heatmaps(points, sigmas * UNKNOWN_SIGMAS, present, shape)
        away = present[:, None, None, None, :] - near
        weight = known + (1.0 - known) * away
        error = weight * (1.0 + self.focus * target) * ops.square(y_pred - target)
        total = ops.sum(error, axis=(1, 2, 3, 4))
        return total / (ops.sum(target * weight, axis=(1, 2, 3, 4)) + SPIKE_GUARD_VOXELS)


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
