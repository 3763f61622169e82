"""Why a person should look at a decision, in plain sentences."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from payerseg.domain.levels import S1_RANK
from payerseg.domain.vertebra import Region, Vertebra
from payerseg.postprocess.chain_model import LABELS
from payerseg.postprocess.chain_search import Chain
from payerseg.postprocess.decision import SpineDecision
from payerseg.postprocess.level_evidence import LevelEvidence
from payerseg.postprocess.places import Places

USUAL_SCALE = (0.75, 1.2)
"""Sizes of adults and schoolchildren; others are worth a remark."""
SMALL_SCALE = 0.68
"""Scans shrunk to 0.6 are named right in 6 of 15, those shrunk to 0.75 in 12 (docs/accuracy.md)."""
UNEXPLAINED_HEAT = 0.8
"""Fainter places beside or beyond the chain are second peaks at a named vertebra, or at one that the
scan's face cuts: on training scans they were as common in right results as in wrong ones."""
COURSE_MM = 25.0
"""A place this far from the line through the named centres cannot be a vertebra of theirs."""
OWN_PART, OWN_MM = 0.4, 10.0
"""Nearer to a named centre than this part of the way to the next one (or, where it stands alone, this far)
is a second peak at the same vertebra: seen at 0.24-0.36; vertebrae crushed to 55 % have peaks at 0.46."""
BEYOND_MM = 80.0
"""Two lumbar steps: further away a bright place says nothing about the chain."""
VARIANTS = ("T13", "L6")
SURE = 0.9
"""From here on an answer of the level network is stated as an anchor."""


def review_reasons(
    decision: SpineDecision, chain: Chain, places: Places, evidence: LevelEvidence | None
) -> SpineDecision:
    """Return the decision with further reasons for a review: what a person can act on.

    Args:
        decision: with those that are known already.
        chain: what was chosen.
        places: all that could have been chosen.
        evidence: of the level network at the places.
    """
    reasons = [
        *decision.reasons,
        *_level_reasons(decision),
        *_variant_reasons(chain),
        *_gap_reasons(decision, chain),
        *(_conflict_reasons(chain, evidence) if evidence is not None else ()),
        *_shape_reasons(decision),
        *_unexplained_reasons(chain, places, evidence),
    ]
    return replace(decision, reasons=tuple(reasons), remarks=_remarks(decision))


def named_range(labels: tuple[str, ...]) -> str:
    """Return "T6-T9" for a labelling; what does not follow in the usual order is named."""
    ends = labels[0] if len(labels) == 1 else f"{labels[0]}-{labels[-1]}"
    rare = [name for name in VARIANTS if name in labels]
    rare += ["no T12"] if {"T11", "L1"} <= set(labels) and "T12" not in labels else []
    rare += ["no C7"] if {"C6", "T1"} <= set(labels) and "C7" not in labels else []
    return f"{ends} ({', '.join(rare)})" if rare and ends not in rare else ends


def range_labels(stated: str) -> tuple[str, ...]:
    """Return the labelling that `named_range` states as `stated`.

    Raises:
        KeyError: a name that is no vertebra's.
    """
    ends, _, rare = stated.removesuffix(")").partition(" (")
    first, last = (Vertebra[name] for name in (ends.split("-") * 2)[:2])
    odd = rare.split(", ") if rare else []
    absent = {word.removeprefix("no ") for word in odd if word.startswith("no ")}
    absent |= {name for name in VARIANTS if name not in (*odd, first.name, last.name)}
    between = sorted(
        (v for v in Vertebra if first.rank <= v.rank <= last.rank), key=lambda v: v.rank
    )
    return tuple(v.name for v in between if v.name not in absent)


def stated_anchors(chain: Chain, evidence: LevelEvidence) -> tuple[str, ...]:
    """Say what fixes the level of a chain: dens, first and last rib, sacrum."""
    place_of = {LABELS[step.rank].name: step.place for step in chain.steps}
    anchors = []
    if "C2" in place_of and evidence.level[place_of["C2"], Vertebra.C2.rank] > SURE:
        anchors.append("the dens is seen at C2")
    names = [LABELS[step.rank].name for step in chain.steps]
    for upper, lower in pairwise(names):
        first = (upper, lower) == ("C7", "T1")
        if not first and not (upper[0] == "T" and lower == "L1"):
            continue
        ribbed, bare = (lower, upper) if first else (upper, lower)
        if _ribs(evidence, place_of[ribbed]) == 1 and _ribs(evidence, place_of[bare]) == 0:
            which = "first" if first else "last"
            anchors.append(f"the {which} ribs are seen at {ribbed} left and right, none at {bare}")
    last = LABELS[chain.steps[-1].rank]
    if last.name[0] == "L" and evidence.sacrum[chain.steps[-1].place] > SURE:
        anchors.append(f"the sacrum follows {last.name}")
    return tuple(anchors)


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


