"""What a network might say about a spine: candidates with the failures that networks have.

The truth is drawn from the spine prior. The failures follow what small trained networks were seen to do (a
whole slab named one level off together, a silent vertebra, a ghost on a rib head, weak answers at the scan's
ends); their rates are settings, not facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import N_CHANNELS, Vertebra
from payerseg.postprocess.peaks import Candidate
from payerseg.postprocess.spine_graph import SpinePrior

Truth = dict[Vertebra, np.ndarray]

ANCHORS = ("C1", "C2", "L5", "L6")
"""Vertebrae that a network knows by sight; levels far from all of them are named less surely."""
DOUBT = {"C": (0.0, 0.1, 0.2, 0.3, 0.3, 0.4, 0.5), "L": (0.7, 0.7, 0.6, 0.5, 0.4, 0.4)}
THORACIC_DOUBT = (0.6, 0.8, 1, 1, 1, 1, 1, 1, 1, 0.9, 0.8, 0.7, 0.7)
"""How freely a name follows the slab's common error, by level (60 mm slabs: cervical ones are named
right, a quarter of the thoracic ones are not)."""
BLOB_SIGMA_MM = 7.2
"""A target of sigma 6 mm after smoothing with 4 mm."""


@dataclass(frozen=True)
class Failures:
    """How the simulated network errs; standard deviations unless said otherwise.

    Attributes:
        chain_shift: levels by which all names are off together, far from any anchor.
        vertebra_shift: levels by which a single name is off.
        blur: width of the shares over neighbouring names, levels (lowest, highest).
        jitter_mm: of a position, per axis.
        silent, weak: part of the vertebrae without any answer, with a faint one.
        ghosts: mean number of answers where no vertebra is.
    """

    chain_shift: float = 0.45
    vertebra_shift: float = 0.12
    blur: tuple[float, float] = (0.25, 0.65)
    jitter_mm: float = 1.2
    silent: float = 0.02
    weak: float = 0.03
    ghosts: float = 1.5


@dataclass(frozen=True)
class Case:
    """One simulated scan: what is there, what the network says, and the scan's grid."""

    truth: Truth
    candidates: list[Candidate]
    field: Grid


def draw_spine(rng: np.random.Generator, variant: str = "usual", scale: float = 1.0) -> Truth:
    """Draw a whole spine from the prior.

    Args:
        rng: source of randomness.
        variant: usual, t13, no_t12, l6, no_l5.
        scale: size relative to the mean adult.
    """
    skip = {"T13", "L6"}
    skip ^= {"t13": {"T13"}, "l6": {"L6"}, "no_t12": {"T12"}, "no_l5": {"L5"}}.get(variant, set())
    chain = [v for v in Vertebra if v.name not in skip]
    edges = {(e.upper, e.lower): e for e in SpinePrior.default().edges}
    position = np.zeros(3)
    truth = {chain[0]: position}
    bend = rng.normal(0, 0.06, 2)
    curve = rng.normal(0, 0.12, 2)
    for k, (upper, lower) in enumerate(pairwise(chain)):
        edge = edges[upper, lower]
        size = scale * rng.normal(edge.distance_mm, 0.6 * edge.sd_mm)
        sway = curve * np.sin(k / 4) + bend + rng.normal(0, 0.04, 2)
        step = np.add(edge.unit_xyz, (*sway, 0.0))
        position = position - size * step / np.linalg.norm(step)
        truth[lower] = position
    return truth


def transformed(truth: Truth, scale: float = 1.0, turn_deg: float = 0.0, axis: int = 0) -> Truth:
    """Return the spine scaled, then turned about one world axis through its middle."""
    middle = np.mean(list(truth.values()), axis=0)
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    i, j = [k for k in range(3) if k != axis]
    turn = np.eye(3)
    turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
    return {v: middle + scale * turn @ (p - middle) for v, p in truth.items()}


def slab(truth: Truth, low_mm: float, length_mm: float) -> tuple[Truth, Grid]:
    """Cut a slab along z: the vertebrae whose centre lies inside, and its 3 mm grid."""
    inside = {v: p for v, p in truth.items() if low_mm <= p[2] < low_mm + length_mm}
    points = np.array(list(truth.values()))
    low = (*(points[:, :2].min(axis=0) - 80), low_mm)
    high = (*(points[:, :2].max(axis=0) + 80), low_mm + length_mm)
    shape = tuple(max(1, round((b - a) / 3)) for a, b in zip(low, high, strict=True))[::-1]
    return inside, Grid(shape, (3.0, 3.0, 3.0), tuple(v + 1.5 for v in low))


