"""How fast this machine multiplies matrices: the yardstick for the networks' speed.

    python benchmarks/matrix_peak.py [float32] [mixed_bfloat16]

The limit of the silicon needs hand-written assembler to reach; what counts for a network is what the best
kernels of its own engine reach on shapes made for them. So matrix products and 3 x 3 x 3 convolutions of
several sizes, wide enough that every tile of the result stays in registers, run for a second each after a
warm-up; the fastest single run is the peak. A convolution of a network cannot beat it by more than noise.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import keras

MATRIX_SIZES = (1024, 2048, 4096)
CONVOLUTIONS = (((32, 64, 64), 64), ((32, 64, 64), 128), ((16, 48, 48), 256))
"""Voxels (z, y, x) and channels."""
KERNEL_TAPS = 27
SECONDS_EACH = 1.0
GIGA = 1e9


@dataclass(frozen=True, slots=True)
class Rate:
    """Speed of the fastest run, GFLOP/s: by the wall clock, and per CPU second of all threads."""

    per_second: float
    per_cpu_second: float
    of: str


def matrix_peak(precision: str) -> Rate:
    """Return the fastest of all candidates in the operand type of a Keras precision."""
    import tensorflow as tf

    kind = tf.float32 if precision == "float32" else tf.bfloat16
    rates = []
    for size in MATRIX_SIZES:
        a, b = (tf.cast(tf.random.normal((size, size)), kind) for _ in range(2))
        product = tf.function(lambda a, b: tf.linalg.matmul(a, b)[:1, :1])
        flops = 2.0 * size**3
        rates.append(_fastest(lambda a=a, b=b, f=product: f(a, b), flops, f"{size}² matrices"))
    for sides, channels in CONVOLUTIONS:
        image = tf.cast(tf.random.normal((1, *sides, channels)), kind)
        filters = tf.cast(tf.random.normal((3, 3, 3, channels, channels)), kind)
        folded = tf.function(lambda x, w: tf.nn.conv3d(x, w, (1,) * 5, "SAME")[:, :1])
        flops = 2.0 * math.prod(sides) * KERNEL_TAPS * channels**2
        name = f"convolution of {channels} channels"
        rates.append(_fastest(lambda x=image, w=filters, f=folded: f(x, w), flops, name))
    best_wall = max(rates, key=lambda rate: rate.per_second)
    return Rate(best_wall.per_second, max(r.per_cpu_second for r in rates), best_wall.of)


def _fastest(run: Callable[[], object], flops: float, name: str) -> Rate:
    run()
    wall, cpu = [], []
    end = time.perf_counter() + SECONDS_EACH
    while time.perf_counter() < end or len(wall) < 3:
        started, started_cpu = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - started_cpu)
    return Rate(flops / min(wall) / GIGA, flops / min(cpu) / GIGA, name)


def network_flops(model: keras.Model, shape: tuple[int, ...]) -> float:
    """Return the floating-point operations of a network's convolutions for an input (b, z, y, x, c).

    Two per multiply-add, taps on the zero padding included; everything else is left out: it is a few
    per cent, and no matrix product.
    """
    sized = keras.models.clone_model(model, input_tensors=keras.Input(batch_shape=shape))
    total = 0.0
    for layer in sized.layers:
        if isinstance(layer, keras.layers.Conv3D):
            taps = math.prod(layer.kernel.shape[:4])
            total += 2.0 * taps * math.prod(layer.output.shape)
    return total


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["float32", "mixed_bfloat16"]
    print(json.dumps({precision: asdict(matrix_peak(precision)) for precision in wanted}))
