"""What is suspicious about masks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from payerseg.domain.vertebra import Vertebra
from payerseg.report.case_facts import CaseFacts
from payerseg.report.findings import Finding, Severity
from payerseg.report.mask_facts import MaskFacts

# Typical volumes, ml, arch and processes included: medians of 17 training spines (118 cervical, 63
# thoracic, 57 lumbar masks of VerSe, TotalSegmentator and atlases) after every spine was scaled to one
# size. What remains within one spine is 5-12 % (C1 22 %).
TYPICAL_ML = {
    "C1": 15.8, "C2": 19.1, "C3": 12.6, "C4": 12.3, "C5": 12.8, "C6": 13.9, "C7": 17.4,
    "T1": 22.3, "T2": 23.1, "T3": 22.5, "T4": 23.1, "T5": 25.4, "T6": 27.4, "T7": 29.8, "T8": 31.6,
    "T9": 34.9, "T10": 37.1, "T11": 40.5, "T12": 46.7, "T13": 49.0,
    "L1": 51.4, "L2": 58.5, "L3": 63.1, "L4": 65.0, "L5": 65.0, "L6": 65.0,
}  # fmt: skip
MIN_VERTEBRAE_FOR_SIZE = 3
USUAL_SIZES = (0.55, 1.6)
"""Of a whole person against the typical one; small children and giants lie beyond."""
SIZE_WARNING, SIZE_REVIEW = 1.45, 1.8
"""Volume over (or under) the expected one."""
OFF_LANDMARK_MM = 3.0
C1_OFF_LANDMARK_MM = 20.0
"""C1's centre is that of the dens, inside the ring, not in C1's bone."""
FRAGMENT_ML, FRAGMENT_SHARE = 0.5, 0.05
AIR_SHARE = 0.04
MIRROR_OVERLAP = 0.80
"""Masks of people and of good methods have 0.88 and more."""
METAL_ML = 0.15
"""A handful of dense voxels is calcium."""
MAY_HOLD_DENS = (Vertebra.C2, Vertebra.C1)
"""C1's centre lies in the dens of C2: that is how it is defined."""


def mask_findings(facts: CaseFacts, masks: Mapping[Vertebra, MaskFacts]) -> Iterator[Finding]:
    """Yield what is suspicious about the masks of a case.

    Args:
        facts: of the case.
        masks: of the vertebrae that have a mask.
    """
    own = [*_empty(facts, masks), *_sizes(masks)]
    for vertebra, mask in masks.items():
        own += _off_landmark(vertebra, mask)
        own += _leaks(vertebra, mask)
        own += _fragments(vertebra, mask)
        own += _asymmetry(vertebra, mask)
    told = {name for finding in own for name in finding.levels if finding.severity == "review"}
    yield from own
    yield from _told_by_segmentation(facts.mask_report, told)
    yield from _metal(masks)
    yield from _borders(masks)


def _empty(facts: CaseFacts, masks: Mapping[Vertebra, MaskFacts]) -> Iterator[Finding]:
    for vertebra in facts.landmarks:
        if vertebra not in masks:
            message = f"{vertebra.name} was found but its mask is empty."
            yield Finding("empty_mask", Severity.REVIEW, message, (vertebra.name,))
    for vertebra in masks:
        if vertebra not in facts.landmarks:
            message = f"{vertebra.name} has a mask but no centre in landmarks.csv."
            yield Finding("off_landmark", Severity.REVIEW, message, (vertebra.name,))


def _off_landmark(vertebra: Vertebra, mask: MaskFacts) -> Iterator[Finding]:
    distance = mask.landmark_distance_mm
    limit = C1_OFF_LANDMARK_MM if vertebra is Vertebra.C1 else OFF_LANDMARK_MM
    if distance is not None and distance > limit:
        message = (
            f"The mask of {vertebra.name} does not contain its centre: {distance:.0f} mm away."
        )
        # of a cut vertebra the part that holds the centre may lie outside
        severity = Severity.WARNING if mask.at_border else Severity.REVIEW
        yield Finding("off_landmark", severity, message, (vertebra.name,))


