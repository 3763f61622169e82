"""Places: candidates of all channels merged where they mean the same spot.

A network that hesitates between two names peaks in both channels at one vertebra; a place keeps the
heat of every name there, so the decoder can weigh names against each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from payerseg.domain.vertebra import N_CHANNELS
from payerseg.postprocess.peaks import Candidate

STRENGTH_POWER = 3
"""Heats are joined as the norm of this power: two names of one half each make 0.63, faint noise in all
26 channels hardly more than its strongest."""


@dataclass(frozen=True, slots=True)
class Places:
    """All places of one scan, strongest first.

    Attributes:
        positions_mm: (n, 3) LPS.
        heat: (n, 26) by network channel, never negative.
    """

    positions_mm: np.ndarray
    heat: np.ndarray

    def __len__(self) -> int:
        return len(self.positions_mm)

    @property
    def strength(self) -> np.ndarray:
        """(n,) heat of all names together."""
        return np.sum(self.heat**STRENGTH_POWER, axis=1) ** (1 / STRENGTH_POWER)


def merge_candidates(
    candidates: list[Candidate], merge_distance_mm: float, max_places: int
) -> Places:
    """Merge candidates around the strongest ones.

    Args:
        candidates: in any order; the result does not depend on it.
        merge_distance_mm: a candidate nearer to a place's strongest candidate belongs to that place.
        max_places: the weakest beyond are left out.

    Returns:
        Places whose position is the mean of their candidates, weighted by squared heat (the names the
        network is sure of are also where it is most exact).
    """
    ordered = sorted(candidates, key=lambda c: (-c.value, c.channel, c.position_mm))
    seeds: list[np.ndarray] = []
    members: list[list[Candidate]] = []
    for candidate in ordered:
        point = np.asarray(candidate.position_mm)
        distances = [float(np.linalg.norm(point - seed)) for seed in seeds]
        nearest = int(np.argmin(distances)) if distances else -1
        if nearest >= 0 and distances[nearest] < merge_distance_mm:
            members[nearest].append(candidate)
        else:
            seeds.append(point)
            members.append([candidate])
    merged = [_place_of(group) for group in members]
    positions = np.array([place[0] for place in merged]).reshape(-1, 3)
    heat = np.array([place[1] for place in merged]).reshape(-1, N_CHANNELS)
    strongest = np.argsort(-Places(positions, heat).strength, kind="stable")[:max_places]
    return Places(positions[strongest], heat[strongest])


def _place_of(group: list[Candidate]) -> tuple[np.ndarray, np.ndarray]:
    """Join candidates, strongest first; channels without a peak here are read at the strongest one."""
    heat = np.zeros(N_CHANNELS)
    values = group[0].channel_values  # 26, or 25 of a network without T13
    heat[: len(values)] = np.maximum(values, 0.0)
    for candidate in group:
        heat[candidate.channel] = max(heat[candidate.channel], candidate.value)
    weights = np.array([candidate.value for candidate in group]) ** 2
    points = np.array([candidate.position_mm for candidate in group])
    return (weights[:, None] * points).sum(axis=0) / weights.sum(), heat
