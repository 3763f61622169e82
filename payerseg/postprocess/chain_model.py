"""What speaks for and against a chain of named places, in nats.

A state is (place, vertebra). A chain gains for every place that is bright and carries the right name,
and for every neighbour found where the prior expects it; it pays for rare turns (T13, L6, no T12), for
silent vertebrae it passes over, and for ending where the next vertebra should be visible.
All of it is weighed for every hypothesis: of the patient's size, of a header mirrored front to back, and
of a network that names the whole middle of the spine one level too high or too low. The last is how
networks really err in short scans; without it a sum over vertebrae would be sure of itself, and wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from payerseg.config.graph import DecoderSpec, GraphConfig
from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.postprocess.level_evidence import SAME_LOOK, LevelEvidence
from payerseg.postprocess.places import Places
from payerseg.postprocess.spine_graph import SpinePrior

N_LABELS = len(Vertebra)
LABELS = tuple(Vertebra)
SCALE_STEP = 0.06
"""Between size hypotheses, in log units: half a step is within the spread of one distance."""
ADULT_LOG_SD = 0.09
"""Spread of adults' sizes (VerSe: between-scan spread of vertebral distances, log units)."""
CHILD_LOG_PRIOR = -3.5
"""Of any size far from an adult's, against the commonest adult size."""
MIRROR_LOG_PRIOR = -3.5
"""Of a header that exchanges front and back."""
FAR_CONFUSION = 0.002
"""Odds that a network takes a vertebra for one three or more levels away."""
TAIL = 4.0
"""Degrees of freedom of the t distributions: spines that are no textbook ones must stay possible."""
BRIGHTEST = 1.0
"""More heat than a perfect peak's says no more."""
LONGEST_RATIO = 1.8
"""A gap longer than this times the expected one is not that move."""
SACRUM_OFFSET_MM = (0.0, -8.0, 30.0)
"""From the sacrum's first centre up to the last lumbar one, about (x, y, z)."""
LAST_LUMBAR = {Vertebra.L4.rank: 0.005, Vertebra.L5.rank: 1.0, Vertebra.L6.rank: 1.0}
"""How often the sacrum follows: four lumbar vertebrae occur in none of the 83 lumbar spines of VerSe 2020."""
RARE_STARTS = {Vertebra.T13.rank: 0.02, Vertebra.L6.rank: 0.1}
"""How often there is such a vertebra at all: a chain that begins there has not taken the rare turn to it."""
STEEPEST_COS = 0.15
"""Cosine to the world's z below which a step is not from one vertebra to the next."""


@dataclass(frozen=True, slots=True)
class Move:
    """A step from one named vertebra to the next found one.

    Attributes:
        upper, lower: ranks.
        silent: ranks passed over.
        log_prior: nats of this turn, skipping included.
        waypoints_mm: (m, 3) expected (x, y, z) from each silent and at last the lower centre back to
            the upper one, adult size.
        sd_mm: spread of its length.
    """

    upper: int
    lower: int
    silent: tuple[int, ...]
    log_prior: float
    waypoints_mm: np.ndarray
    sd_mm: float

    @property
    def offset_mm(self) -> np.ndarray:
        """Expected (x, y, z) from the lower to the upper centre, adult size."""
        return self.waypoints_mm[-1]

    @property
    def length_mm(self) -> float:
        """Expected distance of the two centres, adult size."""
        return float(np.linalg.norm(self.offset_mm))


@dataclass(frozen=True, slots=True)
class Hypotheses:
    """What is tried together; flat arrays of the same length.

    Attributes:
        scale: size relative to the mean adult.
        y_sign: -1 where front and back are exchanged.
        shift: levels by which the network names the middle of the spine too low.
        log_prior: nats, 0 for the likeliest.
    """

    scale: np.ndarray
    y_sign: np.ndarray
    shift: np.ndarray
    log_prior: np.ndarray

    def __len__(self) -> int:
        return len(self.scale)

    @classmethod
    def of_sizes(cls, config: GraphConfig) -> Hypotheses:
        """Return all sizes, as stored and mirrored, for a network that names rightly."""
        low, high = np.log(config.scale_low), np.log(config.scale_high)
        up = np.arange(0, high + 1e-9, SCALE_STEP)
        down = -np.arange(SCALE_STEP, -low + 1e-9, SCALE_STEP)
        log_scale = np.sort(np.concatenate([down, up]))
        nats = np.logaddexp(-0.5 * (log_scale / ADULT_LOG_SD) ** 2, CHILD_LOG_PRIOR)
        log_prior = np.concatenate([nats, nats + MIRROR_LOG_PRIOR])
        y_sign = np.repeat([1.0, -1.0], len(log_scale))
        shift = np.zeros(len(log_prior), int)
        return cls(np.exp(np.tile(log_scale, 2)), y_sign, shift, log_prior)

    def with_shifts(self, kept: np.ndarray, spec: DecoderSpec) -> Hypotheses:
        """Return the kept ones, each also for a network that is one level off."""
        n = int(np.count_nonzero(kept))
        error = float(np.log(spec.common_error))
        shift = np.repeat([0, 1, -1], n)
        log_prior = np.tile(self.log_prior[kept], 3) + np.where(shift == 0, 0.0, error)
        return Hypotheses(
            np.tile(self.scale[kept], 3), np.tile(self.y_sign[kept], 3), shift, log_prior
        )


