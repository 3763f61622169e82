"""Confidence intervals by drawing scans anew: vertebrae of one scan are not independent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DEFAULT_DRAWS = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its percentile interval.

    Attributes:
        value: of the data as they are.
        low: lower end; the value itself where one scan or none carries it.
        high: upper end.
    """

    value: float
    low: float
    high: float


def ratio_interval(
    numerators: np.ndarray, denominators: np.ndarray, draws: int = DEFAULT_DRAWS, seed: int = 0
) -> Interval | None:
    """Return sum(numerators) / sum(denominators) over scans, with its 95 % interval.

    Args:
        numerators: (n scans,) e.g. identified vertebrae, or the sum of distances.
        denominators: (n scans,) e.g. true vertebrae, or the number of distances.
        draws: bootstrap samples.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        None where nothing is counted.
    """
    kept = np.asarray(denominators, float) > 0
    top, bottom = np.asarray(numerators, float)[kept], np.asarray(denominators, float)[kept]
    if bottom.size == 0:
        return None
    value = float(top.sum() / bottom.sum())
    if bottom.size == 1:
        return Interval(value, value, value)
    chosen = np.random.default_rng(seed).integers(0, bottom.size, (draws, bottom.size))
    means = top[chosen].sum(axis=1) / bottom[chosen].sum(axis=1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(value, float(low), float(high))
