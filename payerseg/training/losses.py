"""Losses; keras.ops only, so that they are one function on three backends.

Tensors are channels-last: (batch, z, y, x, channel).
`weight` broadcasts against them; 0 means "not known here": it neither teaches nor counts.
"""

from __future__ import annotations

from typing import Any

from keras import ops

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


def gaussian_heatmaps(points_zyx: Tensor, sigmas: Tensor, shape_zyx: tuple, scale: float) -> Tensor:
    """Draw Gaussians whose sigmas may be learned.

    t(x) = scale / ((2 pi)^1.5 sigma^3) exp(-|x - p|^2 / (2 sigma^2)), full support.

    Args:
        points_zyx: (batch, n, 4): validity (0 or 1), then the continuous index z, y, x.
        sigmas: (n,), in voxels.
        shape_zyx: size of the maps.
        scale: gamma, 1000 in the reference.

    Returns:
        (batch, z, y, x, n); zero where not valid.
    """
    two_variance = 2 * ops.square(sigmas)
    axes = []
    for axis, size in enumerate(shape_zyx):
        index = ops.cast(ops.arange(size), sigmas.dtype)
        gap = ops.expand_dims(index, (0, 2)) - ops.expand_dims(points_zyx[..., axis + 1], 1)
        axes.append(ops.exp(-ops.square(gap) / two_variance))
    z, y, x = axes
    height = points_zyx[..., 0] * scale / ((2 * 3.141592653589793) ** 1.5 * sigmas**3)
    product = z[:, :, None, None, :] * y[:, None, :, None, :] * x[:, None, None, :, :]
    return product * ops.expand_dims(height, (1, 2, 3))


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


def sigmoid_cross_entropy(target: Tensor, logits: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of logits against 0/1 (or soft) targets, in stable form."""
    entropy = ops.maximum(logits, 0) - logits * target + ops.log1p(ops.exp(-ops.abs(logits)))
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
    entropy = sigmoid_cross_entropy(target, logits, weight)
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
