"""The level network of a stage-2 bundle, ready to be asked about places of a scan."""

from __future__ import annotations

import numpy as np

from payerseg.config.model_card import LEVELS_FOLDER, LevelNetSpec
from payerseg.config.training import LEVEL_NETWORK
from payerseg.domain.grid import Grid
from payerseg.domain.levels import N_OUTPUTS
from payerseg.domain.volume import Volume
from payerseg.errors import BundleError
from payerseg.imaging.resample import sample_smoothly
from payerseg.inference.device import check_device, choose_precision, compile_forward
from payerseg.inference.level_views import read_levels
from payerseg.networks.bundle import ModelBundle

Array = np.ndarray


class LevelReader:
    """The level network of a bundle; built once per process, asked once per scan.

    Args:
        bundle: of the level network.
        precision: "auto" or a Keras dtype policy.

    Raises:
        ConfigError: a device that is not there, or a precision that it lacks.
        BundleError: weights and network do not fit, or the bundle is another network's.
    """

    def __init__(self, bundle: ModelBundle, precision: str = "auto") -> None:
        check_device()
        self.card = bundle.card
        network = self.card.network
        if not isinstance(network, LevelNetSpec) or self.card.sampling.base_mm is None:
            msg = (
                f"{bundle.path} holds no level network; expected the card of `train --stage levels`"
            )
            raise BundleError(msg)
        self._base_mm = self.card.sampling.base_mm
        self._half_view_mm = np.array(network.shape_zyx[::-1]) * self.card.sampling.spacing_mm / 2
        self._forward = compile_forward(bundle.network(choose_precision(precision)))

    @classmethod
    def beside(cls, bundle: ModelBundle, precision: str = "auto") -> LevelReader | None:
        """Return the reader of a stage-2 bundle's second network; None where it has none."""
        folder = bundle.path / LEVELS_FOLDER
        if not folder.is_dir():
            return None
        return cls(ModelBundle.open(folder, LEVEL_NETWORK), precision)

    def read(self, ct: Volume, points_mm: Array) -> Array:
        """Return (n, `domain.levels.N_OUTPUTS`) logits for (n, 3) LPS places in a scan."""
        if not len(points_mm):
            return np.zeros((0, N_OUTPUTS), np.float32)
        low = points_mm.min(axis=0) - self._half_view_mm - self._base_mm
        high = points_mm.max(axis=0) + self._half_view_mm + self._base_mm
        corners = ct.grid.corners_mm()
        low, high = np.maximum(low, corners.min(axis=0)), np.minimum(high, corners.max(axis=0))
        size = np.maximum(1, np.ceil((high - low) / self._base_mm)).astype(int)
        origin = (low + high) / 2 - (size - 1) * self._base_mm / 2
        grid = Grid(tuple(size[::-1].tolist()), (self._base_mm,) * 3, tuple(origin))
        base = sample_smoothly(ct, grid, outside=self.card.sampling.outside_hu)
        return read_levels(self._forward, self.card, base.array, origin, self._base_mm, points_mm)