def _leaks(vertebra: Vertebra, mask: MaskFacts) -> Iterator[Finding]:
    foreign = [
        name
        for name in mask.foreign_centers
        if not {vertebra, Vertebra[name]} <= set(MAY_HOLD_DENS)
    ]
    if foreign:
        message = f"The mask of {vertebra.name} reaches over the centre of {', '.join(foreign)}."
        yield Finding("leak", Severity.REVIEW, message, (vertebra.name, *foreign))
    if mask.air_share > AIR_SHARE:
        message = f"{mask.air_share:.0%} of the mask of {vertebra.name} lie in air or lung."
        yield Finding("leak", Severity.REVIEW, message, (vertebra.name,))


def _fragments(vertebra: Vertebra, mask: MaskFacts) -> Iterator[Finding]:
    apart = [piece for piece in mask.pieces_ml[1:] if piece >= FRAGMENT_ML]
    if not apart:
        return
    total = sum(apart)
    severe = total > FRAGMENT_SHARE * mask.volume_ml and not mask.at_border
    message = (
        f"The mask of {vertebra.name} is in {len(apart) + 1} pieces; "
        f"{total:.1f} ml lie apart from the largest."
    )
    severity = Severity.REVIEW if severe else Severity.WARNING
    yield Finding("fragments", severity, message, (vertebra.name,))


def _asymmetry(vertebra: Vertebra, mask: MaskFacts) -> Iterator[Finding]:
    if mask.mirror_overlap < MIRROR_OVERLAP and not mask.at_border:
        message = (
            f"Left and right of {vertebra.name} differ: its mirror image covers only "
            f"{mask.mirror_overlap:.0%} of the mask."
        )
        yield Finding("asymmetry", Severity.WARNING, message, (vertebra.name,))


def _sizes(masks: Mapping[Vertebra, MaskFacts]) -> Iterator[Finding]:
    """Compare volumes with the typical ones at this person's size; cut vertebrae do not count."""
    ratios = {
        vertebra: mask.volume_ml / TYPICAL_ML[vertebra.name]
        for vertebra, mask in masks.items()
        if not mask.at_border
    }
    if not ratios:
        return
    median = float(np.median(list(ratios.values())))
    if not USUAL_SIZES[0] <= median <= USUAL_SIZES[1]:
        message = f"All vertebrae together have {median:.2f} times the volume of an adult's."
        yield Finding("size", Severity.WARNING, message)
    size = median if len(ratios) >= MIN_VERTEBRAE_FOR_SIZE else 1.0
    for vertebra, ratio in ratios.items():
        factor = max(ratio / size, size / ratio)
        if factor < SIZE_WARNING:
            continue
        severity = Severity.REVIEW if factor >= SIZE_REVIEW else Severity.WARNING
        usual = TYPICAL_ML[vertebra.name] * size
        message = (
            f"{vertebra.name} has {masks[vertebra].volume_ml:.1f} ml; "
            f"about {usual:.0f} ml fit its neighbours."
        )
        yield Finding("size", severity, message, (vertebra.name,))


def _told_by_segmentation(report: Any, told: Collection[str]) -> Iterator[Finding]:
    """Pass on the problems that stage 3 saw, of vertebrae that nothing else was said about."""
    for name, entry in (report or {}).items():
        problems = entry.get("problems", ())
        if problems and name not in told:
            message = f"The segmentation says of {name}: {'; '.join(problems)}."
            yield Finding("segmentation", Severity.REVIEW, message, (name,))
        if remarks := entry.get("remarks", ()):
            message = f"The segmentation notes of {name}: {'; '.join(remarks)}."
            yield Finding("segmentation", Severity.INFO, message, (name,))


def _metal(masks: Mapping[Vertebra, MaskFacts]) -> Iterator[Finding]:
    names = [v.name for v, mask in masks.items() if mask.metal_ml > METAL_ML]
    if names:
        message = f"Metal or cement at {_listed(names)}: HU and borders there are not reliable."
        yield Finding("metal", Severity.WARNING, message, tuple(names))


def _borders(masks: Mapping[Vertebra, MaskFacts]) -> Iterator[Finding]:
    names = [v.name for v, mask in masks.items() if mask.at_border]
    if names:
        verb = "is" if len(names) == 1 else "are"
        message = f"{_listed(names)} {verb} cut by the edge of the scan and not measured whole."
        yield Finding("border", Severity.INFO, message, tuple(names))


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
