"""The only file that knows which engine runs under Keras: devices, precision, compiled forward passes.

Which backend, which GPU and how many threads is decided by the environment of the process
(KERAS_BACKEND, CUDA_VISIBLE_DEVICES, TF_NUM_INTRAOP_THREADS, OMP_NUM_THREADS), never here; a GPU
that PAYERSEG_DEVICE asks for and nobody sees is an error, not a slow run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from payerseg.config.schema import PRECISIONS
from payerseg.errors import ConfigError, OutOfResources

Forward = Callable[..., np.ndarray]
"""(b, z, y, x, c) float32 → (b, z, y, x, k) float32; a level network takes view and places."""

CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16")
BFLOAT16_CAPABILITY = 8
"""First CUDA compute capability (Ampere) whose bfloat16 is not emulated."""
ADVICE = "set a smaller memory_mb for this stage, or run on a machine with more memory"


def cpu_has_bfloat16() -> bool:
    """Tell whether the processor multiplies bfloat16 itself (AVX-512 BF16 or AMX; Linux only)."""
    try:
        text = CPU_INFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return any(flag in flags for flag in BFLOAT16_FLAGS)


def gpu_capabilities() -> list[int]:
    """Return the major compute capability of every GPU that the backend sees; [] on a CPU."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        details = [
            tf.config.experimental.get_device_details(gpu)
            for gpu in tf.config.list_physical_devices("GPU")
        ]
        return [int(d.get("compute_capability", (0, 0))[0]) for d in details]
    if backend == "torch":
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return [torch.cuda.get_device_capability(i)[0] for i in range(count)]
    import jax

    gpus = [d for d in jax.devices() if d.platform == "gpu"]
    return [int(float(getattr(d, "compute_capability", 0) or 0)) for d in gpus]


def check_device() -> None:
    """Refuse to run on the processor where a GPU was asked for.

    Raises:
        ConfigError: PAYERSEG_DEVICE is gpu or gpu:N and the backend sees none.
    """
    wanted = os.environ.get("PAYERSEG_DEVICE", "auto")
    if wanted.startswith("gpu") and not gpu_capabilities():
        msg = f"device {wanted} was asked for, but {keras.backend.backend()} sees none; use auto or cpu"
        raise ConfigError(msg)


def choose_precision(precision: str = "auto") -> str:
    """Return the Keras dtype policy to run a network with.

    Args:
        precision: "auto" or a policy. "auto" is mixed bfloat16 where the processor (under
            TensorFlow) or every GPU computes in it, else float32.

    Raises:
        ConfigError: an unknown policy, or one that this device has no kernels for.
    """
    if precision not in PRECISIONS:
        msg = f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}"
        raise ConfigError(msg)
    backend, gpus = keras.backend.backend(), gpu_capabilities()
    if precision == "auto":
        native = min(gpus) >= BFLOAT16_CAPABILITY if gpus else cpu_has_bfloat16()
        return "mixed_bfloat16" if native and (gpus or backend == "tensorflow") else "float32"
    if precision == "mixed_float16" and not gpus:
        msg = "precision mixed_float16 needs a GPU; use auto, float32 or mixed_bfloat16 here"
        raise ConfigError(msg)
    if precision == "mixed_bfloat16" and backend == "torch" and not gpus:
        msg = "PyTorch has no bfloat16 pooling on a processor; use auto or float32 here"
        raise ConfigError(msg)
    return precision


def describe_device() -> dict[str, Any]:
    """Return what a run record and `payerseg doctor` say about the device, as plain JSON values."""
    gpus = gpu_capabilities()
    return {
        "backend": keras.backend.backend(),
        "device": "gpu" if gpus else "cpu",
        "gpus": len(gpus),
        "cores": os.cpu_count() or 1,
        "cpu_bfloat16": cpu_has_bfloat16(),
        "precision": choose_precision(),
    }


def training_needs_xla() -> bool:
    """Tell whether a training step must be compiled by XLA: JAX has no other compiler.

    TensorFlow's own graphs are ten times faster than XLA on a processor; PyTorch needs neither.
    """
    return keras.backend.backend() == "jax"


def compile_forward(model: keras.Model) -> Forward:
    """Return the network's forward pass as one compiled function for every input size.

    TensorFlow traces one graph with sizes left open (same bits and speed as one graph per size,
    without a new trace of about a second for each). JAX compiles once per size. PyTorch needs no
    compilation. XLA is never asked for on TensorFlow: on a processor it is ten times slower here.

    Returns:
        A function that raises OutOfResources where the device runs out of memory.
    """
    return {"tensorflow": _tensorflow, "torch": _torch, "jax": _jax}[keras.backend.backend()](model)


def _tensorflow(model: keras.Model) -> Forward:
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # the device is in use already, so its setting stands
            break
    if len(model.inputs) == 1:
        shapes = [(None, None, None, None, model.input.shape[-1])]
    else:
        shapes = [tuple(entry.shape) for entry in model.inputs]
    graph = tf.function(
        lambda *arrays: model(_arguments(arrays), training=False),
        input_signature=[tf.TensorSpec(shape, tf.float32) for shape in shapes],
        jit_compile=False,
    ).get_concrete_function()

    def forward(*arrays: np.ndarray) -> np.ndarray:
        try:
            return graph(*(tf.constant(array) for array in arrays)).numpy()
        except tf.errors.ResourceExhaustedError as error:
            raise _out_of_memory(arrays[0]) from error

    return forward


def _arguments(arrays: Sequence[Any]) -> Any:
    """Return what a Keras model is called with: one array, or all of them."""
    return arrays[0] if len(arrays) == 1 else list(arrays)


def _torch(model: keras.Model) -> Forward:
    import torch

    def forward(*arrays: np.ndarray) -> np.ndarray:
        try:
            with torch.inference_mode():
                tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
                return model(_arguments(tensors), training=False).cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(arrays[0]) from error

    return forward


def _jax(model: keras.Model) -> Forward:
    import jax

    trainable = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    @jax.jit
    def graph(weights: Any, others: Any, *arrays: Any) -> Any:
        return model.stateless_call(weights, others, _arguments(arrays), training=False)[0]

    def forward(*arrays: np.ndarray) -> np.ndarray:
        try:
            return np.array(graph(trainable, fixed, *arrays))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise _out_of_memory(arrays[0]) from error

    return forward


def _out_of_memory(array: np.ndarray) -> OutOfResources:
    size = " x ".join(str(n) for n in array.shape[1:4])
    return OutOfResources(f"the device's memory does not hold a block of {size} voxels; {ADVICE}")
