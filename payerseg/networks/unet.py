"""The 3-D U-Net of stages 1 and 3, and stage 2's SpatialConfiguration-Net of two of them (REFERENCE §2.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

import keras

from payerseg.config.model_card import SCNetSpec, UNetSpec
from payerseg.errors import ConfigError
from payerseg.networks.layers import FixableBatchNormalization, InterpolatedUpsampling3D

LEAKY_SLOPE = 0.1
HEAD_DTYPE = "float32"


@dataclass
class Parts:
    """Names and initialises the layers of one network.

    Each layer draws from a seed of its own: Keras gives layers that share an initialiser, or a
    seed, identical weights.

    Attributes:
        dtype: dtype policy of everything but heads.
        seeds: where layers take their seed from, in order of creation.
        prefix: before every layer name.
    """

    dtype: str
    seeds: Any = field(default_factory=count)
    prefix: str = ""

    @classmethod
    def seeded(cls, dtype: str, seed: int) -> Parts:
        """Return parts whose seeds do not overlap those of another `seed`."""
        return cls(dtype, count(seed * 100_003))

    def named(self, prefix: str) -> Parts:
        """Return parts that share the seeds and put `prefix` before names."""
        return Parts(self.dtype, self.seeds, prefix)

    def convolution(self, filters: int, name: str) -> keras.layers.Layer:
        """Return a 3x3x3 convolution, zero-padded, He-initialised (truncated normal, fan-in)."""
        return keras.layers.Conv3D(
            filters,
            3,
            padding="same",
            data_format="channels_last",
            kernel_initializer=keras.initializers.HeNormal(seed=next(self.seeds)),
            dtype=self.dtype,
            name=self.prefix + name,
        )

    def head(self, spec: UNetSpec, name: str = "head") -> keras.layers.Layer:
        """Return the 1x1x1 head, in float32 whatever the policy."""
        seed = next(self.seeds)
        if spec.head_stddev is None:
            kernel = keras.initializers.HeNormal(seed=seed)
        else:
            kernel = keras.initializers.TruncatedNormal(stddev=spec.head_stddev, seed=seed)
        return keras.layers.Conv3D(
            spec.outputs,
            1,
            padding="same",
            data_format="channels_last",
            kernel_initializer=kernel,
            bias_initializer=keras.initializers.Constant(spec.head_bias),
            dtype=HEAD_DTYPE,
            name=self.prefix + name,
        )

    def activation(self, kind: str, name: str) -> keras.layers.Layer:
        """Return the activation inside a block."""
        if kind == "leaky_relu":
            return keras.layers.LeakyReLU(LEAKY_SLOPE, dtype=self.dtype, name=self.prefix + name)
        return keras.layers.ReLU(dtype=self.dtype, name=self.prefix + name)


def check_unet_spec(spec: UNetSpec) -> None:
    """Refuse a specification that no network can be built from.

    Raises:
        ConfigError: no level, or a count below one, or a dropout outside [0, 1).
    """
    counts = (*spec.widths, spec.inputs, spec.outputs, spec.repeats)
    if not spec.widths or min(counts) < 1 or not 0 <= spec.dropout < 1:
        msg = (
            f"U-Net with widths {spec.widths}, {spec.inputs} inputs, {spec.outputs} outputs, "
            f"{spec.repeats} repeats, dropout {spec.dropout}; expected one width per level, "
            "counts of at least 1 and a dropout in [0, 1)"
        )
        raise ConfigError(msg)


def _block(x: Any, parts: Parts, spec: UNetSpec, level: int, name: str) -> Any:
    """Append `repeats` x (convolution, normalisation, activation, dropout) at one level."""
    for i in range(spec.repeats):
        x = parts.convolution(spec.widths[level], f"{name}{level}_conv{i}")(x)
        if spec.normalization == "batch":
            # Momentum and epsilon of the PyTorch remake, whose family uses this option.
            x = FixableBatchNormalization(
                axis=-1,
                momentum=0.9,
                epsilon=1e-5,
                dtype=parts.dtype,
                name=f"{parts.prefix}{name}{level}_norm{i}",
            )(x)
        x = parts.activation(spec.activation, f"{name}{level}_act{i}")(x)
        if spec.dropout:
            x = keras.layers.Dropout(
                spec.dropout,
                seed=next(parts.seeds),
                dtype=parts.dtype,
                name=f"{parts.prefix}{name}{level}_drop{i}",
            )(x)
    return x


def _pool(parts: Parts, name: str) -> keras.layers.Layer:
    return keras.layers.AveragePooling3D(
        2, data_format="channels_last", dtype=parts.dtype, name=parts.prefix + name
    )


def _upsampling(parts: Parts, spec: UNetSpec, name: str) -> keras.layers.Layer:
    if spec.upsampling == "linear":
        return InterpolatedUpsampling3D(2, "linear", dtype=parts.dtype, name=parts.prefix + name)
    return keras.layers.UpSampling3D(
        2, data_format="channels_last", dtype=parts.dtype, name=parts.prefix + name
    )


def unet_trunk(x: Any, parts: Parts, spec: UNetSpec) -> Any:
    """Append all of a U-Net but its head (REFERENCE §2.1).

    Args:
        x: (b, z, y, x, c); sizes must be multiples of 2 ** (levels - 1).
        parts: names, seeds and dtype.
        spec: widths and the rest.

    Returns:
        (b, z, y, x, widths[0]).
    """
    check_unet_spec(spec)
    deepest = len(spec.widths) - 1
    skips = []
    for level in range(deepest):
        x = _block(x, parts, spec, level, "contracting")
        skips.append(x)
        x = _pool(parts, f"pool{level}")(x)
    x = _block(x, parts, spec, deepest, "contracting")
    if spec.style == "payer":
        x = _block(x, parts, spec, deepest, "expanding")
    for level in reversed(range(deepest)):
        x = _upsampling(parts, spec, f"upsample{level}")(x)
        join = keras.layers.Concatenate(
            axis=-1, dtype=parts.dtype, name=f"{parts.prefix}concat{level}"
        )
        x = join([skips[level], x])
        x = _block(x, parts, spec, level, "expanding")
    return x


def build_unet(spec: UNetSpec, dtype: str = "float32", seed: int = 0) -> keras.Model:
    """Build a U-Net.

    Args:
        spec: from the model card.
        dtype: Keras dtype policy: "float32", "mixed_bfloat16" or "mixed_float16".
        seed: of the initial weights and of dropout.

    Returns:
        (b, z, y, x, inputs) → (b, z, y, x, outputs) float32; sizes z, y, x may be any multiples of
        2 ** (levels - 1).

    Raises:
        ConfigError: an impossible specification.
    """
    parts = Parts.seeded(dtype, seed)
    inputs = keras.Input((None, None, None, spec.inputs), dtype="float32", name="image")
    x = unet_trunk(inputs, parts, spec)
    x = parts.head(spec)(x)
    x = keras.layers.Activation(spec.head_activation, dtype=HEAD_DTYPE, name="output")(x)
    return keras.Model(inputs, x, name="unet")


LOCAL_OUTPUT = "local_heatmaps"
SPATIAL_OUTPUT = "spatial_heatmaps"
OUTPUT = "heatmaps"


def check_scnet_spec(spec: SCNetSpec) -> None:
    """Refuse parts that do not fit together.

    Raises:
        ConfigError: different numbers of heatmaps, or a spatial net that cannot take its input.
    """
    expected = spec.local.outputs if spec.spatial_input == "local" else spec.local.inputs
    fits = spec.local.outputs == spec.spatial.outputs and spec.spatial.inputs == expected
    if not fits or spec.pool < 1:
        msg = (
            f"local net {spec.local.inputs} → {spec.local.outputs}, spatial net "
            f"{spec.spatial.inputs} → {spec.spatial.outputs} on {spec.spatial_input!r}, pool "
            f"{spec.pool}; expected {expected} spatial inputs, equal outputs, a pool of at least 1"
        )
        raise ConfigError(msg)


def _local_heatmaps(image: Any, parts: Parts, spec: SCNetSpec) -> Any:
    x = unet_trunk(image, parts, spec.local)
    x = parts.head(spec.local)(x)
    return keras.layers.Activation(spec.local.head_activation, dtype=HEAD_DTYPE, name=LOCAL_OUTPUT)(
        x
    )


def _spatial_heatmaps(source: Any, parts: Parts, spec: SCNetSpec) -> Any:
    x = source
    if spec.pool > 1:
        x = keras.layers.AveragePooling3D(
            spec.pool, data_format="channels_last", dtype=HEAD_DTYPE, name="spatial_input"
        )(x)
    x = unet_trunk(x, parts, spec.spatial)
    x = parts.head(spec.spatial)(x)
    if spec.spatial.head_activation != "linear":
        x = keras.layers.Activation(
            spec.spatial.head_activation, dtype=HEAD_DTYPE, name="spatial_head_activation"
        )(x)
    if spec.pool > 1:
        x = InterpolatedUpsampling3D(
            spec.pool, spec.upsampling, dtype=HEAD_DTYPE, name="spatial_upsample"
        )(x)
    return keras.layers.Activation(spec.spatial_activation, dtype=HEAD_DTYPE, name=SPATIAL_OUTPUT)(
        x
    )


def build_scnet(spec: SCNetSpec, dtype: str = "float32", seed: int = 0) -> keras.Model:
    """Build a SpatialConfiguration-Net.

    The heads, the cubic upsampling and the product are float32 whatever the policy: rounding the
    product to bfloat16 costs a factor of three in accuracy, and training stalls on it.

    Args:
        spec: from the model card.
        dtype: Keras dtype policy: "float32", "mixed_bfloat16" or "mixed_float16".
        seed: of the initial weights and of dropout.

    Returns:
        (b, z, y, x, inputs) → heatmaps (b, z, y, x, outputs) float32; the factors are the outputs
        of the layers "local_heatmaps" and "spatial_heatmaps". Sizes z, y, x may be any multiples
        of `network_multiple(spec)`.

    Raises:
        ConfigError: an impossible specification.
    """
    check_scnet_spec(spec)
    parts = Parts.seeded(dtype, seed)
    image = keras.Input((None, None, None, spec.local.inputs), dtype="float32", name="image")
    local = _local_heatmaps(image, parts.named("local_"), spec)
    source = local if spec.spatial_input == "local" else image
    spatial = _spatial_heatmaps(source, parts.named("spatial_"), spec)
    heatmaps = keras.layers.Multiply(dtype=HEAD_DTYPE, name=OUTPUT)([local, spatial])
    return keras.Model(image, heatmaps, name="scnet")
