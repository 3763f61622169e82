"""How the shipped spine prior and the reference's tables come from people's landmarks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np

from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.postprocess.spine_graph import PRIOR_FORMAT, PriorEdge, SpinePrior

SMALLEST_SD = 0.05
"""An edge seen in a handful of people is given at least this part of its distance as spread."""

# How often each rare turn is taken, given that its upper vertebra is there and something follows.
# VerSe 2020 (113 scans): T13 2 of 82, T12 absent 3 of 82, L6 16 of 83 (the set is rich in variants);
# C7 absent and four lumbar vertebrae do not occur in it.
RARE_TURNS = {
    ("C6", "T1"): 0.001,
    ("T11", "L1"): 0.03,
    ("T12", "T13"): 0.02,
    ("L5", "L6"): 0.12,
}

# Edges that are measured together because single ones are too rare (REFERENCE §4.3).
POOLS = (
    (("C6", "T1"), ("C7", "T1")),
    (("T11", "L1"), ("T12", "L1"), ("T13", "L1")),
)

Sample = tuple[int, np.ndarray]
Samples = dict[tuple[Vertebra, Vertebra], list[Sample]]


def measure_prior(
    scans: Iterable[Landmarks], *, size_free: bool = False, source: str = ""
) -> SpinePrior:
    """Measure a prior on people's landmarks.

    Args:
        scans: landmarks of each scan; consecutive ones (head to foot) are taken as neighbours.
        size_free: the spread is what remains after every scan is divided by its own size, as the
            decoder needs it, and never below `SMALLEST_SD`. False gives the plain standard
            deviation of the reference's tables (population, not sample).
        source: what the scans are, for the record.

    Returns:
        Edges that were seen at least once, themselves or through their pool.
    """
    offsets = _neighbour_offsets(scans)
    pooled = _pool(offsets)
    sizes = _scan_sizes(offsets, pooled) if size_free else {}
    edges = []
    for upper, lower in _possible_edges():
        samples = pooled.get((upper, lower), [])
        if samples:
            n = len(offsets.get((upper, lower), []))
            edges.append(_measured_edge(upper, lower, samples, sizes if size_free else None, n))
    return SpinePrior(tuple(edges), source=source)


def write_prior(prior: SpinePrior, path: Path) -> None:
    """Write the prior as JSON, the same bytes for the same prior."""
    content = {
        "format": PRIOR_FORMAT,
        "source": prior.source,
        "no_l5_probability": prior.no_l5_probability,
        "edges": [
            asdict(edge) | {"upper": edge.upper.name, "lower": edge.lower.name}
            for edge in prior.edges
        ],
    }
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _possible_edges() -> list[tuple[Vertebra, Vertebra]]:
    """Return every follows-relation, head to foot: the regular ones and the rare turns."""
    regular = [v for v in Vertebra if v is not Vertebra.T13]
    edges = set(pairwise(regular))
    edges |= {(Vertebra[a], Vertebra[b]) for a, b in RARE_TURNS}
    edges.add((Vertebra.T13, Vertebra.L1))
    return sorted(edges, key=lambda edge: (edge[0].rank, edge[1].rank))


def _turn_probability(upper: Vertebra, lower: Vertebra) -> float:
    rare = RARE_TURNS.get((upper.name, lower.name))
    if rare is not None:
        return rare
    return 1.0 - sum(p for (a, b), p in RARE_TURNS.items() if a == upper.name and b != lower.name)


def _neighbour_offsets(scans: Iterable[Landmarks]) -> Samples:
    """Collect (scan number, upper minus lower) of consecutive landmarks per pair."""
    offsets: Samples = {}
    for number, landmarks in enumerate(scans):
        marks = list(landmarks.values())
        for upper, lower in pairwise(marks):
            step = np.subtract(upper.position_mm, lower.position_mm)
            offsets.setdefault((upper.vertebra, lower.vertebra), []).append((number, step))
    return offsets


def _pool(offsets: Samples) -> Samples:
    pooled = dict(offsets)
    for pool in POOLS:
        pairs = [(Vertebra[a], Vertebra[b]) for a, b in pool]
        together = [sample for pair in pairs for sample in offsets.get(pair, [])]
        pooled.update(dict.fromkeys(pairs, together))
    return pooled


def _scan_sizes(offsets: Samples, pooled: Samples) -> dict[int, float]:
    """Return each scan's size: median ratio of its distances to the mean ones."""
    ratios: dict[int, list[float]] = {}
    for pair, samples in offsets.items():
        mean = np.mean([np.linalg.norm(step) for _, step in pooled[pair]])
        for number, step in samples:
            ratios.setdefault(number, []).append(float(np.linalg.norm(step) / mean))
    return {number: float(np.median(values)) for number, values in ratios.items()}


def _measured_edge(
    upper: Vertebra, lower: Vertebra, samples: list[Sample], sizes: dict[int, float] | None, n: int
) -> PriorEdge:
    mean_offset = np.mean([step for _, step in samples], axis=0)
    unit = mean_offset / np.linalg.norm(mean_offset)
    distances = np.array([np.linalg.norm(step) for _, step in samples])
    distance, spread = float(distances.mean()), float(distances.std())
    if sizes is not None:
        scaled = [d / sizes[number] for d, (number, _) in zip(distances, samples, strict=True)]
        spread = max(float(np.std(scaled)), SMALLEST_SD * distance)
    return PriorEdge(
        upper, lower, tuple(unit.tolist()), distance, spread, _turn_probability(upper, lower), n
    )
