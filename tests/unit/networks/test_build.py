"""Networks built from specifications: names, seeds, shapes, options, precision."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from payerseg.config.model_card import SCNetSpec, UNetSpec
from payerseg.errors import ConfigError
from payerseg.networks.build import build_network, network_channels, network_multiple

TINY = UNetSpec(widths=(4, 6, 8), inputs=2, outputs=3)
SCN = SCNetSpec(
    local=UNetSpec((4, 6), 1, 5, head_activation="tanh", head_stddev=0.05, head_bias=0.1),
    spatial=UNetSpec((4, 4, 4), 5, 5, repeats=1),
    pool=2,
)


def random_input(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    "spec",
    [
        TINY,
        replace(TINY, style="simple"),
        replace(TINY, normalization="batch", activation="relu", upsampling="nearest"),
        replace(TINY, head_activation="softmax", dropout=0.3, repeats=1),
        replace(TINY, widths=(5,)),
        SCN,
        replace(SCN, spatial_input="image", spatial=replace(SCN.spatial, inputs=1), pool=4),
        replace(SCN, pool=1, upsampling="linear", spatial_activation="sigmoid"),
        replace(SCN, spatial=replace(SCN.spatial, head_activation="sigmoid")),
    ],
)
def test_any_divisible_size_goes_through(spec):
    model = build_network(spec)
    inputs, outputs = network_channels(spec)
    multiple = network_multiple(spec)
    for sides in [(1, 1, 1), (2, 1, 3)]:
        shape = tuple(multiple * n for n in sides)
        found = model.predict_on_batch(random_input((1, *shape, inputs)))
        assert found.shape == (1, *shape, outputs)
        assert np.all(np.isfinite(found))


def test_softmax_is_over_channels():
    model = build_network(replace(TINY, head_activation="softmax"))
    found = model.predict_on_batch(random_input((1, 4, 4, 4, 2)))
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


def test_multiples():
    assert network_multiple(TINY) == 4
    assert network_multiple(SCN) == 8
    assert network_multiple(replace(SCN, pool=3)) == 12
    assert network_multiple(UNetSpec((4,))) == 1


def test_seeds_repeat_and_no_two_layers_draw_alike():
    first, again, other = (build_network(TINY, seed=s) for s in (1, 1, 2))
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    kernels = [v.numpy().ravel()[:20] for v in first.weights if v.path.endswith("kernel")]
    kernels += [v.numpy().ravel()[:20] for v in other.weights if v.path.endswith("kernel")]
    starts = {tuple(np.round(k[:3] / np.abs(k).max(), 4)) for k in kernels}
    assert len(starts) == len(kernels)


def test_he_initialisation_and_head_bias():
    wide = build_network(UNetSpec((32, 32), 1, 1))
    kernel = wide.get_layer("contracting0_conv1").kernel.numpy()
    assert kernel.std() == pytest.approx(np.sqrt(2 / (27 * 32)), rel=0.05)
    head = build_network(SCN).get_layer("local_head")
    np.testing.assert_allclose(head.bias.numpy(), 0.1)
    assert np.abs(head.kernel.numpy()).max() <= 0.1 + 1e-6  # truncated at two sigma


def test_layer_names_are_the_weights_names():
    paths = [v.path for v in build_network(SCN).weights]
    assert len(set(paths)) == len(paths)
    assert {"local_contracting0_conv1/kernel", "spatial_expanding2_conv0/bias"} <= set(paths)
    assert "local_head/kernel" in paths


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_heads_and_the_product_stay_float32(dtype):
    model = build_network(SCN, dtype)
    assert {v.dtype for v in model.weights} == {"float32"}
    assert model.get_layer("local_contracting0_conv0").compute_dtype == dtype.removeprefix("mixed_")
    for name in (
        "local_head",
        "local_heatmaps",
        "spatial_upsample",
        "spatial_heatmaps",
        "heatmaps",
    ):
        assert model.get_layer(name).compute_dtype == "float32", name
    if dtype == "mixed_float16":
        return  # TensorFlow pools in float16 on a GPU only
    local, spatial, product = keras.Model(
        model.input,
        [model.get_layer(n).output for n in ("local_heatmaps", "spatial_heatmaps", "heatmaps")],
    ).predict_on_batch(random_input((1, 8, 8, 8, 1)))
    np.testing.assert_array_equal(local * spatial, product)


def test_dropout_acts_in_training_only():
    model = build_network(replace(TINY, dropout=0.5))
    x = random_input((1, 4, 4, 4, 2))
    calm = [keras.ops.convert_to_numpy(model(x, training=False)) for _ in range(2)]
    np.testing.assert_array_equal(*calm)
    wild = [keras.ops.convert_to_numpy(model(x, training=True)) for _ in range(2)]
    assert np.abs(wild[0] - wild[1]).max() > 1e-3


def test_one_step_of_training_lowers_the_loss():
    model = build_network(SCN, "mixed_bfloat16", seed=3)
    model.compile(keras.optimizers.Adam(1e-2), "mse", jit_compile=False)
    x, y = random_input((1, 8, 8, 8, 1)), np.full((1, 8, 8, 8, 5), 0.2, "float32")
    losses = [float(model.train_on_batch(x, y)) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    "spec",
    [
        replace(TINY, widths=()),
        replace(TINY, widths=(4, 0)),
        replace(TINY, dropout=1.0),
        replace(SCN, spatial=replace(SCN.spatial, outputs=4)),
        replace(SCN, spatial=replace(SCN.spatial, inputs=1)),
        replace(SCN, pool=0),
    ],
)
def test_impossible_specifications_are_refused(spec):
    with pytest.raises(ConfigError, match="expected"):
        build_network(spec)
