"""Heatmap regression with learned sigmas: the network decides how sharp each target may be."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from payerseg.training.examples import PRESENT, WEIGHT, Z
from payerseg.training.losses import gaussian_heatmaps, heatmap_l2, sigma_penalty

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
        points = ops.concatenate([valid[..., None], rows[..., Z : Z + 3]], axis=-1)
        sigmas = ops.convert_to_tensor(self.sigmas)
        target = gaussian_heatmaps(points, sigmas, tuple(y_pred.shape[1:4]), GAMMA)
        weight = rows[:, None, None, None, :, WEIGHT]
        return heatmap_l2(target, y_pred, weight) + sigma_penalty(valid, sigmas, ALPHA)
