"""Why a person should look at a decision, in plain sentences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from payerseg.config.graph import GraphConfig
from payerseg.domain.vertebra import Vertebra
from payerseg.postprocess.chain_model import LABELS
from payerseg.postprocess.chain_search import Chain
from payerseg.postprocess.decision import SpineDecision
from payerseg.postprocess.places import Places

USUAL_SCALE = (0.75, 1.2)
"""Sizes of adults and schoolchildren; beyond, a chain of wrong places is as likely as a real size."""
UNEXPLAINED_HEAT = 0.8
"""Fainter places beside or beyond the chain are second peaks at a named vertebra, or at one that the
scan's face cuts: on training scans they were as common in right results as in wrong ones."""
COURSE_MM = 25.0
"""A place this far from the line through the named centres cannot be a vertebra of theirs."""
BEYOND_MM = 80.0
"""Two lumbar steps: further away a bright place says nothing about the chain."""
NEAR_VARIANT_PROBABILITY = 0.05
VARIANTS = ("T13", "L6")


def review_reasons(
    decision: SpineDecision, chain: Chain, places: Places, config: GraphConfig
) -> SpineDecision:
    """Return the decision with further reasons for a review.

    Args:
        decision: with those that are known already.
        chain: what was chosen.
        places: all that could have been chosen.
        config: `review_probability`.
    """
    reasons = [
        *decision.reasons,
        *_level_reasons(decision, config),
        *_variant_reasons(decision, chain),
        *_gap_reasons(decision, chain),
        *_shape_reasons(decision),
        *_unexplained_reasons(chain, places),
    ]
    return replace(decision, reasons=tuple(reasons))


def what_changes(chain: Chain, other: Chain) -> str:
    """Say in words how another chain names the places of the chosen one."""
    mine, theirs = chain.names, other.names
    both = [place for place in mine if place in theirs and mine[place] != theirs[place]]
    if not both:
        return "other places"
    both.sort(key=lambda place: mine[place])
    was, becomes = (
        f"{LABELS[names[both[0]]].name}-{LABELS[names[both[-1]]].name}"
        if len(both) > 1
        else LABELS[names[both[0]]].name
        for names in (mine, theirs)
    )
    return f"{was} would be {becomes}"


def _level_reasons(decision: SpineDecision, config: GraphConfig) -> list[str]:
    if decision.level_probability >= config.review_probability:
        return []
    text = f"the level is uncertain (probability {decision.level_probability:.2f})"
    if decision.alternatives:
        best = decision.alternatives[0]
        text += f": {best.change} (probability {best.probability:.2f})"
    return [text]


def _variant_reasons(decision: SpineDecision, chain: Chain) -> list[str]:
    """Name rare anatomy that was chosen or is nearly as likely."""
    reasons = []
    found = {LABELS[step.rank].name for step in chain.steps}
    reasons += [f"{name} is named, a rare vertebra" for name in VARIANTS if name in found]
    for step in chain.steps:
        if step.move is None or step.move.silent:
            continue
        upper, lower = LABELS[step.move.upper], LABELS[step.move.lower]
        if (upper, lower) == (Vertebra.T11, Vertebra.L1):
            reasons.append("T12 is absent: L1 follows T11")
        if (upper, lower) == (Vertebra.C6, Vertebra.T1):
            reasons.append("C7 is absent: T1 follows C6")
    for other in decision.alternatives:
        rare = [name for name in VARIANTS if name in other.labels and name not in found]
        absent = {"T11", "L1"} <= set(other.labels) and "T12" not in other.labels
        if other.probability > NEAR_VARIANT_PROBABILITY and (rare or (absent and "T12" in found)):
            what = f"{rare[0]} present" if rare else "T12 absent"
            reasons.append(f"nearly as likely: {what} (probability {other.probability:.2f})")
            break
    return reasons


def _gap_reasons(decision: SpineDecision, chain: Chain) -> list[str]:
    reasons = []
    for step in chain.steps:
        if step.move is None or not step.move.silent:
            continue
        names = [LABELS[rank] for rank in step.move.silent]
        filled = all(name in decision.landmarks for name in names)
        text = ", ".join(name.name for name in names)
        how = "interpolated" if filled else "left out"
        reasons.append(f"{text} not seen in the heatmaps: {how}")
    return reasons


def _shape_reasons(decision: SpineDecision) -> list[str]:
    reasons = []
    if not USUAL_SCALE[0] <= decision.scale <= USUAL_SCALE[1]:
        reasons.append(
            f"the vertebrae are {decision.scale:.2f} times as far apart as a mean adult's"
        )
    if decision.mirrored:
        reasons.append("the spine curves as if front and back were exchanged in the header")
    return reasons


def _unexplained_reasons(chain: Chain, places: Places) -> list[str]:
    """Report bright places in the spine's course that the chain does not use."""
    used = list(chain.names)
    spine = places.positions_mm[used]
    spine = spine[np.argsort(spine[:, 2])]
    reasons = []
    for place in np.flatnonzero(places.strength > UNEXPLAINED_HEAT):
        x_mm, y_mm, z_mm = places.positions_mm[place]
        course = [np.interp(z_mm, spine[:, 2], spine[:, axis]) for axis in (0, 1)]
        aside = float(np.hypot(x_mm - course[0], y_mm - course[1]))
        beyond = max(spine[0, 2] - z_mm, z_mm - spine[-1, 2])
        if place in used or aside > COURSE_MM or beyond > BEYOND_MM:
            continue
        where = "beyond" if beyond > 0 else "within"
        point = f"({x_mm:.0f}, {y_mm:.0f}, {z_mm:.0f}) mm"
        reasons.append(f"a bright place at {point}, {where} the spine's course, is unexplained")
    return reasons