@dataclass(frozen=True, slots=True)
class MoveScores:
    """One move between all places that it could connect.

    Attributes:
        move: the step.
        upper_of, lower_of: (p,) places.
        scores: (h, p) nats.
    """

    move: Move
    upper_of: np.ndarray
    lower_of: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, slots=True)
class ChainModel:
    """All scores of one scan: h hypotheses, n places, 26 labels by rank.

    Attributes:
        positions_mm: (n, 3).
        node: (h, n, 26).
        start, end: (h, n, 26) for chains that begin or end there.
        moves_to, moves_from: moves by the rank of their lower, of their upper label.
        hypotheses: what each h means.
    """

    positions_mm: np.ndarray
    node: np.ndarray
    start: np.ndarray
    end: np.ndarray
    moves_to: tuple[tuple[MoveScores, ...], ...]
    moves_from: tuple[tuple[MoveScores, ...], ...]
    hypotheses: Hypotheses


def build_chain_model(
    places: Places,
    prior: SpinePrior,
    spec: DecoderSpec,
    field: Grid | None,
    hypotheses: Hypotheses,
    evidence: LevelEvidence | None = None,
) -> ChainModel:
    """Weigh every state and step.

    Args:
        places: at least one.
        prior: distances, directions, rare turns.
        spec: weights.
        field: the scan's grid, for what should be visible; None = nothing is known of the scan's ends.
        hypotheses: what to weigh it under.
        evidence: of the level network at the same places.
    """
    start, end = _end_scores(places.positions_mm, prior, hypotheses, spec, field)
    for rank, share in RARE_STARTS.items():
        start[:, :, rank] += np.log(share)
    node = _node_scores(places, hypotheses, spec, evidence)
    if evidence is not None:
        end = _foot_scores(end, places.positions_mm, evidence, spec, field)
    weighed = (
        _move_scores(places.positions_mm, move, hypotheses, spec, evidence)
        for move in chain_moves(prior, spec)
    )
    moves = [item for item in weighed if len(item.upper_of)]
    return ChainModel(
        places.positions_mm,
        node,
        start + hypotheses.log_prior[:, None, None] - spec.start_cost,
        end,
        tuple(tuple(m for m in moves if m.move.lower == rank) for rank in range(N_LABELS)),
        tuple(tuple(m for m in moves if m.move.upper == rank) for rank in range(N_LABELS)),
        hypotheses,
    )


@lru_cache(maxsize=8)
def chain_moves(prior: SpinePrior, spec: DecoderSpec) -> tuple[Move, ...]:
    """Return every step down the spine, with up to `max_skip` silent vertebrae in between."""
    moves = [move for upper in LABELS for move in _moves_from(_Route(upper), prior, spec)]
    return tuple(sorted(moves, key=lambda move: (move.lower, move.upper, move.silent)))


@dataclass(frozen=True, slots=True)
class _Route:
    """A way down from `upper` past silent vertebrae; waypoints as in `Move`."""

    upper: Vertebra
    silent: tuple[Vertebra, ...] = ()
    log_prior: float = 0.0
    waypoints_mm: tuple[tuple[float, ...], ...] = ()
    variance: float = 0.0


def _moves_from(route: _Route, prior: SpinePrior, spec: DecoderSpec) -> Iterator[Move]:
    """Yield the moves to every vertebra that may follow a route, and beyond it if that is silent."""
    last = route.silent[-1] if route.silent else route.upper
    so_far = route.waypoints_mm[-1] if route.silent else (0.0, 0.0, 0.0)
    silent = tuple(vertebra.rank for vertebra in route.silent)
    for edge in prior.followers(last):
        offset = np.add(so_far, np.multiply(edge.unit_xyz, edge.distance_mm))
        waypoints = (*route.waypoints_mm, tuple(offset.tolist()))
        variance = route.variance + edge.sd_mm**2
        nats = route.log_prior + float(np.log(edge.probability))
        skipped = nats - spec.skip_cost * len(silent)
        sd_mm = float(np.sqrt(variance))
        yield Move(route.upper.rank, edge.lower.rank, silent, skipped, np.array(waypoints), sd_mm)
        if len(silent) < spec.max_skip:
            beyond = _Route(route.upper, (*route.silent, edge.lower), nats, waypoints, variance)
            yield from _moves_from(beyond, prior, spec)


