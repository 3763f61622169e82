"""P15-P18: upsampling, forward passes with recorded weights, parameter counts of the reference."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

from payerseg.config.model_card import SCNetSpec, UNetSpec
from payerseg.networks.build import build_network
from payerseg.networks.layers import InterpolatedUpsampling3D

GOLDEN = Path(__file__).parents[1] / "golden" / "data"
UPSAMPLING_GATE, FLOAT32_GATE = 1e-5, 1e-4


def unet_key(keys, path):
    layer, variable = path.split("/")
    place = "prediction" if layer == "head" else layer.replace("_", "/")
    (key,) = [k for k in keys if k.endswith(f"/{place}/{variable}:0")]
    return key


def scnet_key(keys, path):
    """The local U-Net is the one whose first kernel has one input channel: unet_avg_linear3d_3."""
    part, layer = path.split("/")[0].split("_", 1)
    variable = path.split("/")[1]
    if layer == "head":
        place = f"{part}_heatmaps/{variable}:0"
    else:
        unet = f"unet_avg_linear3d_{3 if part == 'local' else 4}"
        place = f"{unet}/{layer.replace('_', '/')}/{variable}:0"
    (key,) = [k for k in keys if k.endswith(f"/{place}")]
    return key


def with_recorded_weights(spec, recorded, find_key, dtype="float32"):
    keys = [k for k in recorded.files if k.startswith("w/")]
    model = build_network(spec, dtype)
    used = {find_key(keys, variable.path) for variable in model.weights}
    assert used == set(keys)
    for variable in model.weights:
        variable.assign(recorded[find_key(keys, variable.path)])
    return model


@pytest.mark.parametrize(
    ("name", "kernel", "factor"),
    [
        ("linear2", "linear", 2),
        ("cubic4", "cubic", 4),
        ("cubic8", "cubic", 8),
    ],
)
def test_upsampling_equals_the_reference(name, kernel, factor):
    golden = np.load(GOLDEN / "upsample.npz")
    layer = InterpolatedUpsampling3D(factor, kernel)
    found = keras.ops.convert_to_numpy(layer(np.moveaxis(golden["x"], 1, -1)))
    np.testing.assert_allclose(np.moveaxis(found, -1, 1), golden[name], atol=UPSAMPLING_GATE)


@pytest.mark.parametrize(
    ("name", "widths", "inputs"),
    [
        ("net_unet_l3_f8_in2", (8,) * 3, 2),
        ("net_unet_l5_f6_in1", (6,) * 5, 1),
        ("net_unet_l5_f6_in2", (6,) * 5, 2),
    ],
)
def test_unet_forward_equals_the_reference(name, widths, inputs, request):
    path = GOLDEN / f"{name}.npz"
    if not path.is_file():
        path = request.getfixturevalue("shared_dir") / "reference" / "golden" / f"{name}.npz"
    golden = np.load(path)
    spec = UNetSpec(widths=widths, inputs=inputs)
    model = with_recorded_weights(spec, golden, unet_key)
    found = model.predict_on_batch(golden["x_ndhwc"])
    np.testing.assert_allclose(found, golden["y_ndhwc"], atol=FLOAT32_GATE)
    half = with_recorded_weights(spec, golden, unet_key, "mixed_bfloat16")
    gap = np.abs(half.predict_on_batch(golden["x_ndhwc"]) - golden["y_ndhwc"]).max()
    assert gap < 0.02 * np.abs(golden["y_ndhwc"]).max()


def test_scnet_forward_equals_the_reference(shared_dir):
    golden = np.load(shared_dir / "reference" / "golden" / "net_scn_l4_f6_k5.npz")
    spec = SCNetSpec(
        local=UNetSpec((6,) * 4, 1, 5, head_activation="tanh"),
        spatial=UNetSpec((6,) * 4, 5, 5, repeats=1),
    )
    model = with_recorded_weights(spec, golden, scnet_key)
    outputs = ["heatmaps", "local_heatmaps", "spatial_heatmaps"]
    model = keras.Model(model.input, [model.get_layer(name).output for name in outputs])
    for name, found in zip(outputs, model.predict_on_batch(golden["x_ndhwc"]), strict=True):
        expected = golden[re.sub("_heatmaps", "", name)]
        np.testing.assert_allclose(found, expected, atol=FLOAT32_GATE, err_msg=name)


def test_parameter_counts_of_the_reference():
    wide = (96,) * 5
    scnet = SCNetSpec(
        local=UNetSpec(wide[:4], 1, 26, head_activation="tanh"),
        spatial=UNetSpec(wide[:4], 26, 26, repeats=1),
    )
    specs = [UNetSpec(wide, 1), scnet, UNetSpec(wide, 2)]
    counts = [build_network(spec).count_params() for spec in specs]
    assert counts == [5_727_745, 7_044_628, 5_730_337]
