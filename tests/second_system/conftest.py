"""The second system's bundles, set by hand, so that a test of the whole pipeline knows the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from payerseg.config.model_card import SCNetSpec, UNetSpec, WindowSpec

FAMILY = "verse_pytorch"
N_LEVELS = 25


@pytest.fixture(scope="session")
def second_weights(handmade_weights, tmp_path_factory) -> dict[str, Path]:
    """Bundles by stage for coded synthetic spines.

    Stage 1 is the default family's. Stage 2 is its net without T13. Stage 3 answers all classes at
    once: a voxel is of the level whose landmark is nearest if it is bright, else background.
    """
    from payerseg.networks.bundle import ModelBundle, save

    root = tmp_path_factory.mktemp(FAMILY)
    opened = {stage: ModelBundle.open(path) for stage, path in handmade_weights.items()}
    one = opened["spine_localization"]
    save(one.weights, replace(one.card, family=FAMILY), root / one.card.stage)
    two = opened["vertebrae_localization"]
    network = two.card.network
    assert isinstance(network, SCNetSpec)
    network = replace(
        network,
        local=replace(network.local, outputs=N_LEVELS),
        spatial=replace(network.spatial, outputs=N_LEVELS),
    )
    arrays = {
        name: array[..., :N_LEVELS] if name.split("/")[0].endswith("head") else array
        for name, array in two.weights.items()
    }
    card = replace(two.card, family=FAMILY, network=network, channels=two.card.channels[:N_LEVELS])
    save(arrays, card, root / card.stage)
    three = opened["vertebrae_segmentation"].card
    classes = N_LEVELS + 1
    card = replace(
        three,
        family=FAMILY,
        network=UNetSpec((classes,), classes, classes, 1, "simple", head_activation="softmax"),
        sampling=replace(
            three.sampling,
            multiple=8,
            size_xyz=(32, 32, 40),
            margin_mm=(30.0, 30.0, 30.0),
            window=WindowSpec(high=0.4),
        ),
        output="label_probability",
        channels=(0, *range(1, N_LEVELS + 1)),
    )
    save(_bright_and_nearest(classes), card, root / card.stage)
    return {stage: root / stage for stage in handmade_weights}


def _bright_and_nearest(classes: int) -> dict[str, np.ndarray]:
    """Feature k is 4 * image + map k; class k says so, background says 1.9; 40 makes it sure."""
    kernel = np.zeros((3, 3, 3, classes, classes), np.float32)
    for k in range(1, classes):
        kernel[1, 1, 1, 0, k], kernel[1, 1, 1, k, k] = 4.0, 1.0
    head = np.eye(classes, dtype=np.float32)
    head[0] = 0
    bias = np.zeros(classes, np.float32)
    bias[0] = 1.9
    return {
        "contracting0_conv0/kernel": kernel,
        "contracting0_conv0/bias": np.zeros(classes, np.float32),
        "head/kernel": 40 * head[None, None, None],
        "head/bias": 40 * bias,
    }


@pytest.fixture(scope="session")
def coded_scan(synthetic_spine, synthetic_grids):
    """A scan on an oblique grid whose levels the hand-made networks know by brightness."""
    return synthetic_spine(synthetic_grids["oblique"](), coded=True)
