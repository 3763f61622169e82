"""Upsampling by interpolation, which Keras lacks: its own `UpSampling3D` only repeats voxels.

Per axis and factor f, output o sits at input position c = (o + 1/2) / f - 1/2 (half-pixel centres)
and its value is the sum over j of w(c - j) * x[clamp(j)] (edge-replicated), REFERENCE §2.1.
Every axis is one product with a small constant matrix: about 1.3 times faster in training on a CPU
than adding shifted copies, and the same three lines on every backend.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

Kernel = Literal["linear", "cubic"]

KEYS_A = -0.5
"""Keys' cubic convolution parameter, as in the reference."""


def kernel_weights(kernel: Kernel, distance: np.ndarray) -> np.ndarray:
    """Return w(t) of the interpolation kernel.

    Args:
        kernel: "linear", or "cubic" (Keys 1981 with a = -0.5).
        distance: t in input voxels, any shape.
    """
    t = np.abs(distance)
    if kernel == "linear":
        return np.maximum(0.0, 1.0 - t)
    near = (KEYS_A + 2) * t**3 - (KEYS_A + 3) * t**2 + 1
    far = KEYS_A * (t**3 - 5 * t**2 + 8 * t - 4)
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def phase_taps(kernel: Kernel, factor: int) -> list[tuple[int, int, float]]:
    """Return (phase, shift, weight): output `factor * i + phase` takes weight * x[i + shift]."""
    reach = 1 if kernel == "linear" else 2
    taps = []
    for phase in range(factor):
        centre = (phase + 0.5) / factor - 0.5
        first = math.floor(centre) - reach + 1
        for shift in range(first, first + 2 * reach):
            weight = float(kernel_weights(kernel, np.asarray(centre - shift)))
            taps.append((phase, shift, weight))
    return [tap for tap in taps if tap[2] != 0.0]


def interpolation_matrix(kernel: Kernel, factor: int, size: int) -> np.ndarray:
    """Return the (factor * size, size) float32 matrix that upsamples one axis of `size` voxels."""
    matrix = np.zeros((factor * size, size))
    for phase, shift, weight in phase_taps(kernel, factor):
        for i in range(size):
            matrix[factor * i + phase, min(max(i + shift, 0), size - 1)] += weight
    return matrix.astype("float32")


def _dynamic_matrix(kernel: Kernel, factor: int, size: Any) -> Any:
    """Build the same matrix for a size known only when the graph runs (TensorFlow).

    All taps at once: every graph operation costs time in each process that loads a network.
    """
    taps = phase_taps(kernel, factor)
    shifts = np.array([shift for _, shift, _ in taps], "int32")
    weights = np.zeros((factor, len(taps)), "float32")
    for number, (phase, _, weight) in enumerate(taps):
        weights[phase, number] = weight
    columns = ops.arange(size, dtype="int32")
    sources = ops.clip(columns[None, :] + shifts[:, None], 0, size - 1)
    hits = ops.cast(ops.equal(sources[:, :, None], columns), "float32")
    phases = ops.matmul(weights, ops.reshape(hits, (len(taps), size * size)))
    matrix = ops.transpose(ops.reshape(phases, (factor, size, size)), (1, 0, 2))
    return ops.reshape(matrix, (factor * size, size))


class InterpolatedUpsampling3D(keras.layers.Layer):
    """Upsample (b, z, y, x, c) by a whole factor along z, y and x.

    Args:
        factor: output voxels per input voxel along each axis.
        kernel: "linear" or "cubic".
        name, dtype: as in every Keras layer.
    """

    def __init__(
        self,
        factor: int = 2,
        kernel: Kernel = "linear",
        name: str | None = None,
        dtype: Any = None,
        *,
        trainable: bool = True,
    ) -> None:
        super().__init__(name=name, dtype=dtype, trainable=trainable)
        if factor < 1 or kernel not in ("linear", "cubic"):
            msg = (
                f"upsampling by {factor} with {kernel!r}; expected at least 1, 'linear' or 'cubic'"
            )
            raise ValueError(msg)
        self.factor = int(factor)
        self.kernel = kernel

    def call(self, inputs: Any) -> Any:
        """Interpolate x first, z last: the long axes are then contiguous blocks."""
        outputs = inputs
        for axis in (3, 2, 1):
            outputs = self._along(outputs, axis)
        return outputs

    def _along(self, inputs: Any, axis: int) -> Any:
        shape = ops.shape(inputs)
        size = shape[axis]
        if isinstance(size, int):
            matrix = ops.convert_to_tensor(
                interpolation_matrix(self.kernel, self.factor, size), dtype=self.compute_dtype
            )
        else:
            matrix = ops.cast(_dynamic_matrix(self.kernel, self.factor, size), self.compute_dtype)
        outer = math.prod(shape[1:axis], start=shape[0])
        inner = math.prod(shape[axis + 1 : 4], start=shape[4])
        flat = ops.reshape(inputs, (outer, size, inner))
        product = ops.matmul(matrix, flat)
        return ops.reshape(product, (*shape[:axis], self.factor * size, *shape[axis + 1 :]))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape after upsampling; unknown sizes stay unknown."""
        grown = [None if n is None else n * self.factor for n in input_shape[1:4]]
        return (input_shape[0], *grown, input_shape[4])

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds this layer."""
        return {**super().get_config(), "factor": self.factor, "kernel": self.kernel}


class FixableBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation that can be trained further with its running averages, as at inference.

    With one example a step, the example's own mean and variance are not those of inference; the last
    part of a training can take that difference away (`training.fit`).

    Attributes:
        fixed: running averages from now on; read when a training step is traced.
    """

    fixed: bool = False

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """Normalise by the input's own statistics in training, by the running ones otherwise."""
        return super().call(inputs, training=bool(training) and not self.fixed, mask=mask)
