"""Which precision runs where, and what a device says of itself."""

import json

import keras
import pytest

from payerseg.errors import ConfigError
from payerseg.inference import device


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Pretend another machine: `machine(backend, flags, gpus)`."""

    def pretend(backend="tensorflow", flags="", gpus=()):
        info = tmp_path / "cpuinfo"
        info.write_text(f"processor : 0\nflags\t\t: fpu {flags} sse\nbugs : none\n")
        monkeypatch.setattr(device, "CPU_INFO", info)
        monkeypatch.setattr(device, "gpu_capabilities", lambda: list(gpus))
        monkeypatch.setattr(keras.backend, "backend", lambda: backend)

    return pretend


@pytest.mark.parametrize(
    ("backend", "flags", "gpus", "expected"),
    [
        ("tensorflow", "avx2", (), "float32"),
        ("tensorflow", "avx2 avx512_bf16", (), "mixed_bfloat16"),
        ("tensorflow", "amx_bf16", (), "mixed_bfloat16"),
        ("torch", "avx512_bf16", (), "float32"),
        ("jax", "avx512_bf16", (), "float32"),
        ("torch", "", (9,), "mixed_bfloat16"),
        ("jax", "", (8,), "mixed_bfloat16"),
        ("tensorflow", "avx512_bf16", (7,), "float32"),
        ("tensorflow", "", (9, 7), "float32"),
    ],
)
def test_auto_takes_what_the_device_computes_in(machine, backend, flags, gpus, expected):
    machine(backend, flags, gpus)
    assert device.choose_precision("auto") == expected
    assert device.choose_precision("float32") == "float32"


def test_impossible_precisions_are_refused(machine):
    machine("tensorflow")
    with pytest.raises(ConfigError, match="needs a GPU"):
        device.choose_precision("mixed_float16")
    with pytest.raises(ConfigError, match="expected one of auto"):
        device.choose_precision("int8")
    machine("torch")
    with pytest.raises(ConfigError, match="no bfloat16 pooling"):
        device.choose_precision("mixed_bfloat16")
    machine("torch", gpus=(7,))
    assert device.choose_precision("mixed_float16") == "mixed_float16"


def test_a_gpu_that_is_not_there_is_an_error(machine, monkeypatch):
    machine("tensorflow")
    device.check_device()
    monkeypatch.setenv("PAYERSEG_DEVICE", "gpu:1")
    with pytest.raises(ConfigError, match="gpu:1 was asked for, but tensorflow sees none"):
        device.check_device()
    machine("tensorflow", gpus=(9,))
    device.check_device()


def test_a_machine_without_cpuinfo_has_no_bfloat16(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "CPU_INFO", tmp_path / "none")
    assert not device.cpu_has_bfloat16()


def test_the_description_is_plain_json():
    found = json.loads(json.dumps(device.describe_device()))
    assert found["backend"] == "tensorflow"
    assert found["device"] in ("cpu", "gpu")
    assert found["cores"] >= 1


def test_running_out_of_memory_is_named(monkeypatch):
    import numpy as np
    import tensorflow as tf

    from payerseg.config.model_card import UNetSpec
    from payerseg.errors import OutOfResources
    from payerseg.networks.build import build_network

    forward = device.compile_forward(build_network(UNetSpec((2,))))

    def exhausted(array):
        raise tf.errors.ResourceExhaustedError(None, None, "no memory")

    monkeypatch.setattr(tf, "constant", exhausted)
    with pytest.raises(OutOfResources, match="block of 4 x 5 x 6 voxels; set a smaller memory_mb"):
        forward(np.zeros((1, 4, 5, 6, 1), "float32"))
