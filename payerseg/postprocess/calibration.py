"""Fit the decoder's evidence temperature, so that its probabilities mean what they say.

A network misnames neighbouring vertebrae together, so the evidence of a chain is worth less than its
sum. How much less depends on the network; it is measured on scans with known landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from payerseg.config.graph import GraphConfig
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.postprocess.chain_search import name_probabilities, weigh_chains
from payerseg.postprocess.peaks import Candidate
from payerseg.postprocess.places import merge_candidates
from payerseg.postprocess.spine_prior import SpinePrior

SAME_PLACE_MM = 10.0
LOWEST_PROBABILITY = 1e-4
"""One hopeless scan must not outweigh all others."""
TEMPERATURES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0)


@dataclass(frozen=True, slots=True)
class DecodedExample:
    """A scan (or a slab of one) for calibration: what the network said, and the truth.

    Attributes:
        candidates: of the heatmaps, with `channel_values`.
        truth: marked vertebrae; others may be there.
        field: the scan's grid.
    """

    candidates: list[Candidate]
    truth: Landmarks
    field: Grid | None = None


@dataclass(frozen=True, slots=True)
class TemperatureFit:
    """The best temperature and the loss of every one tried (mean negative log probability, nats)."""

    temperature: float
    losses: dict[float, float]


def fit_temperature(
    examples: Sequence[DecodedExample],
    prior: SpinePrior | None = None,
    config: GraphConfig | None = None,
    temperatures: Sequence[float] = TEMPERATURES,
) -> TemperatureFit:
    """Find the temperature under which the true levels are most probable.

    Use scans that the network was not fitted to closely: slabs of training scans under augmentation, or
    a held-out part; short slabs must be among them, for they are where levels are doubtful.

    Args:
        examples: at least one whose truth meets a candidate.
        prior, config: as for `decode_spine`.
        temperatures: tried one after the other.

    Raises:
        ValueError: no example can be used.
    """
    config = config or GraphConfig()
    losses = {}
    for temperature in temperatures:
        trial = replace(config, evidence_temperature=temperature)
        terms = [level_loss(example, prior, trial) for example in examples]
        used = [term for term in terms if term is not None]
        if not used:
            msg = f"none of {len(examples)} examples has a candidate within {SAME_PLACE_MM} mm of its truth"
            raise ValueError(msg)
        losses[float(temperature)] = float(np.mean(used))
    return TemperatureFit(min(losses, key=lambda t: losses[t]), losses)


def level_loss(
    example: DecodedExample, prior: SpinePrior | None = None, config: GraphConfig | None = None
) -> float | None:
    """Return the negative log probability of the least probable true name, or None without any."""
    config = config or GraphConfig()
    places = merge_candidates(example.candidates, config.merge_distance_mm, config.max_places)
    if not len(places) or not example.truth:
        return None
    model = weigh_chains(places, prior or SpinePrior.default(), config, example.field)
    probabilities = name_probabilities(model)
    named = []
    for mark in example.truth.values():
        apart = np.linalg.norm(places.positions_mm - mark.position_mm, axis=1)
        nearby = apart < SAME_PLACE_MM
        if not nearby.any():
            continue
        place = int(np.argmax(np.where(nearby, places.strength, -1)))
        total = max(float(probabilities[place].sum()), 1e-12)
        named.append(float(probabilities[place, mark.vertebra.rank]) / total)
    if not named:
        return None
    return -float(np.log(np.clip(min(named), LOWEST_PROBABILITY, 1.0)))