def _node_scores(
    places: Places, hypotheses: Hypotheses, spec: DecoderSpec, evidence: LevelEvidence | None
) -> np.ndarray:
    """Return (h, n, 26) nats by rank: being a vertebra at all, and being this one.

    Where the level network was asked, rare levels are never told by their heat, and a place may also be
    the sacrum's first, which is no vertebra.
    """
    strength = np.clip(places.strength, 1e-6, BRIGHTEST)
    presence = spec.presence_weight * np.log(strength / spec.presence_heat)
    heat = places.heat[:, [vertebra.channel for vertebra in LABELS]]
    if evidence is not None:
        for usual, rare in SAME_LOOK:
            heat[:, rare.rank] = np.maximum(heat[:, rare.rank], heat[:, usual.rank])
    heat = heat + spec.evidence_floor
    shares = heat / heat.sum(axis=1, keepdims=True)
    named = np.log(shares @ _confusion(spec.neighbour_confusion))
    as_shifted = {shift: named[:, _named_as(shift)] for shift in np.unique(hypotheses.shift)}
    tempered = np.stack([as_shifted[shift] for shift in hypotheses.shift])
    tempered /= spec.evidence_temperature
    # doubt about the name is no doubt about there being a vertebra: names share one whole
    tempered -= np.logaddexp.reduce(tempered, axis=2, keepdims=True)
    if evidence is not None:
        tempered = _with_evidence(tempered, places, evidence, spec)
        presence = presence + spec.vertebra_weight * evidence.vertebra_nats()
    return presence[None, :, None] + tempered


def _with_evidence(
    named: np.ndarray, places: Places, evidence: LevelEvidence, spec: DecoderSpec
) -> np.ndarray:
    """Return (h, n, 26) nats of the names by heat and by the level network.

    All levels together count as few observations, however long the chain; ribs, dens and sacrum one by one.
    """
    bright = max(1, int(np.count_nonzero(places.strength > spec.presence_heat)))
    share = min(1.0, spec.level_observations / bright)
    seen = (
        share * evidence.level_nats()
        + spec.rib_weight * evidence.rib_nats()
        + spec.anchor_weight * evidence.anchor_nats()
    )
    sacrum = np.full((*named.shape[:2], 1), -np.log(N_LABELS))  # heat has no channel for it
    both = np.concatenate([named, sacrum], axis=2) + seen
    both -= np.logaddexp.reduce(both, axis=2, keepdims=True)
    return both[:, :, :N_LABELS]


def _foot_scores(
    end: np.ndarray,
    positions_mm: np.ndarray,
    evidence: LevelEvidence,
    spec: DecoderSpec,
    field: Grid | None,
) -> np.ndarray:
    """Return (h, n, 26) nats of ending a chain: the last lumbar vertebra stands on the sacrum, no other does.

    Where the sacrum is seen just below, no further vertebra can be hidden there; where it is not, the
    scan is cut, or the network missed the next one (`open_end_cost`).
    """
    follows, absent = evidence.sacrum_nats()
    below = np.ones(len(positions_mm))
    if field is not None:
        beneath = (positions_mm - np.array(SACRUM_OFFSET_MM))[None]
        below = _room(beneath, field, SACRUM_OFFSET_MM[2])[0]
    out = end + spec.sacrum_weight * below[None, :, None] * absent[None, :, None]
    missed = absent - spec.open_end_cost
    for rank, share in LAST_LUMBAR.items():
        stands = np.logaddexp(np.log(share) + follows, missed)
        out[:, :, rank] = spec.sacrum_weight * below * stands
    return out


def _named_as(shift: int) -> np.ndarray:
    """Return (26,) the rank under which a network that is `shift` levels too low reports each rank.

    Only the middle of the spine is mistaken for its neighbours as a whole: the upper cervical ones
    and the last lumbar one look like no other.
    """
    usual = [vertebra.rank for vertebra in LABELS if vertebra is not Vertebra.T13]
    named = np.arange(N_LABELS)
    first, last = Vertebra.C7.rank, Vertebra.L4.rank
    for here, there in zip(usual[1:-1], usual[1 + shift : len(usual) - 1 + shift], strict=True):
        if first <= here <= last:
            named[here] = there
    thirteenth = Vertebra.T13.rank
    named[thirteenth] = thirteenth + shift
    return named


