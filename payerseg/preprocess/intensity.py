"""How bright: smoothing in millimetres, and Hounsfield units to network input."""

from __future__ import annotations

import numpy as np

from payerseg.config.model_card import WindowSpec
from payerseg.domain.volume import Volume
from payerseg.imaging.regions import smooth_mm

REFERENCE_CLAMP_HU = (-1024, 8192)


def normalize_ct(volume: Volume, window: WindowSpec) -> Volume:
    """Map HU to network input: `clip(hu * scale + shift, low, high)`, float32."""
    values = volume.array.astype(np.float32) * np.float32(window.scale) + np.float32(window.shift)
    return volume.with_array(np.clip(values, window.low, window.high, dtype=np.float32))


def smooth_in_steps(ct: Volume, sigmas_mm: tuple[float, ...]) -> Volume:
    """Smooth as the reference does (REFERENCE §1): all but the last step are kept as files there.

    A file step smooths, truncates toward zero to int16, then clamps to [-1024, 8192]. The last step
    clamps below at -1024, smooths, and stays float32.

    Args:
        ct: (z, y, x) HU.
        sigmas_mm: one per step; () returns the CT as it is.
    """
    if not sigmas_mm:
        return ct
    for sigma in sigmas_mm[:-1]:
        ct = smooth_to_file(ct, sigma)
    raised = np.maximum(ct.array, ct.array.dtype.type(REFERENCE_CLAMP_HU[0]))
    return smooth_mm(ct.with_array(raised), sigmas_mm[-1])


def smooth_to_file(ct: Volume, sigma_mm: float) -> Volume:
    """Return the reference's pre-processed image: smoothed, truncated toward zero, clamped, int16."""
    truncated = np.trunc(smooth_mm(ct, sigma_mm).array)
    return ct.with_array(np.clip(truncated, *REFERENCE_CLAMP_HU).astype(np.int16))
