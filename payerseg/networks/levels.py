"""The level network: sees the whole width of the body, and must choose a level at each given place.

A convolutional encoder makes features at 2, 4 and 8 voxels; they are read at every place and around it
(to both sides, where ribs are; behind; above and below), and two dense layers answer.
keras.ops and layers only, so that one definition serves every backend.
"""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
from keras import ops

from payerseg.config.model_card import LevelNetSpec
from payerseg.errors import ConfigError
from payerseg.networks.layers import InterpolatedUpsampling3D
from payerseg.networks.unet import LEAKY_SLOPE

AROUND_FINE = ((0, 0, 0), (0, 0, 7), (0, 0, -7), (0, 7, 0), (3, 5, 0), (-3, 3, 10), (-3, 3, -10))
AROUND_MIDDLE = ((0, 0, 0), (0, 0, 10), (0, 0, -10), (5, 10, 0), (-4, 5, 17), (-4, 5, -17))
AROUND_COARSE = ((0, 0, 0), (12, 0, 0), (-12, 0, 0))
"""Where features are read, voxels (z, y, x) from the place: +y is behind, +x the patient's left."""


class FeaturesAt(keras.layers.Layer):
    """Read a feature map (b, z, y, x, c) at places (b, n, 3) and around them, linearly interpolated.

    Args:
        stride: voxels of the view per voxel of the feature map.
        around: offsets (z, y, x) in voxels of the view.
        name, dtype: as in every Keras layer.
    """

    def __init__(
        self,
        stride: int,
        around: tuple[tuple[int, int, int], ...],
        name: str | None = None,
        dtype: Any = None,
        *,
        trainable: bool = True,
    ) -> None:
        super().__init__(name=name, dtype=dtype, trainable=trainable)
        self.stride = int(stride)
        self.around = tuple(tuple(int(v) for v in offset) for offset in around)

    def build(self, input_shape: Any) -> None:
        """Nothing to build."""
        del input_shape
        self.built = True

    def call(self, features: Any, places: Any) -> Any:
        """Return (b, n, offsets * c)."""
        size = tuple(features.shape[1:4])
        channels = features.shape[4]
        n = ops.shape(places)[1]
        around = ops.convert_to_tensor(np.array(self.around, "float32"))
        at = ops.cast(places, "float32")[:, :, None, :] + around
        at = (at + 0.5) / self.stride - 0.5
        last = np.array(size, "float32") - 1.0
        at = ops.clip(at, 0.0, ops.convert_to_tensor(last))
        low = ops.minimum(ops.floor(at), ops.convert_to_tensor(np.maximum(last - 1, 0)))
        part = at - low
        base = ops.cast(low, "int32")
        index, weight = [], []
        for corner in itertools.product((0, 1), repeat=3):
            z, y, x = (
                ops.minimum(base[..., axis] + step, size[axis] - 1)
                for axis, step in enumerate(corner)
            )
            index.append((z * size[1] + y) * size[2] + x)
            share = [part[..., a] if step else 1.0 - part[..., a] for a, step in enumerate(corner)]
            weight.append(share[0] * share[1] * share[2])
        count = 8 * len(self.around)
        flat_index = ops.reshape(ops.stack(index, axis=-1), (-1, n * count, 1))
        flat = ops.reshape(features, (-1, size[0] * size[1] * size[2], channels))
        found = ops.take_along_axis(flat, flat_index, axis=1)
        found = ops.reshape(found, (-1, n, len(self.around), 8, channels))
        weights = ops.cast(ops.stack(weight, axis=-1), found.dtype)
        read = ops.sum(found * weights[..., None], axis=3)
        return ops.reshape(read, (-1, n, len(self.around) * channels))

    def compute_output_shape(self, features_shape: Any, places_shape: Any) -> tuple:
        """Return (b, n, offsets * c)."""
        return (places_shape[0], places_shape[1], len(self.around) * features_shape[4])

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds this layer."""
        return {**super().get_config(), "stride": self.stride, "around": self.around}


def build_level_network(spec: LevelNetSpec, dtype: str = "float32", seed: int = 0) -> keras.Model:
    """Build the level network.

    Args:
        spec: view, widths and answers.
        dtype: Keras dtype policy of everything but the answers, which are float32.
        seed: of the initial weights and of dropout.

    Returns:
        [(b, z, y, x, 1) view, (b, n, 3) places in voxels (z, y, x)] → (b, n, outputs) logits.

    Raises:
        ConfigError: a side that is no multiple of 8.
    """
    if any(side % 8 for side in spec.shape_zyx):
        msg = f"a level network's view of {spec.shape_zyx} voxels; expected multiples of 8"
        raise ConfigError(msg)
    seeds = itertools.count(seed * 100_003)

    def convolved(x: Any, filters: int, name: str, stride: int = 1, size: int = 3) -> Any:
        x = keras.layers.Conv3D(
            filters, size, strides=stride, padding="same", dtype=dtype, name=name,
            kernel_initializer=keras.initializers.HeNormal(seed=next(seeds)),
        )(x)  # fmt: skip
        return keras.layers.LeakyReLU(LEAKY_SLOPE, dtype=dtype, name=f"{name}_act")(x)

    def dense(x: Any, units: int, name: str) -> Any:
        start = keras.initializers.HeNormal(seed=next(seeds))
        layer = keras.layers.Dense(
            units, activation="relu", dtype=dtype, name=name, kernel_initializer=start
        )
        return layer(x)

    picture = keras.Input((*spec.shape_zyx, 1), name="picture")
    places = keras.Input((None, 3), name="places")
    first, second, third, fourth = spec.widths
    fine = convolved(convolved(picture, first * 3 // 4, "fine0", 2, 5), first, "fine1")
    middle = convolved(convolved(fine, second, "middle0", 2), second, "middle1")
    coarse = convolved(convolved(middle, third, "coarse0", 2), third, "coarse1")
    deep = convolved(convolved(coarse, fourth, "deep0", 2), fourth, "deep1")
    deep = InterpolatedUpsampling3D(2, "linear", dtype=dtype, name="deep_up")(deep)
    crop = [(0, a - b) for a, b in zip(deep.shape[1:4], coarse.shape[1:4], strict=True)]
    deep = keras.layers.Cropping3D(crop, dtype=dtype, name="deep_crop")(deep)
    context = keras.layers.Concatenate(dtype=dtype, name="context_join")([coarse, deep])
    context = convolved(context, third, "context")
    read = [
        FeaturesAt(2, AROUND_FINE, dtype=dtype, name="read_fine")(fine, places),
        FeaturesAt(4, AROUND_MIDDLE, dtype=dtype, name="read_middle")(middle, places),
        FeaturesAt(8, AROUND_COARSE, dtype=dtype, name="read_context")(context, places),
    ]
    x = keras.layers.Concatenate(dtype=dtype, name="read_join")(read)
    x = dense(x, spec.dense[0], "dense0")
    x = keras.layers.Dropout(spec.dropout, seed=next(seeds), dtype=dtype, name="dense0_drop")(x)
    x = dense(x, spec.dense[1], "dense1")
    start = keras.initializers.RandomNormal(stddev=0.01, seed=next(seeds))
    answer = keras.layers.Dense(
        spec.outputs, dtype="float32", name="answer", kernel_initializer=start
    )(x)
    return keras.Model([picture, places], answer, name="levels")
