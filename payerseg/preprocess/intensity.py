"""How bright: Hounsfield units to network input."""

from __future__ import annotations

import numpy as np

from payerseg.config.model_card import WindowSpec
from payerseg.domain.volume import Volume


def normalize_ct(volume: Volume, window: WindowSpec) -> Volume:
    """Map HU to network input: `clip(hu * scale + shift, low, high)`, float32."""
    values = volume.array.astype(np.float32) * np.float32(window.scale) + np.float32(window.shift)
    return volume.with_array(np.clip(values, window.low, window.high, dtype=np.float32))