def _level_reasons(decision: SpineDecision) -> list[str]:
    if len(decision.level_set) < 2:
        return []
    texts = [f"{name} ({share:.2f})" for name, share in decision.level_set.items()]
    return [f"the level is uncertain: {' or '.join(texts)}"]


def _variant_reasons(chain: Chain) -> list[str]:
    """Name rare anatomy that was chosen."""
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
    if decision.mirrored:
        reasons.append("the spine curves as if front and back were exchanged in the header")
    if decision.scale < SMALL_SCALE:
        reasons.append(
            f"the vertebrae are {decision.scale:.2f} times as far apart as a mean adult's: names of "
            "children this small are often wrong"
        )
    return reasons


def _remarks(decision: SpineDecision) -> tuple[str, ...]:
    if USUAL_SCALE[0] <= decision.scale <= USUAL_SCALE[1] or decision.scale < SMALL_SCALE:
        return ()
    return (f"the vertebrae are {decision.scale:.2f} times as far apart as a mean adult's",)


def _unexplained_reasons(chain: Chain, places: Places, evidence: LevelEvidence | None) -> list[str]:
    """Report bright places in the spine's course that the chain does not use.

    Where the level network was asked, only what it takes for a vertebra too, and not for the sacrum.
    """
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
        if _is_second_peak(places.positions_mm[place], spine):
            continue
        if evidence is not None and not _is_whole_vertebra(evidence, place):
            continue
        where = "beyond" if beyond > 0 else "within"
        point = f"({x_mm:.0f}, {y_mm:.0f}, {z_mm:.0f}) mm"
        reasons.append(f"a bright place at {point}, {where} the spine's course, is unexplained")
    return reasons


def _is_second_peak(point_mm: np.ndarray, spine_mm: np.ndarray) -> bool:
    """Tell whether a place belongs to a named vertebra."""
    away = np.linalg.norm(spine_mm - point_mm, axis=1)
    own = int(away.argmin())
    others = np.linalg.norm(np.delete(spine_mm, own, axis=0) - spine_mm[own], axis=1)
    reach = OWN_PART * float(others.min()) if len(others) else OWN_MM
    return float(away[own]) < reach


def _ribs(evidence: LevelEvidence, place: int) -> int | None:
    """Return 1 where both sides surely carry a rib, 0 where both surely do not, None otherwise."""
    left, right = evidence.ribs[place]
    if min(left, right) > SURE:
        return 1
    return 0 if max(left, right) < 1 - SURE else None


def _conflict_reasons(chain: Chain, evidence: LevelEvidence) -> list[str]:
    """Report what is surely seen and does not fit the chosen names."""
    reasons = []
    for step, below in zip(chain.steps, (*chain.steps[1:], None), strict=True):
        name, place = LABELS[step.rank].name, step.place
        ribs, thoracic = _ribs(evidence, place), LABELS[step.rank].region is Region.THORACIC
        if ribs == 1 and not thoracic:
            reasons.append(f"ribs are seen at {name}: a rare rib there, or the level is off")
        if ribs == 0 and thoracic:
            reasons.append(f"no rib is seen at {name}: it is missing there, or the level is off")
        if evidence.level[place, S1_RANK] > SURE:
            reasons.append(f"{name} looks like the sacrum: transitional, or the level is off")
        elif below is not None and evidence.sacrum[place] > SURE:
            reasons.append(f"the sacrum seems to follow {name}, but {LABELS[below.rank].name} does")
    last = chain.steps[-1]
    if evidence.sacrum[last.place] > SURE and LABELS[last.rank] not in (Vertebra.L5, Vertebra.L6):
        reasons.append(
            f"the sacrum follows {LABELS[last.rank].name}: L5 is absent, or the level is off"
        )
    return reasons


def _is_whole_vertebra(evidence: LevelEvidence, place: int) -> bool:
    """Tell whether the level network takes a place for a vertebra that no face cuts."""
    sacrum = evidence.level[place, S1_RANK]
    return bool(min(evidence.vertebra[place], evidence.whole[place], 1 - sacrum) > 0.5)
