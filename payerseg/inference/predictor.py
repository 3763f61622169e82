"""A network that takes volumes of any size and stays within a memory bound."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np

from payerseg.config.model_card import NetworkSpec, SCNetSpec
from payerseg.domain.volume import Volume
from payerseg.inference.device import (
    Forward,
    check_device,
    choose_precision,
    compile_forward,
)
from payerseg.inference.tiles import (
    Zyx,
    blend_tiles,
    merge_tiles_by_maximum,
    plan_tiles,
    reference_tiles,
    tile_size,
)
from payerseg.networks.build import network_channels, network_multiple
from payerseg.networks.bundle import ModelBundle

DEFAULT_MEMORY_MB = 4000


@dataclass(frozen=True, slots=True)
class Tiling:
    """How an input larger than the memory bound is cut.

    Attributes:
        merge: "blend" averages overlapping tiles smoothly; "max" places and joins them as the
            reference does.
        overlap: of neighbouring tiles, part of their size.
        size_zyx: of a tile, voxels, cut to the input's; None = as large as the memory allows.
    """

    merge: Literal["blend", "max"] = "blend"
    overlap: float = 0.5
    size_zyx: Zyx | None = None


WHOLE_OR_BLENDED = Tiling()


class Predictor:
    """Runs the network of a bundle.

    Built once per process, called once per volume. Output values are what the card says, except
    that logits become probabilities.

    Args:
        bundle: opened weights.
        precision: "auto", "float32", "mixed_bfloat16" or "mixed_float16".
        memory_mb: bound on the network's activations, MB of 10^6 bytes. The process itself and the
            output come on top.
        tiling: of inputs that do not fit.

    Attributes:
        precision: the Keras dtype policy in use.
        max_voxels: of one pass, batch included.

    Raises:
        ConfigError: a device that is not there, or a precision that it lacks.
        BundleError: weights and network do not fit.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        precision: str = "auto",
        memory_mb: float = DEFAULT_MEMORY_MB,
        tiling: Tiling = WHOLE_OR_BLENDED,
    ) -> None:
        check_device()
        card = bundle.card
        self.precision = choose_precision(precision)
        self.multiple = network_multiple(card.network)
        self.inputs, self.outputs = network_channels(card.network)
        self.max_voxels = 1e6 * memory_mb / bytes_per_voxel(card.network, self.precision)
        self.tiling = tiling
        window = card.sampling.window
        air = np.clip(
            card.sampling.outside_hu * window.scale + window.shift, window.low, window.high
        )
        # Beyond the scan there is air in the image and nothing in further channels (point heatmaps).
        self._outside = np.array([air, *[0.0] * (self.inputs - 1)], np.float32)
        model = bundle.network(self.precision)
        if card.output == "logit":
            probability = keras.layers.Activation("sigmoid", dtype="float32", name="probability")
            model = keras.Model(model.input, probability(model.output))
        self._forward: Forward = compile_forward(model)

    def predict(self, volume: Volume) -> Volume:
        """Run the network over a volume, in tiles if it is larger than the memory bound.

        Args:
            volume: (z, y, x), or (z, y, x, channel) for a network of several inputs.

        Returns:
            float32 on the same grid: (z, y, x) of a network with one output, else
            (z, y, x, channel).

        Raises:
            ValueError: another number of channels than the network's.
            OutOfResources: the device's memory is too small.
        """
        padded = self._padded(volume.array)
        shape = padded.shape[:3]
        tile = self._tile(shape)
        if tile == shape:
            output = self._forward(padded[None])[0]
        elif self.tiling.merge == "max":
            steps = tuple(int(n * (1 - self.tiling.overlap)) for n in tile)
            starts = reference_tiles(shape, tile, steps)
            output = merge_tiles_by_maximum(self._tiles(padded, tile, starts), shape, self.outputs)
        else:
            starts = plan_tiles(shape, tile, self.tiling.overlap, self.multiple)
            output = blend_tiles(self._tiles(padded, tile, starts), shape, self.outputs)
        return volume.with_array(self._as_asked(output, volume.array.shape))

    def predict_both_ways(self, volume: Volume, below_mm: float) -> Volume:
        """Run the network over a low volume and its mirror image, and average.

        Vertebrae have no side, so both answers are worth as much; what they do not share is chance,
        which matters where little of the spine is seen.

        Args:
            volume: (z, y, x) on an upright grid, x from one side of the patient to the other.
            below_mm: a volume of this height or more is seen once.

        Returns:
            As `predict`.
        """
        seen = self.predict(volume)
        if volume.array.shape[0] * volume.grid.spacing_mm[2] >= below_mm:
            return seen
        mirrored = self.predict(volume.with_array(np.ascontiguousarray(volume.array[:, :, ::-1])))
        return seen.with_array((seen.array + mirrored.array[:, :, ::-1]) / 2)

    def predict_batch(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the network over equal-sized arrays at once, or one after the other if memory is short.

        Args:
            arrays: each (z, y, x) or (z, y, x, channel).

        Returns:
            One output for each, as `predict` gives it.

        Raises:
            ValueError: different sizes, or another number of channels than the network's.
            OutOfResources: the device's memory is too small.
        """
        if len({array.shape for array in arrays}) > 1:
            msg = f"a batch of arrays of {[a.shape for a in arrays]}; expected one size"
            raise ValueError(msg)
        outputs: list[np.ndarray] = []
        step = max(1, int(self.max_voxels // math.prod(arrays[0].shape[:3]))) if arrays else 1
        for first in range(0, len(arrays), step):
            batch = np.stack([self._padded(array) for array in arrays[first : first + step]])
            outputs += [self._as_asked(o, arrays[0].shape) for o in self._forward(batch)]
        return outputs

    def predict_each(self, volumes: Iterable[Volume], batch: int = 1) -> Iterator[Volume]:
        """Run the network over crops of one size while a second thread prepares those to come.

        Args:
            volumes: made one after the other in that thread: a generator that cuts and resamples
                crops keeps a processor busy while the network has the others.
            batch: crops per pass.

        Yields:
            The output of each crop, in their order.

        Raises:
            OutOfResources: the device's memory is too small.
        """
        for group in _prepared_ahead(volumes, batch):
            outputs = self.predict_batch([volume.array for volume in group])
            for volume, output in zip(group, outputs, strict=True):
                yield volume.with_array(output)

    def _tiles(
        self, padded: np.ndarray, tile: Zyx, starts: list[Zyx]
    ) -> Iterator[tuple[Zyx, np.ndarray]]:
        for start in starts:
            block = tuple(slice(a, a + n) for a, n in zip(start, tile, strict=True))
            yield start, self._forward(np.ascontiguousarray(padded[block])[None])[0]

    def _tile(self, shape: Zyx) -> Zyx:
        if self.tiling.size_zyx is None:
            return tile_size(shape, self.max_voxels, self.multiple)
        wished = (math.ceil(n / self.multiple) * self.multiple for n in self.tiling.size_zyx)
        return tuple(min(n, w) for n, w in zip(shape, wished, strict=True))

    def _padded(self, array: np.ndarray) -> np.ndarray:
        """Return (z, y, x, channel) float32, grown at the far ends to the network's multiple."""
        array = array[..., None] if array.ndim == 3 else array
        if array.shape[-1] != self.inputs:
            msg = f"input of {array.shape[-1]} channels; this network takes {self.inputs}"
            raise ValueError(msg)
        missing = [-n % self.multiple for n in array.shape[:3]]
        if not any(missing):
            return np.ascontiguousarray(array, np.float32)
        size = [n + extra for n, extra in zip(array.shape, missing, strict=False)]
        padded = np.broadcast_to(self._outside, (*size, self.inputs)).copy()
        padded[: array.shape[0], : array.shape[1], : array.shape[2]] = array
        return padded

    def _as_asked(self, output: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        cropped = output[: shape[0], : shape[1], : shape[2]]
        return cropped[..., 0] if self.outputs == 1 else cropped


def _prepared_ahead(volumes: Iterable[Volume], batch: int) -> Iterator[list[Volume]]:
    """Yield groups of `batch` volumes; the next group is made in a thread meanwhile.

    A group also ends where the next volume has another size. An error of the generator is raised
    here. One thread only: generators must not be entered twice.
    """
    source = iter(volumes)
    held: list[Volume] = []

    def take() -> list[Volume]:
        group = [held.pop()] if held else []
        while len(group) < max(1, batch):
            volume = next(source, None)
            if volume is None:
                break
            if group and volume.array.shape != group[0].array.shape:
                held.append(volume)
                break
            group.append(volume)
        return group

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare-crops") as thread:
        coming: Future[list[Volume]] = thread.submit(take)
        while group := coming.result():
            coming = thread.submit(take)
            yield group


def bytes_per_voxel(spec: NetworkSpec, precision: str = "float32") -> float:
    """Return how much memory one input voxel costs during a pass, bytes.

    An upper bound fitted to peak resident memory on TensorFlow's processor build (per voxel, float32
    and mixed bfloat16): U-Net 16-32-48-64 575, 340; U-Net 48-48-48-48 1027, 524; U-Net 32-64-96 with
    batch normalisation and 26 outputs 1295; SCN 16-24-32-48 of 26 heatmaps 577, 485. The finest
    level dominates: skip, upsampled and joined features are alive together; in an SCN the heatmaps
    and what the cubic upsampling passes through, all float32.
    """
    unet = spec.local if isinstance(spec, SCNetSpec) else spec
    itemsize = 4 if precision == "float32" else 2
    features = 3.5 * itemsize * sum(unet.widths[:2])
    inputs, outputs = network_channels(spec)
    maps = 5 * 4 * outputs if isinstance(spec, SCNetSpec) else 0
    return max(features, maps) + 8 * (inputs + outputs)
