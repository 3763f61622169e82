"""Candidates to named vertebrae, with how sure that is: the default decoder.

Candidates of all labels are merged into places (`places`), chains of named places are weighed
(`chain_model`) and searched exactly (`chain_search`); this module turns the best chain into landmarks,
fills silent vertebrae, and says in words what a person should look at.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from payerseg.config.graph import DecoderSpec, GraphConfig
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.errors import SpineNotFound
from payerseg.postprocess.chain_model import LABELS, ChainModel, Move
from payerseg.postprocess.chain_search import (
    Chain,
    ChainSearch,
    name_probabilities,
    weigh_chains,
)
from payerseg.postprocess.decision import Alternative, SpineDecision
from payerseg.postprocess.level_evidence import LevelEvidence
from payerseg.postprocess.peaks import Candidate
from payerseg.postprocess.places import Places, merge_candidates
from payerseg.postprocess.review import (
    named_range,
    review_reasons,
    stated_anchors,
    what_changes,
)
from payerseg.postprocess.spine_graph import SpinePrior

BORDER_MM = 10.0
SURE_VERTEBRA, FAIR_HEAT = 0.9, 0.5
"""Where both networks see a vertebra, there is a spine, however little of it."""
BRIDGED_SCORE = 0.3
"""Part of its neighbours' score that an interpolated vertebra is given."""
BRIDGE_RATIO = (0.7, 1.4)
"""A gap is filled where it is this long relative to the expected one."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """Everything a decision depends on beside what was seen.

    Attributes:
        spec: fitted to the networks, from their card.
        config: what a person chose.
        prior: what is known of spines.
    """

    spec: DecoderSpec = field(default_factory=DecoderSpec)
    config: GraphConfig = field(default_factory=GraphConfig)
    prior: SpinePrior = field(default_factory=SpinePrior.default)


def decode_spine(
    candidates: list[Candidate],
    decoder: Decoder | None = None,
    field: Grid | None = None,
    border_mm: float = BORDER_MM,
) -> SpineDecision:
    """Name the vertebrae among the candidates by the heatmaps alone; see `decode_places`."""
    decoder = decoder or Decoder()
    return decode_places(places_in(candidates, decoder.spec, field), decoder, field, border_mm)


def places_in(candidates: list[Candidate], spec: DecoderSpec, field: Grid | None = None) -> Places:
    """Return the places that candidates mean; heat beyond the scan's faces means none.

    Args:
        candidates: of all channels, best with `channel_values` (`heatmap_candidates`).
        spec: how far candidates of one place may lie apart, how many places are kept.
        field: the scan's grid; None = everything is inside.
    """
    if field is not None and candidates:
        inside = field.contains(np.array([c.position_mm for c in candidates]))
        candidates = [c for c, kept in zip(candidates, inside, strict=True) if kept]
    return merge_candidates(candidates, spec.merge_distance_mm, spec.max_places)


def decode_places(
    places: Places,
    decoder: Decoder | None = None,
    field: Grid | None = None,
    border_mm: float = BORDER_MM,
    evidence: LevelEvidence | None = None,
) -> SpineDecision:
    """Decide which places are which vertebra.

    Args:
        places: of `places_in`.
        decoder: left out = neutral weights, the defaults, the shipped prior.
        field: the scan's grid, first array axis along the body; without it nothing is known of what
            lies outside, and no vertebra is flagged as near the border.
        border_mm: vertebrae this near the scan's upper or lower end are flagged "near_border".
        evidence: of the level network at the places; None = the heat alone decides.

    Raises:
        SpineNotFound: no chain of candidates is more likely a spine than not.
    """
    decoder = decoder or Decoder()
    spec, config = decoder.spec, decoder.config
    if not len(places):
        msg = "no candidate vertebra in the heatmaps, expected at least one; does the scan show a spine?"
        raise SpineNotFound(msg)
    model = weigh_chains(places, decoder.prior, spec, config, field, evidence)
    search = ChainSearch.of(model)
    chain = search.best()
    wanted = spec.min_evidence if config.min_evidence is None else config.min_evidence
    doubts = _require_spine(places, chain, spec, wanted, evidence)
    probabilities = name_probabilities(model)
    marks = _landmarks(chain, model, probabilities, config)
    marks = _at_border(marks, field, border_mm, drop=config.drop_border)
    level, alternatives = _weigh_levels(search, chain, probabilities, config.n_alternatives)
    margin = min((a.margin for a in alternatives), default=float("inf"))
    hypotheses = model.hypotheses
    decision = SpineDecision(
        Landmarks(marks),
        level_margin=margin,
        level_probability=level,
        alternatives=alternatives,
        level_set=_level_set(chain, level, alternatives, spec.set_mass),
        anchors=() if evidence is None else stated_anchors(chain, evidence),
        scale=float(hypotheses.scale[chain.hypothesis]),
        mirrored=bool(hypotheses.y_sign[chain.hypothesis] < 0),
        reasons=doubts,
    )
    return review_reasons(decision, chain, places, evidence)


def _require_spine(
    places: Places,
    chain: Chain,
    spec: DecoderSpec,
    min_evidence: float,
    evidence: LevelEvidence | None,
) -> tuple[str, ...]:
    """Return why the best chain is a doubtful spine, if it is.

    Raises:
        SpineNotFound: it is none: too little evidence, and no place that only a vertebra can be.
    """
    wanted = min_evidence + _trials_nats(places, chain, spec)
    if chain.score >= wanted:
        return ()
    brightest = max(places.strength[step.place] for step in chain.steps)
    said = f"evidence {chain.score:.1f}, expected at least {wanted:.1f}"
    both_sure = evidence is not None and any(
        evidence.vertebra[step.place] > SURE_VERTEBRA and places.strength[step.place] > FAIR_HEAT
        for step in chain.steps
    )
    if brightest < spec.sure_heat and not both_sure:
        msg = (
            f"{len(places)} candidate places (strongest heat {places.strength.max():.2f}) form no spine: "
            f"{said}"
        )
        raise SpineNotFound(msg)
    return (f"a bright place (heat {brightest:.2f}) but hardly a spine ({said})",)


def _trials_nats(places: Places, chain: Chain, spec: DecoderSpec) -> float:
    """Return what chance owes to trying: among many bright places outside the chain, some chain fits."""
    bright = int(np.count_nonzero(places.strength > spec.presence_heat))
    outside = bright - sum(places.strength[step.place] > spec.presence_heat for step in chain.steps)
    return float(np.log(1 + outside))


def _landmarks(
    chain: Chain, model: ChainModel, probabilities: np.ndarray, config: GraphConfig
) -> list[Landmark]:
    """Return the found vertebrae and those filled in between."""
    marks: list[Landmark] = []
    for step in chain.steps:
        score = float(np.clip(probabilities[step.place, step.rank], 0, 1))
        mark = Landmark(LABELS[step.rank], tuple(model.positions_mm[step.place]), score)
        if step.move is not None and step.move.silent and config.bridge:
            marks += _bridges(marks[-1], mark, step.move, model, chain.hypothesis)
        marks.append(mark)
    return marks


def _bridges(
    upper: Landmark, lower: Landmark, move: Move, model: ChainModel, hypothesis: int
) -> list[Landmark]:
    """Interpolate the silent vertebrae of one step along the prior's own curve.

    The prior's chain of offsets is laid from the upper centre; what is missing to the lower centre is
    spread along it in proportion.
    """
    scale, sign = model.hypotheses.scale[hypothesis], model.hypotheses.y_sign[hypothesis]
    start, stop = np.asarray(upper.position_mm), np.asarray(lower.position_mm)
    ratio = np.linalg.norm(start - stop) / (scale * move.length_mm)
    if not BRIDGE_RATIO[0] < ratio < BRIDGE_RATIO[1]:
        return []
    down = -move.waypoints_mm * (scale, scale * sign, scale)
    missing = (stop - start) - down[-1]
    points = start + down + np.linspace(0, 1, len(down) + 1)[1:, None] * missing
    score = BRIDGED_SCORE * min(upper.score, lower.score)
    return [
        Landmark(LABELS[rank], tuple(point), score, ("bridged",))
        for rank, point in zip(move.silent, points, strict=False)
    ]


def _at_border(
    marks: list[Landmark], field: Grid | None, border_mm: float, *, drop: bool
) -> list[Landmark]:
    """Flag (or drop) the landmarks near the scan's first and last slice."""
    if field is None or not marks:
        return marks
    slices = field.map_world_to_indices(np.array([mark.position_mm for mark in marks]))[:, 0]
    inside = np.minimum(slices + 0.5, field.shape[0] - 0.5 - slices) * field.spacing_mm[2]
    kept = []
    for mark, distance in zip(marks, inside, strict=True):
        if distance >= border_mm:
            kept.append(mark)
        elif not drop:
            flags = (*mark.flags, "near_border")
            kept.append(Landmark(mark.vertebra, mark.position_mm, mark.score, flags))
    return kept


