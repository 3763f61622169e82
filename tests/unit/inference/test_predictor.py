"""The predictor: padding, tiles, batches, thread, precision, repeatability."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from payerseg.config.model_card import ModelCard, SamplingSpec, SCNetSpec, UNetSpec, WindowSpec
from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.inference.predictor import Predictor, Tiling, bytes_per_voxel
from payerseg.networks.build import build_network
from payerseg.networks.bundle import ModelBundle, network_arrays, save

SPEC = UNetSpec((4, 6, 8), inputs=1, outputs=3, head_activation="tanh")
ONE = UNetSpec((4, 6), inputs=2, outputs=1)
SAMPLING = SamplingSpec(8.0, window=WindowSpec(1 / 2048, 0.0, -1.0, 1.0))


def bundle_of(spec, output="heatmap", seed=5):
    card = ModelCard("spine_localization", spec, SAMPLING, output)
    return ModelBundle(card, network_arrays(build_network(spec, seed=seed)), "memory")


def volume_of(*shape, seed=0):
    array = np.random.default_rng(seed).normal(size=shape).astype("float32")
    return Volume(array, Grid(shape[:3], (3.0, 3.0, 3.0), (1.0, 2.0, 3.0)))


def test_a_divisible_volume_is_one_pass():
    volume = volume_of(16, 12, 8)
    predictor = Predictor(bundle_of(SPEC), "float32")
    found = predictor.predict(volume)
    expected = bundle_of(SPEC).network().predict_on_batch(volume.array[None, ..., None])[0]
    np.testing.assert_allclose(found.array, expected, atol=1e-6)
    assert found.grid == volume.grid
    assert found.array.dtype == np.float32


def test_an_odd_volume_is_padded_with_air_and_cropped():
    volume = volume_of(13, 12, 7)
    padded = np.pad(volume.array, ((0, 3), (0, 0), (0, 1)), constant_values=-0.5)  # -1024 / 2048
    predictor = Predictor(bundle_of(SPEC), "float32")
    found = predictor.predict(volume)
    expected = predictor.predict(Volume(padded, Grid(padded.shape, (3.0, 3.0, 3.0))))
    np.testing.assert_array_equal(found.array, expected.array[:13, :, :7])


def test_further_channels_are_padded_with_nothing():
    volume = volume_of(5, 6, 6, 2)
    padded = np.pad(volume.array, ((0, 1), (0, 0), (0, 0), (0, 0)))
    padded[5:, ..., 0] = -0.5
    predictor = Predictor(bundle_of(ONE), "float32")
    found = predictor.predict(volume).array
    assert found.shape == (5, 6, 6)
    expected = predictor.predict(Volume(padded, Grid((6, 6, 6), (3.0, 3.0, 3.0)))).array
    np.testing.assert_array_equal(found, expected[:5])


def test_wrong_channels_are_refused():
    with pytest.raises(ValueError, match="of 1 channels; this network takes 2"):
        Predictor(bundle_of(ONE), "float32").predict(volume_of(4, 4, 4))


def test_logits_become_probabilities():
    volume = volume_of(4, 4, 4, 2)
    raw = Predictor(bundle_of(ONE, "heatmap"), "float32").predict(volume).array
    probability = Predictor(bundle_of(ONE, "logit"), "float32").predict(volume).array
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-raw)), atol=1e-6)


@pytest.mark.parametrize("merge", ["blend", "max"])
def test_tiles_agree_with_one_pass_away_from_their_borders(merge):
    """With one level and one convolution the receptive field is 3: tiles must agree exactly."""
    local = UNetSpec((3,), repeats=1, style="simple", outputs=2)
    volume = volume_of(40, 12, 9)
    whole = Predictor(bundle_of(local), "float32").predict(volume).array
    tiling = Tiling(merge, 0.5, (16, 12, 9))
    tiled = Predictor(bundle_of(local), "float32", tiling=tiling).predict(volume).array
    inside = np.ones(40, bool)
    inside[[7, 8, 15, 16, 23, 24, 31, 32]] = False  # next to a tile's face
    np.testing.assert_allclose(tiled[inside], whole[inside], atol=1e-5)
    assert np.all(np.isfinite(tiled))


def test_memory_bounds_the_tile():
    predictor = Predictor(bundle_of(SPEC), "float32", memory_mb=10)
    seen = []
    forward = predictor._forward
    predictor._forward = lambda x: seen.append(x.shape) or forward(x)
    found = predictor.predict(volume_of(96, 40, 33))
    assert found.array.shape == (96, 40, 33, 3)
    assert len(seen) > 1
    voxels = max(np.prod(shape[1:4]) for shape in seen)
    assert voxels <= max(10e6 / bytes_per_voxel(SPEC), 32**3)


def test_memory_bounds_the_batch():
    predictor = Predictor(bundle_of(ONE), "float32", memory_mb=1)
    seen = []
    forward = predictor._forward
    predictor._forward = lambda x: seen.append(len(x)) or forward(x)
    arrays = [volume_of(16, 16, 16, 2, seed=i).array for i in range(3)]
    outputs = predictor.predict_batch(arrays)
    assert seen == [1, 1, 1]
    generous = Predictor(bundle_of(ONE), "float32").predict_batch(arrays)
    for a, b in zip(outputs, generous, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert predictor.predict_batch([]) == []
    with pytest.raises(ValueError, match="expected one size"):
        predictor.predict_batch([arrays[0], arrays[0][:8]])


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_each_keeps_order_and_prepares_in_one_other_thread(batch):
    predictor = Predictor(bundle_of(ONE), "float32")
    volumes = [volume_of(4, 4, n, 2, seed=i) for i, n in enumerate([4, 4, 6, 6, 6, 4])]
    threads = set()

    def crops():
        for volume in volumes:
            threads.add(threading.current_thread().name)
            yield volume

    found = list(predictor.predict_each(crops(), batch))
    assert len(found) == len(volumes)
    for output, volume in zip(found, volumes, strict=True):
        assert output.grid == volume.grid
        np.testing.assert_allclose(output.array, predictor.predict(volume).array, atol=1e-6)
    assert all(name.startswith("prepare-crops") for name in threads)
    assert list(predictor.predict_each([], batch)) == []


def test_each_hands_on_the_generators_error_after_what_was_made():
    def crops():
        yield volume_of(4, 4, 4, 2)
        msg = "the third file is missing"
        raise FileNotFoundError(msg)

    made = Predictor(bundle_of(ONE), "float32").predict_each(crops())
    next(made)
    with pytest.raises(FileNotFoundError, match="third file"):
        next(made)


def test_each_may_be_left_early():
    alive = threading.active_count()
    made = Predictor(bundle_of(ONE), "float32").predict_each(
        volume_of(4, 4, 4, 2) for _ in range(9)
    )
    next(made)
    made.close()
    assert threading.active_count() == alive


def test_mixed_precision_is_close():
    volume = volume_of(16, 16, 16)
    exact = Predictor(bundle_of(SPEC), "float32").predict(volume).array
    mixed = Predictor(bundle_of(SPEC), "mixed_bfloat16")
    assert mixed.precision == "mixed_bfloat16"
    gap = np.abs(mixed.predict(volume).array - exact)
    assert 0 < gap.max() < 0.05


def test_wider_networks_and_float32_cost_more_memory():
    narrow, wide = UNetSpec((16, 32, 48, 64), 2), UNetSpec((96,) * 5, 2)
    assert bytes_per_voxel(narrow) == pytest.approx(575, rel=0.3)  # measured
    assert bytes_per_voxel(wide) == pytest.approx(2500, rel=0.3)  # measured
    assert bytes_per_voxel(narrow, "mixed_bfloat16") < 0.6 * bytes_per_voxel(narrow)
    scnet = SCNetSpec(
        UNetSpec((16, 24, 32, 48), 1, 26), UNetSpec((24, 32, 48, 48), 26, 26, repeats=1), pool=2
    )
    assert bytes_per_voxel(scnet) > 577  # measured


REPEAT = """
import hashlib, sys
from pathlib import Path
import numpy as np
from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.inference.predictor import Predictor, Tiling
from payerseg.networks.bundle import ModelBundle
array = np.random.default_rng(0).normal(size=(64, 32, 40)).astype("float32")
for precision in ("float32", "mixed_bfloat16"):
    tiling = Tiling(size_zyx=(32, 32, 32))
    predictor = Predictor(ModelBundle.open(Path(sys.argv[1])), precision, tiling=tiling)
    output = predictor.predict(Volume(array, Grid(array.shape, (1.0, 1.0, 1.0))))
    print(hashlib.sha256(output.array.tobytes()).hexdigest())
"""


def test_two_processes_give_the_same_bytes(tmp_path, repository):
    spec = UNetSpec((16, 24, 32), 1, 4)
    save(build_network(spec, seed=1), ModelCard("spine_localization", spec, SAMPLING), tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(repository), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", REPEAT, str(tmp_path)]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert first == second
    assert len(set(first.split())) == 2


def test_a_low_view_is_seen_in_mirror_image_too():
    """The answer to a mirrored volume is the mirrored answer; a high view is seen once."""
    volume = volume_of(16, 8, 8)  # 48 mm high
    mirrored = volume.with_array(np.ascontiguousarray(volume.array[:, :, ::-1]))
    predictor = Predictor(bundle_of(SPEC), "float32")
    both = predictor.predict_both_ways(volume, below_mm=48.1).array
    again = predictor.predict_both_ways(mirrored, below_mm=48.1).array
    np.testing.assert_allclose(again, both[:, :, ::-1], atol=1e-6)
    once = predictor.predict(volume).array
    assert np.abs(both - once).max() > 1e-4
    np.testing.assert_array_equal(predictor.predict_both_ways(volume, below_mm=48.0).array, once)
