"""The SpatialConfiguration-Net of stage 2: local times spatial heatmaps (REFERENCE §2.3)."""

from __future__ import annotations

from typing import Any

import keras

from payerseg.config.model_card import SCNetSpec
from payerseg.errors import ConfigError
from payerseg.networks.layers import InterpolatedUpsampling3D
from payerseg.networks.unet import HEAD_DTYPE, Parts, unet_trunk

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
