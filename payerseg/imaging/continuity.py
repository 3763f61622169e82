"""Do neighbouring slices of a volume continue each other?"""

from __future__ import annotations

from itertools import groupby

import numpy as np

ALTERNATING = 1.25
"""Neighbours differ by this much more than next neighbours do where two stacks are interleaved; in a
body both grow with the distance, and in noise both are equal."""
MIN_RUN = 5
_PIXELS = 96
"""Slices are compared on so many pixels along each side at most."""


def interleaves(array: np.ndarray) -> bool:
    """Tell whether slices (z, y, x) are of two bodies in turn: every second one fits, neighbours do not."""
    if len(array) < MIN_RUN + 2:
        return False
    near, next_but_one = _differences(array, 1), _differences(array, 2)
    alternates = np.minimum(near[:-1], near[1:]) > ALTERNATING * next_but_one
    return any(turns and sum(1 for _ in run) >= MIN_RUN for turns, run in groupby(alternates))


def _differences(array: np.ndarray, distance: int) -> np.ndarray:
    """Return the mean absolute difference of slices k and k + distance."""
    rows, columns = (max(1, size // _PIXELS) for size in array.shape[1:])
    coarse = array[:, ::rows, ::columns]
    pairs = zip(coarse[:-distance], coarse[distance:], strict=True)
    return np.array([np.mean(np.abs(np.subtract(b, a, dtype=np.float32))) for a, b in pairs])