def _weigh_levels(
    search: ChainSearch, chain: Chain, probabilities: np.ndarray, wanted: int
) -> tuple[float, tuple[Alternative, ...]]:
    """Return the probability of the least certain name and the labellings by its other names.

    All chains through a place share out its probability, so that of the least certain one is an upper
    bound of the probability that every name is right, and hardly above it: names err together.
    """
    shares = probabilities / np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-12)
    doubtful = min(chain.steps, key=lambda step: shares[step.place, step.rank])
    place, own = doubtful.place, shares[doubtful.place]
    scores, hypotheses = search.best_through()
    others: dict[tuple[str, ...], Alternative] = {}
    for rank in np.argsort(-own, kind="stable").tolist():
        if rank == doubtful.rank or not np.isfinite(scores[place, rank]):
            continue
        if len(others) >= wanted:
            break
        other = search.through(place, rank, int(hypotheses[place, rank]))
        found = Alternative(
            _labels_of(other),
            probability=float(own[rank]),
            margin=float(chain.score - other.score),
            change=what_changes(chain, other),
        )
        others.setdefault(found.labels, found)
    return float(np.clip(own[doubtful.rank], 0, 1)), tuple(others.values())


def _level_set(
    chain: Chain, level: float, alternatives: tuple[Alternative, ...], mass: float
) -> dict[str, float]:
    """Return the labellings, the chosen one first, that together hold a share of the probability."""
    kept = {named_range(_labels_of(chain)): level}
    for other in alternatives:
        if sum(kept.values()) >= mass:
            break
        name = named_range(other.labels)
        kept[name] = kept.get(name, 0.0) + other.probability
    return kept


def _labels_of(chain: Chain) -> tuple[str, ...]:
    """Return all names of a chain, silent ones included."""
    names: list[str] = []
    for step in chain.steps:
        if step.move is not None:
            names += [LABELS[rank].name for rank in step.move.silent]
        names.append(LABELS[step.rank].name)
    return tuple(names)
