"""From a network specification to a Keras model, whatever its kind."""

from __future__ import annotations

import math

import keras

from payerseg.config.model_card import LevelNetSpec, NetworkSpec, SCNetSpec, UNetSpec
from payerseg.networks.levels import build_level_network
from payerseg.networks.unet import build_scnet, build_unet


def build_network(spec: NetworkSpec, dtype: str = "float32", seed: int = 0) -> keras.Model:
    """Build the network of a model card.

    Args:
        spec: a U-Net, a SpatialConfiguration-Net or a level network.
        dtype: Keras dtype policy of everything but heads, which are float32.
        seed: of the initial weights and of dropout.

    Returns:
        (b, z, y, x, inputs) → (b, z, y, x, outputs) float32; a level network as
        `build_level_network` says.

    Raises:
        ConfigError: an impossible specification.
    """
    if isinstance(spec, LevelNetSpec):
        return build_level_network(spec, dtype, seed)
    if isinstance(spec, SCNetSpec):
        return build_scnet(spec, dtype, seed)
    return build_unet(spec, dtype, seed)


def network_multiple(spec: NetworkSpec) -> int:
    """Return the number of voxels of which every side of an input must be a multiple."""
    if isinstance(spec, LevelNetSpec):
        return 8
    if isinstance(spec, UNetSpec):
        return 2 ** (len(spec.widths) - 1)
    spatial = spec.pool * 2 ** (len(spec.spatial.widths) - 1)
    return math.lcm(2 ** (len(spec.local.widths) - 1), spatial)


def network_channels(spec: NetworkSpec) -> tuple[int, int]:
    """Return the channels of input and output."""
    if isinstance(spec, LevelNetSpec):
        return 1, spec.outputs
    if isinstance(spec, UNetSpec):
        return spec.inputs, spec.outputs
    return spec.local.inputs, spec.local.outputs
