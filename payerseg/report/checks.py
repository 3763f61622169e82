"""Look for what is suspicious without knowing the truth: names, places, distances; masks in mask_checks.

Limits were set on label maps of people and of good methods, so that right results stay silent
(docs/report.md has the numbers).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.postprocess.spine_graph import SpinePrior
from payerseg.report.case_facts import CaseFacts, Finding, Severity, in_order
from payerseg.report.mask_checks import MaskFacts, mask_findings
from payerseg.report.scan_checks import scan_findings

CLOSE, FAR = 0.62, 1.45
"""Distance of two neighbours over the expected one; beyond, a level is doubled or skipped."""
SEVERAL = 3
UNEXPLAINED = "a bright place at"
"""How stage 2 begins these reasons; in a confused scan there are dozens, one line tells them all."""
OPTIONAL = (Vertebra.T13, Vertebra.L6)
MIN_DISTANCES_FOR_SIZE = 3


def check_case(facts: CaseFacts, masks: dict[Vertebra, MaskFacts]) -> tuple[Finding, ...]:
    """Return every finding of a case, the most urgent first."""
    return in_order(
        [
            *_naming(facts),
            *_level(facts),
            *_gaps(facts.landmarks),
            *_distances(facts.landmarks),
            *_order(facts.landmarks),
            *_outside(facts),
            *mask_findings(facts, masks),
            *_edits(facts),
            *_corrected_masks(facts),
            *scan_findings(facts.ct, facts.landmarks, facts.scan.hu_window),
            *_scan_notes(facts),
        ]
    )


def distances_mm(landmarks: Landmarks) -> dict[Vertebra, float]:
    """Return for every vertebra the distance to the next lower one that was found."""
    marks = list(landmarks.values())
    return {
        upper.vertebra: float(np.linalg.norm(np.subtract(upper.position_mm, lower.position_mm)))
        for upper, lower in pairwise(marks)
    }


def _naming(facts: CaseFacts) -> Iterator[Finding]:
    """Pass on why stage 2 wants a person to look."""
    places = [reason for reason in facts.doubts if reason.startswith(UNEXPLAINED)]
    for reason in [reason for reason in facts.doubts if reason not in places] + places[:1]:
        more = f" So are {len(places) - 1} more." if reason in places and len(places) > 1 else ""
        yield Finding("naming", Severity.REVIEW, _sentence(reason) + more)


def _level(facts: CaseFacts) -> Iterator[Finding]:
    """Say what the level rests on, and what else stage 2 noticed; nothing once a person has edited it."""
    if facts.edits():
        return
    anchors = facts.decision.get("anchors", ())
    if anchors:
        yield Finding("level", Severity.INFO, f"The level is anchored: {'; '.join(anchors)}.")
    for remark in facts.decision.get("remarks", ()):
        yield Finding("level", Severity.INFO, _sentence(remark))


def _gaps(landmarks: Landmarks) -> Iterator[Finding]:
    for upper, lower in pairwise(landmarks):
        between = [
            v.name for v in Vertebra if upper.rank < v.rank < lower.rank and v not in OPTIONAL
        ]
        if between:
            what = ", ".join(between)
            verb = "is" if len(between) == 1 else "are"
            message = f"{what} {verb} missing between {upper.name} and {lower.name}."
            yield Finding("gap", Severity.REVIEW, message, (upper.name, lower.name))


def _distances(landmarks: Landmarks) -> Iterator[Finding]:
    """Compare distances of direct neighbours with the expected ones, at this person's size."""
    expected = {(edge.upper, edge.lower): edge.distance_mm for edge in SpinePrior.default().edges}
    found = distances_mm(landmarks)
    pairs = [pair for pair in pairwise(landmarks) if pair in expected]
    ratios = {pair: found[pair[0]] / expected[pair] for pair in pairs}
    enough = len(ratios) >= MIN_DISTANCES_FOR_SIZE
    size = float(np.median(list(ratios.values()))) if enough else 1.0
    for (upper, lower), ratio in ratios.items():
        part, names = ratio / size, (upper.name, lower.name)
        wanted = expected[upper, lower] * size
        measured = f"The centres of {upper.name} and {lower.name} are {found[upper]:.0f} mm apart"
        if part < CLOSE:
            text = f"{measured}, about {wanted:.0f} mm are usual here: one vertebra named twice?"
            yield Finding("doubled_level", Severity.REVIEW, text, names)
        elif part > FAR:
            text = f"{measured}, about {wanted:.0f} mm are usual here: a vertebra skipped?"
            yield Finding("wide_spacing", Severity.REVIEW, text, names)


def _order(landmarks: Landmarks) -> Iterator[Finding]:
    """Find a centre that lies above the one before it, along the line of its neighbours."""
    marks = list(landmarks.values())
    for upper, lower in pairwise(marks):
        if lower.position_mm[2] > upper.position_mm[2]:
            names = (upper.vertebra.name, lower.vertebra.name)
            message = f"{names[1]} lies above {names[0]} in the patient."
            yield Finding("order", Severity.REVIEW, message, names)


def _outside(facts: CaseFacts) -> Iterator[Finding]:
    for vertebra, mark in facts.landmarks.items():
        if not facts.ct.grid.contains(np.array([mark.position_mm]))[0]:
            message = f"The centre of {vertebra.name} lies outside the scan."
            yield Finding("outside_scan", Severity.REVIEW, message, (vertebra.name,))


def _edits(facts: CaseFacts) -> Iterator[Finding]:
    edits = facts.edits()
    if edits:
        several = f" and {len(edits) - SEVERAL} more" if len(edits) > SEVERAL else ""
        message = f"A person edited landmarks.csv: {', '.join(edits[:SEVERAL])}{several}."
        if facts.decision.get("reasons"):
            message += " Doubts about the names before are not repeated."
        levels = tuple(edit.split()[0] for edit in edits)
        yield Finding("edited", Severity.INFO, message, levels)


def _corrected_masks(facts: CaseFacts) -> Iterator[Finding]:
    """Say which masks a person corrected, as stage 3's account knows."""
    names = [name for name, entry in (facts.mask_report or {}).items() if entry.get("by_hand")]
    if names:
        message = f"A person corrected the masks of {', '.join(names)}."
        yield Finding("edited", Severity.INFO, message, tuple(names))


def _scan_notes(facts: CaseFacts) -> Iterator[Finding]:
    for note in facts.scan.notes:
        severity = Severity.REVIEW if note.review else Severity.INFO
        yield Finding("scan", severity, _sentence(note.message))


def _sentence(text: str) -> str:
    """Begin large, end with a full stop."""
    text = text.strip()
    first = text.split(" ", 1)[0]
    if first.islower():  # "T12 is absent", "iPhone" stay as they are
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."
