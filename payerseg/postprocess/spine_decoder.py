"""Candidates to named vertebrae, with how sure that is: the default decoder.

Candidates of all labels are merged into places (`places`), chains of named places are weighed
(`chain_model`) and searched exactly (`chain_search`); this module turns the best chain into landmarks,
fills silent vertebrae, and says in words what a person should look at.
"""

from __future__ import annotations

import numpy as np

from payerseg.config.graph import GraphConfig
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
from payerseg.postprocess.peaks import Candidate
from payerseg.postprocess.places import Places, merge_candidates
from payerseg.postprocess.review import review_reasons, what_changes
from payerseg.postprocess.spine_prior import SpinePrior

BORDER_MM = 10.0
BRIDGED_SCORE = 0.3
"""Part of its neighbours' score that an interpolated vertebra is given."""
BRIDGE_RATIO = (0.7, 1.4)
"""A gap is filled where it is this long relative to the expected one."""


def decode_spine(
    candidates: list[Candidate],
    prior: SpinePrior | None = None,
    config: GraphConfig | None = None,
    field: Grid | None = None,
    border_mm: float = BORDER_MM,
) -> SpineDecision:
    """Name the vertebrae among the candidates.

    Args:
        candidates: of all channels, best with `channel_values` (`heatmap_candidates`).
        prior: left out = the shipped one.
        config: left out = the defaults.
        field: the scan's grid, first array axis along the body; without it nothing is known of what
            lies outside, and no vertebra is flagged as near the border.
        border_mm: vertebrae this near the scan's upper or lower end are flagged "near_border".

    Raises:
        SpineNotFound: no chain of candidates is more likely a spine than not.
    """
    prior, config = prior or SpinePrior.default(), config or GraphConfig()
    places = merge_candidates(candidates, config.merge_distance_mm, config.max_places)
    if not len(places):
        msg = "no candidate vertebra in the heatmaps, expected at least one; does the scan show a spine?"
        raise SpineNotFound(msg)
    model = weigh_chains(places, prior, config, field)
    search = ChainSearch.of(model)
    chain = search.best()
    doubts = _require_spine(places, chain, config)
    probabilities = name_probabilities(model)
    marks = _landmarks(chain, model, probabilities, config)
    marks = _at_border(marks, field, border_mm, drop=config.drop_border)
    alternatives = _alternatives(search, chain, config.n_alternatives)
    margin = min((a.margin for a in alternatives), default=float("inf"))
    level = _level_probability(chain, probabilities)
    hypotheses = model.hypotheses
    decision = SpineDecision(
        Landmarks(marks),
        level_margin=margin,
        level_probability=level,
        alternatives=alternatives,
        scale=float(hypotheses.scale[chain.hypothesis]),
        mirrored=bool(hypotheses.y_sign[chain.hypothesis] < 0),
        reasons=doubts,
    )
    return review_reasons(decision, chain, places, config)


def _require_spine(places: Places, chain: Chain, config: GraphConfig) -> tuple[str, ...]:
    """Return why the best chain is a doubtful spine, if it is.

    Raises:
        SpineNotFound: it is none: too little evidence, and no place that only a vertebra can be.
    """
    wanted = config.min_evidence + _trials_nats(places, chain, config)
    if chain.score >= wanted:
        return ()
    brightest = max(places.strength[step.place] for step in chain.steps)
    evidence = f"evidence {chain.score:.1f}, expected at least {wanted:.1f}"
    if brightest < config.sure_heat:
        msg = (
            f"{len(places)} candidate places (strongest heat {places.strength.max():.2f}) form no spine: "
            f"{evidence}"
        )
        raise SpineNotFound(msg)
    return (f"a bright place (heat {brightest:.2f}) but hardly a spine ({evidence})",)


def _trials_nats(places: Places, chain: Chain, config: GraphConfig) -> float:
    """Return what chance owes to trying: among many bright places outside the chain, some chain fits."""
    bright = int(np.count_nonzero(places.strength > config.presence_heat))
    outside = bright - sum(
        places.strength[step.place] > config.presence_heat for step in chain.steps
    )
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


def _level_probability(chain: Chain, probabilities: np.ndarray) -> float:
    """Return the probability of the least certain name, given that its place is a vertebra."""
    shares = [
        probabilities[step.place, step.rank] / max(probabilities[step.place].sum(), 1e-12)
        for step in chain.steps
    ]
    return float(np.clip(min(shares), 0, 1))


def _alternatives(search: ChainSearch, chain: Chain, wanted: int) -> tuple[Alternative, ...]:
    """Return the best chains that name at least one of the chain's places otherwise."""
    scores, hypotheses = search.best_through()
    names = chain.names
    rivals = sorted(
        ((scores[place, rank], place, rank) for place in names for rank in range(len(LABELS))
         if rank != names[place] and np.isfinite(scores[place, rank])),
        reverse=True,
    )  # fmt: skip
    others: dict[tuple[str, ...], Chain] = {}
    for _, place, rank in rivals[: 8 * max(wanted, 1)]:
        other = search.through(place, rank, int(hypotheses[place, rank]))
        others.setdefault(_labels_of(other), other)
        if len(others) >= max(wanted, 1):
            break
    total = np.logaddexp.reduce([chain.score, *(other.score for other in others.values())])
    return tuple(
        Alternative(
            labels,
            probability=float(np.exp(other.score - total)),
            margin=float(chain.score - other.score),
            change=what_changes(chain, other),
        )
        for labels, other in others.items()
    )


def _labels_of(chain: Chain) -> tuple[str, ...]:
    """Return all names of a chain, silent ones included."""
    names: list[str] = []
    for step in chain.steps:
        if step.move is not None:
            names += [LABELS[rank].name for rank in step.move.silent]
        names.append(LABELS[step.rank].name)
    return tuple(names)