def _confusion(neighbour: float) -> np.ndarray:
    """Return (26, 26) odds that a network names the vertebra of one rank as that of another.

    T13 lies halfway between T12 and L1, which do not move apart for it.
    """
    thirteenth = Vertebra.T13.rank
    height = np.arange(N_LABELS, dtype=float)
    height[thirteenth + 1 :] -= 1
    height[thirteenth] -= 0.5
    apart = np.abs(height[:, None] - height[None, :])
    return np.maximum(neighbour**apart, FAR_CONFUSION)


def _move_scores(
    positions_mm: np.ndarray,
    move: Move,
    hypotheses: Hypotheses,
    spec: DecoderSpec,
    evidence: LevelEvidence | None,
) -> MoveScores:
    """Weigh one move between all places: t distributions of log length and of angle."""
    steps = positions_mm[:, None] - positions_mm[None, :]
    lengths = np.linalg.norm(steps, axis=2)
    longest = LONGEST_RATIO * move.length_mm * hypotheses.scale.max()
    shortest = spec.closest_ratio * move.length_mm * hypotheses.scale.min()
    down = steps[..., 2] > STEEPEST_COS * lengths
    lower_of, upper_of = np.nonzero((down & (lengths < longest) & (lengths > shortest)).T)
    steps, lengths = steps[upper_of, lower_of], lengths[upper_of, lower_of]
    expected = hypotheses.scale[:, None] * move.length_mm
    deviation = np.log(lengths) - np.log(expected)
    spread = (move.sd_mm / move.length_mm) ** 2 + 2 * (spec.place_sd_mm / expected) ** 2
    scores = spec.fit_bonus + move.log_prior + _t_nats(deviation**2 / spread)
    angle_nats = []
    for sign in (1.0, -1.0):
        cosine = steps @ (move.offset_mm * (1.0, sign, 1.0)) / (lengths * move.length_mm)
        angle = np.arccos(np.clip(cosine, -1, 1)) / np.radians(spec.angle_sd_deg)
        angle_nats.append(_t_nats(angle**2))
    scores = scores + np.where(hypotheses.y_sign[:, None] > 0, *angle_nats)
    scores = np.where(deviation < np.log(spec.closest_ratio), -np.inf, scores)
    if evidence is not None:
        scores = scores + spec.sacrum_weight * evidence.sacrum_nats()[1][upper_of]
    return MoveScores(move, upper_of, lower_of, scores)


def _t_nats(squared: np.ndarray) -> np.ndarray:
    """Return the log density of a t distribution, 0 at its centre, from squared deviations in sd."""
    return -0.5 * (TAIL + 1) * np.log1p(squared / TAIL)


def _end_scores(
    positions_mm: np.ndarray,
    prior: SpinePrior,
    hypotheses: Hypotheses,
    spec: DecoderSpec,
    field: Grid | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (h, n, 26) nats of beginning and of ending a chain at each state."""
    shape = (len(hypotheses.scale), len(positions_mm), N_LABELS)
    start, end = np.zeros(shape), np.zeros(shape)
    if field is None:
        return start, end
    for edge in prior.edges:
        if edge.probability < 0.5:
            continue
        offset = np.asarray(edge.unit_xyz) * edge.distance_mm
        offsets = hypotheses.scale[:, None] * offset
        offsets[:, 1] *= hypotheses.y_sign
        above = _room(positions_mm[None] + offsets[:, None], field, edge.distance_mm)
        below = _room(positions_mm[None] - offsets[:, None], field, edge.distance_mm)
        start[:, :, edge.lower.rank] = -spec.open_end_cost * above
        end[:, :, edge.upper.rank] = -spec.open_end_cost * below
    no_l5 = np.logaddexp(-spec.open_end_cost, np.log(max(prior.no_l5_probability, 1e-9)))
    last = Vertebra.L4.rank
    end[:, :, last] *= min(no_l5, 0) / min(-spec.open_end_cost, -1e-9)
    return start, end


def _room(points_mm: np.ndarray, field: Grid, gap_mm: float) -> np.ndarray:
    """Return 0 (outside or cut) to 1 (well inside) for (h, n, 3) points: would one see a vertebra there?"""
    indices = field.map_world_to_indices(points_mm.reshape(-1, 3))
    inside = np.minimum(indices + 0.5, np.asarray(field.shape) - 0.5 - indices)
    margin = (inside * np.asarray(field.spacing_mm[::-1])).min(axis=1)
    return np.clip((margin / gap_mm - 0.2) / 0.5, 0, 1).reshape(points_mm.shape[:2])