def whole(truth: Truth, above_mm: float = 12.0, below_mm: float = 12.0) -> tuple[Truth, Grid]:
    """Return everything with little room at both ends (60 mm where the spine itself ends)."""
    marks = sorted(truth, key=lambda v: v.rank)
    above_mm = 60.0 if marks[0] is Vertebra.C1 else above_mm
    below_mm = 60.0 if marks[-1].name in ("L5", "L6") else below_mm
    z = np.array([p[2] for p in truth.values()])
    return slab(truth, z.min() - below_mm, np.ptp(z) + above_mm + below_mm)


def simulate(
    rng: np.random.Generator, seen: tuple[Truth, Grid], failures: Failures | None = None
) -> Case:
    """Draw what the network says about the vertebrae of a slab.

    Args:
        rng: source of randomness.
        seen: truth inside the field, and the field (`slab`, `whole`).
        failures: rates of errors.
    """
    failures = failures or Failures()
    truth, field = seen
    shift = rng.normal(0, failures.chain_shift)
    points, heats = [], []
    for vertebra, position in truth.items():
        if rng.random() < failures.silent:
            continue
        strength = _strength(rng, position, field, failures)
        level = _height(vertebra) + shift * _doubt(vertebra, truth)
        level += rng.normal(0, failures.vertebra_shift)
        points.append(position + rng.normal(0, failures.jitter_mm, 3))
        heats.append(strength * _shares(level, rng.uniform(*failures.blur), vertebra))
    for _ in range(rng.poisson(failures.ghosts) if truth else 0):
        near = list(truth)[rng.integers(len(truth))]
        aside = rng.choice([-1, 1]) * rng.uniform(20, 55)
        points.append(truth[near] + (aside, rng.uniform(-10, 40), rng.uniform(-30, 30)))
        level = _height(near) + rng.normal(0, 1.5)
        heats.append(rng.uniform(0.08, 0.45) * _shares(level, 0.4, near))
    return Case(truth, _candidates(rng, points, heats), field)


def noise_case(rng: np.random.Generator, n: int = 40, strongest: float = 0.5) -> Case:
    """Draw peaks that mean nothing, in a large field."""
    field = Grid((200, 100, 100), (3.0, 3.0, 3.0))
    points = rng.uniform((0, 0, 0), (300, 300, 600), (n, 3))
    heats = np.zeros((n, N_CHANNELS))
    heats[np.arange(n), rng.integers(0, N_CHANNELS, n)] = rng.uniform(0.05, strongest, n)
    return Case({}, _candidates(rng, list(points), list(heats)), field)


def _height(vertebra: Vertebra) -> float:
    if vertebra is Vertebra.T13:
        return 18.5
    return float(vertebra.channel)


def _doubt(vertebra: Vertebra, truth: Truth) -> float:
    """Return how free a name is to follow the common shift: 0 at an anchor in view, 1 far from all."""
    number = int(vertebra.name[1:]) - 1
    own = THORACIC_DOUBT[number] if vertebra.name[0] == "T" else DOUBT[vertebra.name[0]][number]
    anchors = [_height(v) for v in truth if v.name in ANCHORS]
    if not anchors:
        return own
    return min(own, min(abs(_height(vertebra) - a) for a in anchors) / 8)


def _strength(
    rng: np.random.Generator, position: np.ndarray, field: Grid, failures: Failures
) -> float:
    index = field.map_world_to_indices(position[None])[0, 0]
    margin = min(index + 0.5, field.shape[0] - 0.5 - index) * field.spacing_mm[2]
    strength = np.clip(rng.normal(0.85, 0.15), 0.25, 1.1) * np.clip(0.3 + margin / 12, 0.3, 1)
    return float(strength * (0.15 if rng.random() < failures.weak else 1.0))


def _shares(level: float, blur: float, vertebra: Vertebra) -> np.ndarray:
    """Return (26,) shares of the names around a level; T13 speaks only where there is one."""
    heights = np.array([_height(Vertebra.from_channel(c)) for c in range(N_CHANNELS)])
    shares = np.exp(-0.5 * ((heights - level) / blur) ** 2)
    if vertebra is not Vertebra.T13:
        shares[Vertebra.T13.channel] *= 0.05
    return shares / shares.sum()


def _candidates(
    rng: np.random.Generator, points: list[np.ndarray], heats: list[np.ndarray]
) -> list[Candidate]:
    """Return the peaks of blobs at the points; neighbouring blobs of one channel leak into each other."""
    if not points:
        return []
    place, heat = np.array(points), np.array(heats)
    apart = np.linalg.norm(place[:, None] - place[None], axis=2)
    leak = np.exp(-0.5 * (apart / BLOB_SIGMA_MM) ** 2)
    total = (leak[:, :, None] * heat[None]).max(axis=1)
    found = []
    for k, point in enumerate(place):
        for channel in np.flatnonzero(heat[k] > 0.05):
            spot = point + rng.normal(0, 0.8, 3)
            values = tuple(total[k].tolist())
            found.append(
                Candidate(int(channel), tuple(spot.tolist()), float(heat[k, channel]), values)
            )
    return found
