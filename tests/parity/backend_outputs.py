"""What every network says under the backend of this process; run by test_backends.py, one each.

    KERAS_BACKEND=torch python tests/parity/backend_outputs.py OUT.npz

Weights and inputs come from numpy, so that no backend depends on another's random numbers. The file
tests/golden/data/backend_outputs.npz is this program's output under TensorFlow.
"""

import sys
from pathlib import Path

import keras
import numpy as np

from payerseg.config.model_card import ModelCard, SamplingSpec, SCNetSpec, UNetSpec
from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.inference.predictor import Predictor, Tiling
from payerseg.networks.build import network_channels
from payerseg.networks.bundle import ModelBundle, network_shapes, read_weights, save

REMAKE = {"normalization": "batch", "activation": "relu", "style": "simple"}
SPECS = {
    "spine": UNetSpec((6, 6, 6), 1, 1),
    "vertebrae": SCNetSpec(
        UNetSpec((4, 6), 1, 5, head_activation="tanh"), UNetSpec((6, 6, 6), 5, 5, repeats=1)
    ),
    "vertebra": UNetSpec((4, 6, 8), 2, 1, upsampling="nearest"),
    "remake_spine": UNetSpec((4, 8), 1, 1, head_activation="sigmoid", **REMAKE),
    "remake_vertebrae": SCNetSpec(
        UNetSpec((4, 8), 1, 5, head_activation="sigmoid", **REMAKE),
        UNetSpec((4, 8), 1, 5, **REMAKE),
        spatial_input="image",
        upsampling="linear",
        spatial_activation="sigmoid",
    ),
    "remake_labels": UNetSpec((4, 8, 8), 2, 6, head_activation="softmax", **REMAKE),
}
SHAPE = (16, 32, 16)
TILED = ("vertebrae", "remake_labels")


def drawn_weights(spec, rng):
    """He-like weights; variances of batch normalisation stay positive."""
    arrays = {}
    for name, shape in sorted(network_shapes(spec).items()):
        drawn = rng.normal(size=shape)
        if name.endswith("kernel"):
            drawn *= np.sqrt(2 / np.prod(shape[:-1]))
        elif name.endswith(("gamma", "moving_variance")):
            drawn = 1 + 0.2 * np.tanh(drawn)
        else:
            drawn *= 0.1
        arrays[name] = drawn.astype("float32")
    return arrays


def losses_of_one_step(bundle, x, target):
    """The loss before a step of Adam and after it."""
    model = bundle.network()
    model.compile(keras.optimizers.Adam(1e-3), "mean_squared_error", jit_compile=False)
    return [float(model.train_on_batch(x, target)) for _ in range(2)]


def outputs(folder):
    """Return arrays by name: whole and tiled prediction, and losses, of each network."""
    found = {}
    for seed, (name, spec) in enumerate(SPECS.items()):
        rng = np.random.default_rng(seed)
        card = ModelCard(name, spec, SamplingSpec(2.0))
        save(drawn_weights(spec, rng), card, folder / name)
        bundle = ModelBundle.open(folder / name, name)
        channels = network_channels(spec)
        x = rng.normal(size=(*SHAPE, channels[0])).astype("float32")
        volume = Volume(x if channels[0] > 1 else x[..., 0], Grid(SHAPE, (2.0, 2.0, 2.0)))
        whole = Predictor(bundle, "float32").predict(volume).array
        found[f"{name}/whole"] = whole[1::2, ::2, 1::2]
        if name in TILED:
            tiling = Tiling(size_zyx=(16, 16, 16))
            tiled = Predictor(bundle, "float32", tiling=tiling).predict(volume).array
            found[f"{name}/tiled"] = tiled[::2, ::2, ::2]
        target = rng.uniform(size=(1, *SHAPE, channels[1])).astype("float32")
        found[f"{name}/losses"] = np.array(losses_of_one_step(bundle, x[None], target))
        stored = read_weights(folder / name / "model.weights.h5", network_shapes(spec))
        assert set(stored) == set(bundle.weights)
    return found


def main(target):
    """Write the outputs; they are worthless if another backend did the work."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        found = outputs(Path(folder))
    if keras.backend.backend() != "tensorflow":
        assert "tensorflow" not in sys.modules, "TensorFlow was imported under another backend"
    backend = np.array(keras.backend.backend())
    np.savez_compressed(target, backend=backend, **found)


if __name__ == "__main__":
    main(sys.argv[1])
