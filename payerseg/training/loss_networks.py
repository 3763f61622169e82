"""Losses with variables of their own: a network that is trained with what it is compared with.

Deep supervision: each level of a decoder that is neither the finest nor the deepest gets a 1x1x1 head and
is compared with the target averaged to its grid. The heads are variables of the training: they are in its
checkpoints, never in the network that is validated and exported.

Learned sigmas: the network decides how sharp each heatmap may be.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import keras
from keras import ops

from payerseg.config.model_card import NetworkSpec, UNetSpec
from payerseg.errors import ConfigError
from payerseg.networks.unet import HEAD_DTYPE, Parts
from payerseg.training.examples import PRESENT, WEIGHT, X, Z
from payerseg.training.loss_table import (
    SUMMED_OVER_VOXELS,
    TARGET_KINDS,
    class_shares,
    loss_named,
)
from payerseg.training.losses import (
    density_heights,
    gaussian_heatmaps,
    heatmap_l2,
    sigma_penalty,
)
from payerseg.training.recipe import Recipe

FEWEST_LEVELS = 3
FIRST_SEED = 50_000
"""Above the seeds of any network's own layers, below those of the next training seed."""
VOXELS_PER_VOXEL = 8
"""Of one grid in one voxel of the next coarser."""
_LEAST_WEIGHT = 1e-6


class DeeplySupervisedNetwork(keras.Model):
    """A U-Net that answers on every level of its decoder but the deepest.

    Loss: the weighted mean over levels l = 0 (finest), 1, … of the recipe's loss, weights w^l.

    Args:
        network: built for the recipe's card; the layers are shared, so training this trains it.
        recipe: target and loss.
        weight: w, in (0, 1].
        seed: of the training; the heads' initial weights depend on it.

    Raises:
        ConfigError: the network has no coarser level to supervise.
    """

    def __init__(self, network: keras.Model, recipe: Recipe, weight: float, seed: int) -> None:
        spec = supervised_spec(recipe.card.network)
        parts = Parts(HEAD_DTYPE, count(seed * 100_003 + FIRST_SEED))
        answers = [network.output]
        for level in coarse_levels(spec):
            # what the next finer level upsamples is this level's last feature map
            features = network.get_layer(f"upsample{level - 1}").input
            answer = parts.head(spec, f"head{level}")(features)
            activation = keras.layers.Activation(
                spec.head_activation, dtype=HEAD_DTYPE, name=f"output{level}"
            )
            answers.append(activation(answer))
        super().__init__(inputs=network.input, outputs=answers, name="deep_supervision")
        self._kind = TARGET_KINDS[recipe.target]
        self._level_loss = loss_named(recipe.loss, recipe.target)
        self._growth = VOXELS_PER_VOXEL if recipe.loss in SUMMED_OVER_VOXELS else 1
        self._weight = weight

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: Any = None,
    ) -> Any:
        """Compare the target with the answers, finest first."""
        del x, sample_weight, training
        target = ops.cast(y, "float32")
        if self._kind == "labels":
            target = class_shares(target, y_pred[0].shape[-1])
        total, weights = 0.0, 0.0
        for level, answer in enumerate(y_pred):
            if level:
                target = coarser(target, self._kind)
            share = self._weight**level
            total += share * self._growth**level * self._level_loss(target, answer)
            weights += share
        return total / weights


def coarse_levels(spec: UNetSpec) -> range:
    """Return the decoder's levels between the finest (0) and the deepest, which is no decoder."""
    return range(1, len(spec.widths) - 1)


def supervised_spec(spec: NetworkSpec) -> UNetSpec:
    """Return the specification of a network that can be supervised on coarser levels.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(spec, UNetSpec) and len(spec.widths) >= FEWEST_LEVELS:
        return spec
    found = f"{len(spec.widths)} level(s)" if isinstance(spec, UNetSpec) else "two U-Nets in one"
    msg = (
        f"deep supervision of a network of {found}; expected one U-Net of at least "
        f"{FEWEST_LEVELS} levels: leave out training.deep_supervision, or give more widths"
    )
    raise ConfigError(msg)


def coarser(target: Any, kind: str) -> Any:
    """Average a target over blocks of 2 x 2 x 2 voxels, as the network's own pooling does.

    Args:
        target: (b, z, y, x, c) of a dense kind of `loss_table`; labels as shares of classes.
        kind: of the target. A heatmap is averaged by its weight, so that what is not known does
            not count as 0, and the new weight is the known part of a block.

    Returns:
        (b, z/2, y/2, x/2, c).
    """
    if kind != "heat":
        return _block_means(target)
    heat, weight = target[..., :1], target[..., 1:]
    known = _block_means(weight)
    mean = _block_means(heat * weight) / ops.maximum(known, _LEAST_WEIGHT)
    return ops.concatenate([mean, known], axis=-1)


def _block_means(values: Any) -> Any:
    # the stride is named, as Keras takes a wrong one for it on JAX
    return ops.average_pool(values, 2, strides=2, padding="valid", data_format="channels_last")


FIRST_SIGMA_VOXELS = 4.0
GAMMA, ALPHA = 1000.0, 100.0
"""REFERENCE.md section 6: height of the targets, weight of the penalty."""


@keras.saving.register_keras_serializable("payerseg")
class LearnableSigmaNetwork(keras.Model):
    """A heatmap network together with one learned sigma per channel.

    Loss: half the sum of squared errors to gamma / ((2 pi)^1.5 sigma^3) exp(-d^2 / 2 sigma^2), plus
    alpha / 2 * the sum of sigma^2 over present points. The targets move while the network learns:
    sharper ones cost the penalty less and the error more.

    Attributes:
        network: the heatmap network; its weights are what is exported.
        sigmas: (channels,), in voxels.
    """

    def __init__(self, network: keras.Model, name: str = "learnable_sigma") -> None:
        super().__init__(name=name)
        self.network = network
        self.sigmas = self.add_weight(
            shape=(network.outputs[0].shape[-1],),
            initializer=keras.initializers.Constant(FIRST_SIGMA_VOXELS),
            name="sigmas",
            dtype="float32",
        )

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Return the network's heatmaps."""
        return self.network(inputs, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: Any = None,
    ) -> Any:
        """Compare rows of `examples.vertebrae_example` with heatmaps."""
        del x, sample_weight, training
        y_pred = ops.cast(y_pred, "float32")
        rows = ops.cast(y[:, : self.sigmas.shape[0]], "float32")
        valid = rows[..., PRESENT] * rows[..., WEIGHT]
        sigmas = ops.convert_to_tensor(self.sigmas)
        heights = density_heights(valid, sigmas, GAMMA)
        target = gaussian_heatmaps(rows[..., Z : X + 1], sigmas[None], heights, ops.shape(y_pred))
        weight = rows[:, None, None, None, :, WEIGHT]
        return heatmap_l2(target, y_pred, weight) + sigma_penalty(valid, sigmas, ALPHA)
